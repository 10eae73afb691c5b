// A round of practice: patches and holes, one pick after the other, and at the end the curves beside the planners'.
import { $, colours, el, fit, say } from "./dom.js";
import { minutes, shared, short, whole } from "./words.js";

const LINES = { you: ["good", [], 3], adaptive: ["accent", [], 2], "dqn-y1": ["wait", [7, 4], 2], bound: ["quiet", [2, 3], 1.5] };
const SAID = { you: "you", adaptive: "adaptive", "dqn-y1": "dqn-y1 (the shipped agent)", bound: "exact bound" };
const WIDEST = 20; // holes side by side: a map of more would be lost on the page
let round = null, shown = null;

async function ask(what, body) {
  const answer = await fetch(`practice/${what}`, body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail || answer.statusText);
  return content;
}

function tell(sentence, level = "fine") { say($("message-text"), sentence); $("message").dataset.level = level; }

async function begin() {
  const player = $("author").value.trim();
  if (!player) { tell("Write your initials first, so that your rounds are yours.", "warn"); $("author").focus(); return; }
  localStorage.setItem("cryoscout-author", player);
  try { show(await ask("round", { player, picks: Number($("n-picks").value) })); } catch (error) { tell(error.message, "worse"); }
}

// Where the holes of a patch stand, in CSS px, so far apart that none covers another; null where that is not known.
function placed(holes, side) {
  if (holes.length < 2 || holes.length > 2 * WIDEST ** 2 || holes.some((hole) => hole.x === null || hole.y === null)) return null;
  const left = Math.min(...holes.map((hole) => hole.x)), top = Math.min(...holes.map((hole) => hole.y));
  let nearest = Infinity;
  holes.forEach((a, i) => holes.slice(i + 1).forEach((b) => { nearest = Math.min(nearest, Math.hypot(a.x - b.x, a.y - b.y)); }));
  const at = holes.map((hole) => [((hole.x - left) * (side + 4)) / nearest, ((hole.y - top) * (side + 4)) / nearest]);
  const wide = Math.max(...at.map((each) => each[0])) + side, high = Math.max(...at.map((each) => each[1])) + side;
  return nearest > 0 && Math.max(wide, high) <= WIDEST * side ? { at, wide, high } : null;
}

function show(state) {
  round = state;
  $("result").hidden = true;
  $("picked").replaceChildren();
  const cut = shared(state.patches.map((patch) => patch.name));
  $("patches").replaceChildren(...state.patches.map((patch) => {
    const columns = Math.max(1, Math.ceil(Math.sqrt(patch.holes.length))), holder = el("div", { className: "holes" });
    const map = placed(patch.holes, patch.holes.some((hole) => hole.image) ? 56 : 44);
    if (map) { holder.dataset.map = "true"; holder.style.width = `${map.wide}px`; holder.style.height = `${map.high}px`; }
    else holder.style.gridTemplateColumns = `repeat(${columns}, auto)`;
    holder.append(...patch.holes.map((hole, at) => {
      const made = el("button", { type: "button", className: `hole${hole.image ? " image" : ""}`, title: `hole ${at + 1} of ${patch.name}`, ariaLabel: `hole ${at + 1} of ${patch.name}`, data: { hole: String(hole.hole) }, on: { click: () => pick(hole.hole) } });
      if (map) { made.style.left = `${map.at[at][0]}px`; made.style.top = `${map.at[at][1]}px`; }
      if (hole.image) made.style.backgroundImage = `url("practice/image/${hole.hole}.png")`;
      return made;
    }));
    const name = `${patch.name}, square ${patch.square}`;
    return el("div", { className: "patch" }, el("h2", { className: "sub", dir: "rtl", title: name }, el("bdi", { text: short(patch.name, cut) })), holder);
  }));
  for (const found of state.picked) mark(found);
  count(state);
  tell(`Choose the holes that will be good: ${state.n_picks} picks. After each you see its CTF resolution; ${state.threshold_angstrom} Å or better is good.`);
  if (state.is_over) finish();
}

function mark(found) {
  const hole = document.querySelector(`.hole[data-hole="${found.hole}"]`), ctf = found.ctf_max_res_angstrom;
  if (hole) { hole.dataset.found = found.good > 0 ? "good" : "bad"; hole.disabled = true; hole.textContent = ctf === null ? "×" : ctf.toFixed(1); hole.ariaLabel = `${hole.title}: ${ctf === null ? "no fit" : `${ctf.toFixed(1)} Å`}, ${found.good > 0 ? "good" : "not good"}`; }
  $("picked").append(el("li", { text: `${ctf === null ? "no fit" : `${ctf.toFixed(1)} Å`}, ${found.good > 0 ? "good" : "not good"}` }));
  $("picked").scrollTop = $("picked").scrollHeight;
}

function count(state) {
  say($("verb"), state.left ? "PICK" : "DONE");
  say($("place"), state.left ? `${state.left} left` : "");
  say($("goal-number"), `${whole(state.good_so_far)} good`);
  say($("goal-words"), `of ${state.picks} picks`);
}

