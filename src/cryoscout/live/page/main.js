// The page: one advice in, everything shown from it. Loaded once; every later change comes over the socket.
import { Api, Link } from "./api.js";
import { drawFan, drawStrip } from "./charts.js";
import { decoded, holesOf, scoresOf } from "./columns.js";
import { $, button, el, say } from "./dom.js";
import { setLamp, stateOf } from "./lamps.js";
import { HoleMap, SAID, STATE } from "./map.js";
import { MessageLine } from "./message.js";
import { css, DIFFERENCE, ONE_SIDED } from "./palette.js";
import { Notes, showHelp, showHistory, showNext, showSquares, showTrust } from "./panels.js";
import { ModePanel } from "./mode.js";
import { Tryout } from "./tryout.js";
import { clock, minutes, nearest, percent, scoreWords, shared, short, span, time, whole, zone } from "./words.js";
import { lastToUndo, Writes } from "./writes.js";

const FEW_RESULTS = 30, STALE_S = 180; // an advice is made each minute
const SLOW_MS = 3000, AGAIN_MS = 3000, AWAY_MS = 60000;
const ALWAYS = "p_good,state,flags,order", ONCE = "x,y,square,patch,prediction,image,ctf";
const LAYERS = [["predicted", "1"], ["measured", "2"], ["difference", "3"], ["order", "4"]];
const TABS = [["next", "Next"], ["squares", "Squares"], ["history", "History"], ["trust", "Trust"], ["notes", "Notes"], ["try", "Try"]];
const DRAWERS = { help: "help-button", messages: "message-more", mode: "mode" }; // panels that a button of their own opens and closes

const api = new Api(), messages = new MessageLine(), now = { advice: null, session: null, ids: null, squares: [], actions: [], forecast: null, spent: null, health: null, holes: null, scores: {} };
window.cryoscout = { now, api, frames: () => map.frameTimes, get shownRevision() { return now.shown; }, get map() { return map; } };
const writes = new Writes(api, (told) => messages.tell(told));
writes.shown = () => (now.advice ? now.advice.revision : 0);
writes.answered = () => messages.answered();
writes.author = () => $("author").value.trim();
writes.ended = ended;
writes.asks = () => writes.ask((yes, no) => [button("Send", yes), button("Discard", no)]);
writes.recorded = (said) => { if (said.what === "note") notes.took(said.body.text); if (said.what === "mode") readMode(); };
const map = new HoleMap($("map"), $("overview"), (what, picked) => { if (what === "moved") showFollow(); if (what === "selected") showSelected(picked); });
const tryout = new Tryout(api, writes, () => placeOf(map.selected));
const IN_PAST = "This is the past: move the slider to now before changing anything.";
const modePanel = new ModePanel((body) => (api.asOf ? { sentence: IN_PAST } : writes.mode(body)));
const notes = new Notes(async (body) => { const sent = await writes.note(body); if (sent.ok) readSaid(); return sent; });

// --- reading -------------------------------------------------------------------------------------

let reading = null, again = false, readingSince = 0, retry = null;
let asked = 0; // another number for each session and time that is asked for
// Reads what depends on the advice; a second wish while one runs is one more reading, not many.
function refresh(advice) {
  if (advice) now.advice = advice;
  if (reading) { again = true; return reading; }
  clearTimeout(retry); readingSince = clock.nowMs();
  reading = read().catch(failed).finally(() => { reading = null; if (again) { again = false; refresh(); } showReading(); });
  showReading();
  return reading;
}
function failed(error) {
  if (error.name === "AbortError") return; // something else was asked for
  if (error.status === 401) ended();
  else if (error.status) { now.refused = asked; messages.set("read", `The server says: ${error.message}`, "warn"); }
  else if (!/fetch/i.test(error.message)) console.error(error); // a lost connection is the link's word
  else retry = setTimeout(() => { if (link.isUp) refresh(); }, AGAIN_MS);
}

// What is asked for is another session or another time: what is on its way is of what was shown before.
function ask() { asked += 1; api.drop(); now.advice = null; slowTookMs = 0; return refresh(); }

