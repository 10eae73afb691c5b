// Four lamps: a word, a shape and a colour each, with the age against its own usual interval.
import { $, say, svg } from "./dom.js";
import { span } from "./words.js";

const UNUSUAL_S = 120;
const SHAPES = {
  well: { word: "well", colour: "var(--good)", draw: () => svg("circle", { cx: 20, cy: 20, r: 13, fill: "var(--good)" }) },
  late: { word: "late", colour: "var(--wait)", draw: () => svg("path", { d: "M20 5 L36 34 L4 34 Z", fill: "var(--wait)" }) },
  gone: { word: "stalled", colour: "var(--bad)", draw: () => svg("path", { d: "M8 8 L32 32 M32 8 L8 32", stroke: "var(--bad)", "stroke-width": 7, "stroke-linecap": "round" }) },
  none: { word: "silent", colour: "var(--quiet)", draw: () => svg("circle", { cx: 20, cy: 20, r: 12, fill: "none", stroke: "var(--quiet)", "stroke-width": 4, "stroke-dasharray": "5 5" }) },
};

export function setLamp(name, title, state, ageS, usualS) {
  const lamp = $(`lamp-${name}`), shape = SHAPES[state] || SHAPES.none;
  if (lamp.dataset.state !== state || !lamp.firstChild) {
    lamp.dataset.state = state;
    const picture = svg("svg", { viewBox: "0 0 40 40", "aria-hidden": "true" }, shape.draw());
    const words = document.createElement("span");
    const small = document.createElement("small"), usual = document.createElement("span");
    usual.className = "usual";
    small.append(document.createElement("span"), usual);
    words.append(document.createElement("b"), small);
    lamp.replaceChildren(picture, words);
  }
  const [word, age, usual] = lamp.querySelectorAll("b, small > span");
  word.style.color = shape.colour;
  say(word, `${title} ${shape.word}`);
  const isHeard = ageS !== null && ageS !== undefined;
  say(age, isHeard ? `${span(ageS)} ago` : "no sign yet");
  say(usual, isHeard && usualS ? `, usually ${span(usualS)}` : "");
}

export function stateOf(clock) {
  if (!clock || clock.age_s === null || clock.age_s === undefined) return "none";
  if (clock.state === "stalled") return "gone";
  if (!clock.usual_s && clock.age_s > UNUSUAL_S) return "none"; // nobody knows yet whether that is late, and well it is not
  return clock.usual_s && clock.age_s > 2 * clock.usual_s + 5 ? "late" : "well";
}