async function pick(hole) {
  if (!round || round.busy) return;
  round.busy = true;
  try {
    const found = await ask("pick", { hole });
    mark(found); count(found);
    tell(`${found.ctf_max_res_angstrom === null ? "The fit failed" : `${found.ctf_max_res_angstrom.toFixed(1)} Å`}: ${found.good > 0 ? "good" : "not good"}.`);
    if (!found.left) await finish();
  } catch (error) { tell(error.message, "warn"); } finally { round.busy = false; }
}

async function finish() {
  tell("Comparing with the planners …");
  const answer = await ask("result"), result = answer.result;
  for (const hole of document.querySelectorAll(".hole")) hole.disabled = true;
  $("result").hidden = false;
  shown = result; drawCurves();
  say($("minutes-words"), `The same with moving charged (${result.time_model}): your order would have taken ${minutes(result.minutes_taken)}. Nothing of it was charged to you.`);
  const cell = (value) => (value === null || value === undefined ? "–" : value.toFixed(1)), plus = (mean, std) => (mean === null ? "–" : `${mean.toFixed(1)} ± ${std.toFixed(1)}`);
  $("table").replaceChildren(el("tr", {}, ...["session, picks", "rounds", "people here", "adaptive", "dqn-y1", "bound", "15 students (published)"].map((text) => el("th", { text }))),
    ...answer.table.map((row) => el("tr", {}, ...[`${row.session}, ${row.picks}`, String(row.rounds), row.rounds > 1 ? plus(row.good_mean, row.good_std) : cell(row.good_mean), cell(row.adaptive_mean), cell(row["dqn-y1_mean"]), cell(row.bound_mean), plus(row.published_mean, row.published_std)].map((text) => el("td", { text })))));
  say($("published"), answer.citation);
  tell(`${whole(result.good)} of ${result.n_picks} picks were good.`);
  $("result").scrollIntoView({ block: "start" });
}

function drawCurves() {
  if (!shown || $("result").hidden) return;
  draw($("by-picks"), shown.picks, "picks");
  draw($("by-minutes"), shown.minutes, "minutes");
}

function draw(canvas, axis, words) {
  fit(canvas);
  const context = canvas.getContext("2d"), shade = colours(), ratio = window.devicePixelRatio || 1, w = canvas.width, h = canvas.height;
  context.fillStyle = shade.panel; context.fillRect(0, 0, w, h);
  const left = 36 * ratio, bottom = 20 * ratio, right = 130 * ratio, last = axis.x[axis.x.length - 1] || 1;
  const most = 1.05 * Math.max(1, ...Object.keys(LINES).flatMap((name) => axis[name] || []));
  const X = (x) => left + (x / last) * (w - left - right), Y = (y) => h - bottom - (y / most) * (h - bottom - 8 * ratio);
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  const ends = [];
  for (const [name, [colour, dash, wide]] of Object.entries(LINES)) {
    if (!axis[name]) continue;
    context.strokeStyle = shade[colour]; context.lineWidth = wide * ratio; context.setLineDash(dash.map((d) => d * ratio)); context.beginPath();
    axis.x.forEach((x, i) => (i ? context.lineTo(X(x), Y(axis[name][i])) : context.moveTo(X(x), Y(axis[name][i])))); context.stroke(); context.setLineDash([]);
    ends.push([name, axis[name][axis[name].length - 1], colour]);
  }
  ends.sort((a, b) => b[1] - a[1]);
  let lowest = -Infinity;
  for (const [name, value, colour] of ends) { const y = Math.max(Y(value), lowest + 14 * ratio); lowest = y; context.fillStyle = shade[colour]; context.fillText(`${name} ${value.toFixed(0)}`, X(last) + 6 * ratio, y + 4 * ratio); }
  context.fillStyle = shade.quiet; context.textAlign = "right"; for (const y of [0, most / 2.1, most / 1.05]) context.fillText(y.toFixed(0), left - 5 * ratio, Y(y) + 4 * ratio);
  context.textAlign = "center"; context.fillText(words, (left + w - right) / 2, h - 4 * ratio); context.fillText(last.toFixed(0), X(last), h - 4 * ratio); context.textAlign = "start";
  canvas.setAttribute("aria-label", `Good micrographs by ${words}: ${ends.map(([name, value]) => `${SAID[name]} ${value.toFixed(0)}`).join(", ")}`);
}

$("author").value = localStorage.getItem("cryoscout-author") || "";
document.documentElement.dataset.theme = localStorage.getItem("cryoscout-theme") || "dark";
$("theme").addEventListener("click", () => { const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; document.documentElement.dataset.theme = name; localStorage.setItem("cryoscout-theme", name); say($("theme"), name === "dark" ? "Light" : "Dark"); drawCurves(); });
new ResizeObserver(drawCurves).observe($("by-picks"));
$("start").addEventListener("click", begin);
ask("state").then((state) => {
  $("n-picks").append(...state.choices.map((value) => el("option", { value: String(value), text: String(value), selected: value === state.n_picks })));
  say($("rule"), state.rule);
  if (state.round) { $("author").value = state.round.player; show(state.round); } else { say($("verb"), "PRACTICE"); tell("Write your initials and start a round."); }
}).catch((error) => tell(error.message, "worse"));