// What the page waits for, where nothing of it is shown yet or it takes long. The time stands still, for who listens to it.
function showReading() {
  const isOther = now.shownOf !== asked && now.refused !== asked, tookMs = reading ? clock.nowMs() - readingSince : 0;
  const slow = tookMs > SLOW_MS ? ` since ${time(readingSince, true)}: the network or the server is slow` : "";
  const what = api.asOf ? `the state as of ${time(api.asOf)}` : api.session ? `session ${api.session}` : "the session";
  document.body.dataset.other = String(Boolean(now.shownOf !== asked && now.shown));
  messages.set("reading", isOther ? `Reading ${what}${slow}.${now.shown ? " What stands here is of before." : ""}` : null, slow ? "warn" : "fine");
  messages.set("slow", !isOther && slow ? `What is new is read${slow}.` : null);
}

async function read() {
  const of = asked;
  const isNew = !now.ids || now.ids.run_id !== (now.advice && now.advice.run_id);
  if (!now.advice || api.asOf || isNew) { const advice = await api.get("advice"); if (of !== asked) return; now.advice = advice; }
  const isOther = !now.holes || isNew || now.holes.key !== now.advice.run_id || now.readAsOf !== api.asOf;
  const fields = isOther ? `${ALWAYS},${ONCE}` : ALWAYS;
  const [answer, squares] = await Promise.all([api.get("holes/columns", { fields }), api.get("squares")]);
  if (of !== asked) return;
  if (isOther || answer.n !== now.holes.n || squares.squares.length !== now.ids.squares.length) {
    if (!isOther) { now.holes = null; return read(); } // holes came or went: places too
    const ids = await api.get("holes/ids"), picked = selectedNames();
    if (of !== asked) return;
    now.ids = ids; now.readAsOf = api.asOf;
    now.place = new Map(now.ids.holes.map((name, i) => [name, i]));
    selectAgain(picked);
  }
  now.squares = squares.squares;
  if (isOther) now.scores = {};
  now.holes = { ...holesOf(answer, now.squares, now.holes), scores: now.scores };
  messages.set("read", null); messages.set("key", null);
  showAll();
  now.shown = answer.revision; now.shownOf = of;
  readSlowly();
}

// Numbers of holes and squares change with what is known: what is selected is told by its names.
function selectedNames() { const picked = map.selected; return picked && now.ids ? { hole: picked.hole >= 0 ? now.ids.holes[picked.hole] : null, square: now.ids.squares[picked.square] } : null; }
function selectAgain(names) {
  if (!names) return;
  const square = now.ids.squares.indexOf(names.square), hole = names.hole === null ? -1 : now.place.get(names.hole);
  map.selected = square < 0 || hole === undefined ? null : { hole, square };
  $("selected-buttons").dataset.of = "";
  if (!map.selected) showSelected(null);
}

// What people said is shown at once to the one who said it, however slow the rest is.
async function readSaid() {
  const of = asked, actions = await api.get("actions").catch(() => null);
  if (actions && of === asked) { showSaid(actions); showOwnHistory(); }
}
function showSaid(actions) { now.actions = actions.actions.slice().reverse(); notes.show(actions.notes || []); }
function showOwnHistory() { showHistory(now.actions, sinceLeft(), (action) => writes.undo(action).then(() => { refresh(); readSaid(); }), writes.mayWrite && !api.asOf); }

async function readMode() {
  const of = asked, session = await api.get("session").catch(() => null);
  if (session && of === asked) { now.session = session; modePanel.show(session, writes.mayWrite); }
}

let slow = null, slowEndedAt = 0, slowTookMs = 0;
// What need not be there at once. It waits four times as long as it took last: a large session answers results first.
function readSlowly() {
  clearTimeout(slow);
  const rest = slowEndedAt + 4 * slowTookMs - performance.now();
  slow = setTimeout(async () => {
    const began = performance.now(), of = asked;
    const quietly = (promise) => promise.catch(() => null);
    const wanted = ["session", "forecast", "time", "trust", "actions", "message", "health", ...(now.areSeveral && !api.asOf ? ["advice"] : [])];
    const [session, forecast, spent, trust, actions, message, health, others] = await Promise.all(wanted.map((what) => quietly(api.get(what))));
    if (of !== asked) return;
    if (others && now.advice) { now.advice.other_sessions = others.other_sessions; tryout.others(others.other_sessions); }
    if (session) { now.session = session; writes.mayWrite = session.role !== "viewer"; await readScore(); }
    if (forecast) now.forecast = forecast;
    if (spent) now.spent = spent;
    if (actions) showSaid(actions);
    if (trust) now.facts = trust;
    if (trust) showTrust({ ...trust, trust: trust.tenths, waiting: now.advice ? now.advice.pending : 0 });
    if (message) messages.fromServer(message);
    if (health) { now.health = health; now.healthAt = clock.nowMs(); awake(); }
    slowEndedAt = performance.now(); slowTookMs = slowEndedAt - began;
    showSlow();
  }, Math.max(120, rest));
}

// The column of the layer that is shown, where it is what sources say of the images.
async function readScore() {
  const holes = now.holes, name = map.layer, of = asked;
  if (!holes || !now.session || !(now.session.scores || []).includes(name)) return;
  const answer = await api.get("holes/columns", { fields: name }).catch(() => null);
  if (!answer || of !== asked || !now.holes || answer.n !== now.holes.n) return;
  Object.assign(now.scores, scoresOf({ [name]: decoded(answer.columns[name]) }, answer.n));
  now.holes.scores = now.scores;
  map.draw(); showLayers();
}

// --- showing -------------------------------------------------------------------------------------

function showAll() {
  const { advice, holes } = now, verdict = advice.verdict;
  say($("verb"), verdict.verb);
  const place = short(verdict.place, shared(now.squares.map((each) => each.square)));
  say($("kind"), /^\d/.test(place) && verdict.verb !== "CHANGE GRID" ? "square" : "");
  say($("place-name"), place);
  $("place").title = verdict.sentence;
  // The minutes of LEAVE are those in the next place, which is not the one that stands here.
  say($("stay"), verdict.verb === "LEAVE" ? "now" : verdict.minutes > 0 ? `about ${minutes(verdict.minutes)}` : "");
  showGoal();
  document.title = `${verdict.verb} ${verdict.place} – cryoscout`;
  map.setHoles(holes);
  const places = advice.holes.map((hole) => now.place.get(hole.hole)).filter((i) => i !== undefined);
  map.setNext(places, Math.min(advice.committed, places.length));
  const ahead = places.length ? holes.square[places[0]] : lookSquare();
  if (map.following && ahead >= 0 && now.followed !== ahead) { now.followed = ahead; map.showSquare(ahead); }
  const isEmpty = !holes.n && !holes.unseen.length;
  $("map-empty").hidden = !isEmpty;
  say($("map-empty"), isEmpty ? "No hole is known yet. They appear as the session's files come." : "");
  showNext(advice, goTo);
  if (!$("tab-squares").hidden) showSquares(now.squares, goToSquare);
  tryout.microscopeAt = advice.microscope_at;
  tryout.others(advice.other_sessions);
  showSelected(map.selected, true);
  pageStates();
}

// Index of the square that is to be looked into next; -1 where a hole comes first.
function lookSquare() { const look = now.advice && now.advice.looks[0]; return look && now.ids ? now.ids.squares.indexOf(look.square) : -1; }

function showGoal() {
  const { advice } = now, target = advice.target, [low, high] = advice.interval_80;
  if (target) {
    say($("goal-number"), `${whole(advice.good_so_far)} of ${whole(target.good)}`);
    say($("goal-words"), `good${target.by ? ` by ${time(target.by)}` : ""}, ${percent(target.probability)}`);
  } else {
    say($("goal-number"), whole(advice.good_so_far));
    say($("goal-words"), `good, ${whole(advice.expected_good)} expected`);
  }
  $("goal").title = `${whole(advice.expected_good)} good expected by the end, 80 %: ${whole(low)}–${whole(high)}`;
}

// States that the page can tell by itself; each is one sentence, the worst is shown.
function pageStates() {
  const { advice } = now, holes = advice.holes_imaged + advice.holes_left;
  const set = (cause, is, sentence, level = "warn") => messages.set(cause, is ? sentence : null, level);
  const isUnseen = advice.squares_unseen > 0;
  set("none", holes === 0 && !now.squares.length, "No data yet: waiting for the first files of the session.");
  set("unseen", holes === 0 && advice.verdict.verb === "LOOK", `No hole is seen yet: ${now.squares.length} squares are known, and a look into one shows its holes.`, "fine");
  set("few", advice.results > 0 && advice.results < FEW_RESULTS, `Only ${advice.results} results so far: the numbers still move a lot.`, "fine");
  set("begin", holes > 0 && advice.holes_imaged === 0, "Nothing is imaged yet: the plan rests on predictions alone.", "fine");
  set("waits", advice.pending > 0 && advice.results === 0, `Waiting for CTF: ${advice.pending} exposures have no result yet.`);
  set("paused", advice.paused, "Paused by an operator. Press k to go on.");
  set("followed", now.session && now.facts && now.facts.last_20 >= 10 && now.facts.followed_of_last_20 < 5, "The microscope does not follow the plan; it is made anew from where the microscope is.");
  const target = advice.target;
  set("met", target && advice.good_so_far >= target.good, `Target met: ${whole(advice.good_so_far)} of ${whole(target && target.good)} good.`, "fine");
  set("reach", target && advice.good_so_far < target.good && target.probability < 0.02, `The target of ${whole(target && target.good)} is out of reach: ${percent(target && target.probability)}.`);
  set("finished", holes > 0 && advice.holes_left === 0 && !isUnseen, `Finished: every hole is imaged, ${whole(advice.good_so_far)} good.`, "fine");
  set("viewer", !writes.mayWrite, "Read-only: this page may look and not write.", "fine");
  set("replay", now.session && now.session.replay, "Replay: a recorded session is played, not a microscope.");
  set("past", Boolean(api.asOf), `As of ${api.asOf ? time(api.asOf) : ""}: this is the past. Move the slider to the right end for now.`);
}

function showSlow() {
  if (now.forecast) { const words = drawFan($("fan"), now.forecast); say($("time-words"), words); $("time-words").title = words; $("fan").setAttribute("aria-label", words || "no forecast yet"); }
  if (now.spent) { const words = drawStrip($("strip"), now.spent); $("strip").setAttribute("aria-label", words); $("strip").title = words; }
  showOwnHistory();
  modePanel.show(now.session, writes.mayWrite);
  showLayers();
  showLamps();
  pageStates();
}

function showLamps() {
  const page = (performance.now() - link.heard) / 1000;
  if (wokeAt !== null && clock.nowMs() - wokeAt > LOOKS_MS) awake();
  if (wokeAt !== null) { setLamp("page", "Page", "well", page, 1); return; }
  const old = now.health && link.isUp && !api.asOf ? now.health.clocks.server.age_s + (clock.nowMs() - now.healthAt) / 1000 : 0;
  document.body.dataset.stale = String(old > STALE_S);
  messages.set("stale", old > STALE_S ? `These numbers are ${span(old)} old: no newer advice was made.` : null);
  setLamp("page", "Page", link.isUp ? "well" : link.downSince ? "gone" : "none", link.isUp || link.downSince ? page : null, 1);
  const health = now.health, passed = health ? (clock.nowMs() - now.healthAt) / 1000 : 0;
  for (const name of ["folder", "microscope", "ctf"]) {
    const clock = health ? health.clocks[name] : null, title = { folder: "Folder", microscope: "Microscope", ctf: "CTF" }[name];
    const aged = clock && clock.age_s !== null ? { ...clock, age_s: clock.age_s + (link.isUp ? passed : 0) } : clock;
    setLamp(name, title, stateOf(aged), aged ? aged.age_s : null, aged ? aged.usual_s : null);
  }
}

// Who was away, or slept with this computer, is told what came; the page looks at that before it calls anything old.
const LOOKS_MS = 10000;
let leftAt = null, away = null, wokeAt = null;
document.addEventListener("visibilitychange", () => { if (document.hidden) leftAt = { at: clock.nowMs(), advice: now.advice }; });
function woke(since) {
  const left = leftAt || (since === null ? null : { at: since, advice: now.advice });
  leftAt = null;
  if (left && clock.nowMs() - left.at > AWAY_MS) {
    away = left; wokeAt = clock.nowMs();
    messages.set("awake", `Awake again: what came since ${time(left.at)} is read first.`, "fine");
    messages.set("link", null); messages.set("stale", null); document.body.dataset.stale = "false";
  }
  api.drop(); refresh();
}
function awake() { wokeAt = null; messages.set("awake", null); }
function sinceLeft() {
  if (!away || !away.advice || !now.advice) return "";
  const was = away.advice, is = now.advice, said = now.actions.filter((action) => new Date(action.at).getTime() > away.at).length;
  return `Since ${time(away.at)}: ${is.holes_imaged - was.holes_imaged} holes imaged, ${whole(is.good_so_far - was.good_so_far)} more good, ${said} actions. It was ${was.verdict.verb} ${was.verdict.place}, it is ${is.verdict.verb} ${is.verdict.place}.`;
}

// --- the map's tools -----------------------------------------------------------------------------

function showLayers() {
  const scores = (now.session && now.session.scores) || [];
  if (now.session && !LAYERS.some(([name]) => name === map.layer) && !scores.includes(map.layer)) map.setLayer("predicted"); // another session says other things
  const range = now.scores[map.layer], key = scores.join() + map.layer + (range ? `${range.low} ${range.high}` : "");
  if ($("layers").dataset.key === key) return;
  $("layers").dataset.key = key;
  $("layers").replaceChildren(...LAYERS.map(([name, digit]) => button(name === "difference" ? "meas. − pred." : scoreWords(name), () => layer(name), { role: "radio", ariaChecked: String(map.layer === name), title: `key ${digit}` })));
  // As many as sources say, in the room of one.
  $("scores").hidden = !scores.length;
  if ($("scores").dataset.of !== scores.join()) { $("scores").dataset.of = scores.join(); $("scores").replaceChildren(el("option", { value: "", text: "image: …" }), ...scores.map((name) => el("option", { value: name, text: scoreWords(name) }))); }
  $("scores").value = scores.includes(map.layer) ? map.layer : "";
  $("scores").dataset.chosen = String($("scores").value !== "");
  const swatch = (table, share) => { const canvas = el("canvas", { width: 14, height: 14 }), c = canvas.getContext("2d"); c.fillStyle = css(table, share); c.fillRect(0, 0, 14, 14); return canvas; };
  const two = map.layer === "difference", digits = (value) => Number(value.toPrecision(3)).toString();
  const words = scores.includes(map.layer) ? (range ? [`${scoreWords(map.layer)} ${digits(range.low)}`, "", digits(range.high)] : ["no value yet", "", ""]) : two ? ["worse than said", "as said", "better"] : map.layer === "order" ? ["late", "", "soon"] : map.layer === "measured" ? ["not good", "", "good"] : ["p 0", "0.5", "1"];
  $("legend").replaceChildren(...[0, 0.5, 1].filter((_, at) => words[at]).map((share) => el("span", {}, swatch(two ? DIFFERENCE : ONE_SIDED, share), words[Math.round(2 * share)])),
    el("span", { text: "◯ solid: good  ◌ broken: not good  ⋯ dotted: pending  ▨ banned  ▼ pinned  ? not looked at" }));
  map.foot = $("legend").offsetHeight + 8;
}

function layer(name) { map.setLayer(name); showLayers(); readScore().then(() => showSelected(map.selected, true)); }
$("scores").addEventListener("change", () => layer($("scores").value || "predicted"));
function showFollow() { $("follow").setAttribute("aria-pressed", String(map.following)); }
function follow() { map.following = true; now.followed = null; showFollow(); if (now.advice && now.holes) showAll(); }
function goTo(name) { const hole = now.place && now.place.get(name); if (hole === undefined) return; map.following = false; showFollow(); map.show(hole, true); map.select({ hole, square: now.holes.square[hole] }); }
function goToSquare(name) {
  const square = now.ids ? now.ids.squares.indexOf(name) : -1;
  if (!map.squareBoxes || !map.squareBoxes.has(square)) return;
  map.following = false; showFollow();
  map.showSquare(square);
  map.select({ hole: -1, square });
}

function placeOf(picked) {
  if (!now.ids) return null;
  if (!picked) return now.advice && now.advice.next ? { hole_id: now.advice.next.hole } : lookSquare() >= 0 ? { square_id: now.advice.looks[0].square } : null;
  return picked.hole >= 0 ? { hole_id: now.ids.holes[picked.hole] } : { square_id: now.ids.squares[picked.square] };
}
const nameOf = (place) => (place.hole_id ? `hole ${place.hole_id}` : `square ${place.square_id}`);

function showSelected(picked, keep) {
  const { holes, ids } = now;
  if (!picked || !ids || !holes) { if (!keep) { say($("selected-words"), "Click a hole or a square."); $("selected-buttons").replaceChildren(); $("selected-buttons").dataset.of = ""; } return; }
  if (picked.hole >= 0) {
    const i = picked.hole, ctf = holes.ctf && Number.isFinite(holes.ctf[i]) ? `, ${holes.ctf[i].toFixed(1)} Å` : "";
    const state = ["not imaged", "good", "not good", "pending"][holes.state[i]], said = ["", ", pinned", ", banned", ", skipped"][holes.said[i]];
    const score = now.scores[map.layer], value = score && Number.isFinite(score.values[i]) ? `, ${scoreWords(map.layer)} ${Number(score.values[i].toPrecision(3))}` : "";
    say($("selected-words"), `${ids.holes[i]}: p ${percent(holes.p[i])}, ${state}${ctf}${value}${said}, square ${ids.squares[picked.square]}`);
  } else {
    const row = now.squares[picked.square] || {};
    const patches = row.patches_unseen ? `${row.patches_unseen} ${row.patches_unseen === 1 ? "patch" : "patches"} not looked at yet` : "";
    const inside = [row.holes ? `${row.planned || 0} planned, ${row.free || 0} free, ${whole(row.good)} good of ${row.results || 0}` : patches ? "" : row.looked ? "a look showed no hole" : "not looked at yet", patches].filter(Boolean).join(", ");
    say($("selected-words"), `Square ${ids.squares[picked.square]}: ${row.out ? "left out" : row.advice || ""}, ${inside}`);
  }
  $("selected-words").title = $("selected-words").textContent;
  const key = `${picked.hole}/${picked.square}`;
  if ($("selected-buttons").dataset.of === key) return;
  $("selected-buttons").dataset.of = key;
  $("selected-buttons").replaceChildren(button("Pin", () => act("pin")), button("Ban", () => act("ban")), button("Skip", () => act("skip")), button("Image", () => showImage(picked)));
}

async function showImage(picked) {
  const patch = picked.hole >= 0 ? now.holes.patch[picked.hole] : -1, name = patch >= 0 ? now.ids.patches[patch] : now.ids.squares[picked.square];
  if (now.imageOf === name) { now.imageOf = null; map.setImage(null); return; }
  try {
    const answer = await fetch(api.address(`images/${encodeURIComponent(name)}`));
    if (!answer.ok) throw new Error(answer.status === 404 ? `No image is stored of ${name}.` : `The image could not be read (${answer.status}).`);
    const bitmap = await createImageBitmap(await answer.blob()), among = patch >= 0 ? now.holes.patch : now.holes.square, wanted = patch >= 0 ? patch : picked.square;
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
    for (let i = 0; i < now.holes.n; i += 1) if (among[i] === wanted) { left = Math.min(left, now.holes.x[i]); right = Math.max(right, now.holes.x[i]); low = Math.min(low, now.holes.y[i]); high = Math.max(high, now.holes.y[i]); }
    const pad = 0.5 * map.apart;
    now.imageOf = name; map.setImage({ bitmap, left: left - pad, right: right + pad, low: low - pad, high: high + pad });
  } catch (error) { messages.tell({ level: "warn", sentence: error.message }); }
}

// --- actions -------------------------------------------------------------------------------------

async function act(kind) {
  const place = placeOf(map.selected);
  if (!place) { messages.tell({ level: "warn", sentence: "There is no hole and no square to do that with yet." }); return; }
  if (api.asOf) { messages.tell({ level: "warn", sentence: IN_PAST }); return; }
  if ((await writes.override({ kind, ...place })).ok) { refresh(); readSaid(); }
}
async function skipSquare() {
  const picked = now.ids && map.selected, ahead = now.advice && (now.advice.next || now.advice.looks[0]), square = picked ? now.ids.squares[picked.square] : ahead ? ahead.square : null;
  if (square && (await writes.override({ kind: "skip", square_id: square })).ok) { refresh(); readSaid(); }
}
async function pause() { const isPaused = Boolean(now.advice && now.advice.paused); if ((await writes.override({ kind: isPaused ? "resume" : "pause" })).ok) { refresh(); readSaid(); } }
async function undoLast() {
  const last = lastToUndo(now.actions);
  if (!last) { messages.tell({ level: "warn", sentence: "There is nothing to undo." }); return; }
  if ((await writes.undo(last)).ok) { refresh(); readSaid(); }
}
function exportList() { el("a", { href: api.address("exports/next.csv").href, download: "next.csv" }).click(); messages.tell({ level: "fine", sentence: "The next holes are saved as next.csv by the browser." }); }

function find(text) {
  if (!now.ids) { messages.tell({ level: "warn", sentence: "The names of holes and squares are not read yet." }); return; }
  const found = nearest(text, now.ids.holes, 1)[0];
  if (found !== undefined) { goTo(now.ids.holes[found]); return; }
  const square = nearest(text, now.ids.squares, 1)[0];
  if (square !== undefined) goToSquare(now.ids.squares[square]);
  else messages.tell({ level: "warn", sentence: `No hole and no square has "${text}" in its name.` });
}

let lastTab = "next";
function showTab(name) {
  for (const [each] of TABS) { $(`tab-${each}`).hidden = each !== name; $(`tab-button-${each}`).setAttribute("aria-selected", String(each === name)); $(`tab-button-${each}`).tabIndex = each === (name in DRAWERS ? lastTab : name) ? 0 : -1; }
  for (const [each, opener] of Object.entries(DRAWERS)) { $(`tab-${each}`).hidden = each !== name; $(opener).setAttribute("aria-expanded", String(each === name)); }
  if (!(name in DRAWERS)) lastTab = name;
  if (name === "squares") showSquares(now.squares, goToSquare);
  sessionStorage.setItem("cryoscout-tab", lastTab);
}
function drawer(name) { showTab($(`tab-${name}`).hidden ? name : lastTab); }

const KEYS = {
  p: () => act("pin"), b: () => act("ban"), s: () => act("skip"), S: skipSquare, k: pause, u: undoLast, t: () => showTab("try"), f: follow, e: exportList, 0: () => map.showWhole(),
  n: () => { showTab("notes"); notes.text.focus(); }, "/": () => $("find").focus(), "?": () => drawer("help"), m: () => drawer("messages"), w: () => drawer("mode"),
  "+": () => map.zoom(1.4), "=": () => map.zoom(1.4), "-": () => map.zoom(1 / 1.4),
  ArrowLeft: () => map.pan(60, 0), ArrowRight: () => map.pan(-60, 0), ArrowUp: () => map.pan(0, 60), ArrowDown: () => map.pan(0, -60),
  1: () => layer("predicted"), 2: () => layer("measured"), 3: () => layer("difference"), 4: () => layer("order"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { $("map").focus(); return; }
  const tag = event.target.tagName;
  if (tag === "INPUT" || tag === "TEXTAREA" || tag === "SELECT") { if (event.key === "Enter" && event.target.id === "find") find(event.target.value); return; }
  if (tag === "BUTTON" && event.target.getAttribute("role") === "tab" && event.key.startsWith("Arrow")) return;
  const done = KEYS[event.key];
  if (done) { event.preventDefault(); done(); }
});

// --- time ----------------------------------------------------------------------------------------

async function setAsOf(share) {
  if (share >= 1) { api.asOf = null; say($("as-of-words"), "now"); document.body.dataset.past = "false"; await ask(); return; }
  if (!now.beganAt) { const first = (await api.get("events", { limit: 1 })).events[0]; now.beganAt = first ? new Date(first.at).getTime() : clock.nowMs(); }
  const at = new Date(now.beganAt + 1000 + share * Math.max(0, clock.nowMs() - now.beganAt - 1000));
  api.asOf = at.toISOString(); document.body.dataset.past = "true";
  say($("as-of-words"), time(at));
  await ask();
}
let sliding = null;
$("as-of").addEventListener("input", () => { clearTimeout(sliding); sliding = setTimeout(() => setAsOf(Number($("as-of").value) / 1000).catch((error) => { if (error.name !== "AbortError") messages.tell({ level: "warn", sentence: error.message }); }), 250); });

// --- beginning -----------------------------------------------------------------------------------

function theme(name) { document.documentElement.dataset.theme = name; localStorage.setItem("cryoscout-theme", name); say($("theme"), name === "dark" ? "Light" : "Dark"); map.draw(); if (now.forecast) showSlow(); }
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
$("follow").addEventListener("click", follow);
$("whole").addEventListener("click", () => { map.following = false; showFollow(); map.showWhole(); });
for (const [name, opener] of Object.entries(DRAWERS)) $(opener).addEventListener("click", () => drawer(name));
$("skip").addEventListener("click", () => showTab("next")); // what is hidden takes no focus
$("author").value = localStorage.getItem("cryoscout-author") || "";
$("author").addEventListener("input", () => localStorage.setItem("cryoscout-author", $("author").value.trim()));
$("tabs").append(...TABS.map(([name, text]) => button(text, () => showTab(name), { id: `tab-button-${name}`, role: "tab", "aria-controls": `tab-${name}` })));
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = TABS.findIndex(([name]) => name === lastTab);
  if (!step) return;
  const [name] = TABS[(at + step + TABS.length) % TABS.length];
  showTab(name); $(`tab-button-${name}`).focus();
});
$("actions").append(...[["Pin (p)", () => act("pin")], ["Ban (b)", () => act("ban")], ["Skip hole (s)", () => act("skip")], ["Skip square (S)", skipSquare], ["Pause (k)", pause], ["Undo (u)", undoLast], ["Try (t)", () => showTab("try")], ["Export (e)", exportList]].map(([text, done]) => button(text, done)));
showHelp(); showTab(sessionStorage.getItem("cryoscout-tab") || "next"); showLayers();
document.documentElement.dataset.theme = localStorage.getItem("cryoscout-theme") || "dark";
say($("theme"), document.documentElement.dataset.theme === "dark" ? "Light" : "Dark");
say($("clock-zone"), zone());
setInterval(() => { showClock(); showLamps(); showReading(); }, 1000);
function showClock() {
  const minutesOff = Math.round(Math.abs(clock.aheadMs) / 60000);
  say($("clock-time"), time(clock.nowMs()));
  messages.set("clock", minutesOff ? `This computer's clock is ${minutesOff} min ${clock.aheadMs > 0 ? "ahead of" : "behind"} the server's: times here are the server's.` : null);
}
say($("clock-time"), time(clock.nowMs()));
new ResizeObserver(() => { if (now.forecast) showSlow(); }).observe($("fan"));

const link = new Link(api, {
  advice: (message) => { if (!api.asOf) refresh({ ...message.advice, run_id: message.run_id, other_sessions: now.advice ? now.advice.other_sessions : [] }); },
  anew: () => { if (!api.asOf) { now.advice = null; refresh(); } },
  up: (change) => {
    if (document.body.dataset.link === "down") api.drop(); // what was asked of a connection that died
    document.body.dataset.link = "up"; writes.isUp = true; writes.isEnded = false; messages.set("link", null); messages.set("key", null);
    if (change === "restarted") messages.tell({ level: "fine", sentence: `The server was restarted at ${time(clock.nowMs())}; your view and what you typed are as they were.`, lasts: 12000 });
    if (change === "replaced") {
      writes.written.clear(); // its events are counted anew
      otherSession(api.session);
      messages.tell({ level: "worse", sentence: `Another session stands at this place since ${time(clock.nowMs())}: all that is shown is of that one, and what you typed stays.`, lasts: 20000 });
    }
    showClock();
    if (api.asOf) refresh();
    writes.asks();
  },
  down: (since) => {
    document.body.dataset.link = "down"; writes.isUp = false; awake();
    messages.set("link", writes.isEnded ? null : `No contact with the server since ${time(since, true)}. ${now.shown ? "What is shown is as of then; it" : "It"} is asked again by itself.`, "worse");
    showLamps();
  },
  ended, woke,
});
// The server is there and does not know this browser any more. Its socket cannot be opened until it does.
function ended() {
  if (link.isUp) { link.isUp = false; link.open(); }
  writes.isUp = false; writes.isEnded = true; document.body.dataset.link = "down";
  messages.set("link", null);
  messages.set("key", "This page's key has ended. Open the address that serve printed again in another tab: this one then goes on, with all that you typed.", "worse");
}
document.body.dataset.link = "up";
showLamps();

function readSessions() { api.get("sessions").then(showSessions).catch(() => setTimeout(readSessions, AGAIN_MS)); }
function showSessions({ sessions }) {
  now.areSeveral = sessions.length > 1; document.body.dataset.several = String(now.areSeveral);
  $("session-label").hidden = !now.areSeveral;
  $("session").replaceChildren(...sessions.map((each) => el("option", { value: each.session, text: each.session })));
  if (!now.areSeveral) return;
  const chosen = sessionStorage.getItem("cryoscout-session"), isThere = sessions.some((each) => each.session === chosen);
  api.session = sessions[0].session;
  if (isThere && chosen !== api.session) { $("session").value = chosen; turnTo(chosen); }
}
readSessions();
$("session").addEventListener("change", () => turnTo($("session").value));
function turnTo(name) {
  const before = api.session;
  api.session = name; sessionStorage.setItem("cryoscout-session", name);
  otherSession(before);
  link.turn();
}
// Nothing of the session before is shown as if it were of this one, or acted on.
function otherSession(before) {
  now.holes = now.ids = now.beganAt = now.followed = now.imageOf = now.health = now.forecast = now.spent = now.facts = now.session = null;
  now.place = null; now.scores = {}; now.actions = []; away = null;
  showOwnHistory(); notes.show([]); drawFan($("fan"), null); drawStrip($("strip"), null); say($("time-words"), "");
  messages.fromServer(null);
  map.forget(); showSelected(null); map.following = true; showFollow();
  tryout.turn(before, api.session);
  ask();
}
refresh();
