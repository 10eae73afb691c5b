// The panels beside the map. Each takes what the server said and sets it as text.
import { $, button, el, say } from "./dom.js";
import { middle, minutes, percent, shared, short, span, time, whole } from "./words.js";

const SIGN = { "go on": "▶ go on", leave: "◀ leave", skip: "— skip", "look into": "? look into" };

// A name to press. Where it is too long it loses its beginning, because mostly the end tells it from its neighbours.
function named(name, cut, title, pick) {
  return el("button", { type: "button", className: "name", dir: "rtl", title, on: { click: () => pick(name) } }, el("bdi", { text: short(name, cut) }));
}

export function showNext(advice, pick) {
  const next = advice && advice.next;
  const look = advice && advice.looks && advice.looks[0];
  if (look) { showLooks(advice.looks); return; }
  $("next-hole").dataset.long = String(Boolean(next && next.hole.length > 34));
  say($("next-head"), next ? "in this order: hole, p, done after" : "");
  say($("next-hole"), next ? middle(next.hole, 70) : advice ? "Nothing to image" : "No hole yet");
  $("next-hole").title = next ? next.hole : "";
  const place = next && next.x_um !== null ? `x ${next.x_um.toFixed(2)}, y ${next.y_um.toFixed(2)} µm` : "";
  // Names that begin with their square's say it already.
  const isNamed = next && next.hole.startsWith(next.square) && /^[^0-9A-Za-z]/.test(next.hole.slice(next.square.length));
  const square = next && !isNamed ? `square ${middle(next.square, 40)}` : "";
  say($("next-where"), next ? [`p ${percent(next.p_good)}`, place, square, `takes ${minutes(next.minutes)}`].filter(Boolean).join("  ·  ") : advice ? advice.verdict.sentence : "");
  const why = (advice && advice.why) || null, other = why && why.runner_up;
  const words = why ? `${why.sentence}${why.switch ? ` (${why.switch})` : ""}` : "";
  // The runner-up without what it shares with the name above, or long names leave no room for the reasons.
  say($("next-why"), other && next ? words.replace(other.hole, () => short(other.hole, shared([next.hole, other.hole]))) : words);
  $("next-why").title = words;
  const holes = (advice && advice.holes) || [], cut = shared(holes.map((hole) => hole.hole));
  const rows = holes.map((hole) =>
    el("li", { data: { committed: String(Boolean(hole.committed)) } }, el("span", { className: "quiet", text: String(hole.order) }),
      named(hole.hole, cut, `${hole.hole}${hole.committed ? ", stands" : ""}`, pick),
      el("span", { text: percent(hole.p_good) }), el("span", { className: "quiet", text: minutes(hole.minutes_used) })));
  $("next-list").replaceChildren(...rows);
}

/** A look comes first: the place in the headline, then what to look at after it; holes come with what a look shows. */
function showLooks(looks) {
  const at = (look) => (look.x_um === null || look.y_um === null ? "" : `x ${look.x_um.toFixed(0)}, y ${look.y_um.toFixed(0)} µm`);
  const name = (look) => (look.patch === null ? `square ${look.square}` : `patch ${look.patch}`);
  const [first] = looks;
  $("next-hole").dataset.long = String(name(first).length > 26);
  say($("next-head"), "look in this order; good expected per minute, minutes");
  say($("next-hole"), `Look at ${middle(name(first), 62)}`);
  say($("next-where"), [at(first), `grid ${first.grid}`, `${first.rate.toFixed(2)} good per min expected`].filter(Boolean).join("  ·  "));
  say($("next-why"), first.sentence);
  $("next-list").replaceChildren(...looks.map((look) =>
    el("li", {}, el("span", { className: "quiet", text: String(look.order) }), el("span", { className: "name", dir: "rtl", title: look.sentence }, el("bdi", { text: name(look) })),
      el("span", { text: `${look.rate.toFixed(2)}/min` }), el("span", { className: "quiet", text: minutes(look.minutes) }))));
}

export function showSquares(squares, pick) {
  const cut = shared(squares.map((each) => each.square));
  const rank = (each) => (each.first_in_plan === null ? 1e9 : each.first_in_plan);
  const rows = [...squares].sort((a, b) => rank(a) - rank(b) || b.expected_good - a.expected_good).map((each) =>
    el("div", { className: "row square" },
      named(each.square, cut, `${each.square}, grid ${each.grid}`, pick),
      el("span", { text: SIGN[each.advice] || each.advice }),
      el("span", { text: each.results ? `${whole(each.good)} of ${each.results} good` : each.holes ? `${each.holes} holes` : each.looked && !each.patches_unseen ? "a look showed no hole" : "not looked at yet" }),
      el("span", { className: "quiet", text: each.planned ? `+${each.expected_good.toFixed(1)}` : percent(each.p_good_mean_free) })));
  $("tab-squares").replaceChildren(el("p", { className: "quiet", text: "In the order of the plan. The last column: good micrographs that the plan expects there, or the mean p of its free holes." }), ...rows);
}

const SAYS = {
  pin: (p) => `pinned ${p.hole_id || p.square_id}`, ban: (p) => `banned ${p.hole_id || `square ${p.square_id}`}`, skip: (p) => `skipped ${p.hole_id || `square ${p.square_id}`}`,
  order: () => "set an order", pause: () => "paused", resume: () => "resumed", undo: (p) => `undid ${p.of} ${p.hole_id || p.square_id || ""}`,
  budget: (p) => (p.end_at ? `ends at ${time(p.end_at)}` : `${minutes(p.budget_min)} left`), threshold: (p) => `good up to ${p.threshold_angstrom} Å`,
  target: (p) => `wants ${p.good} good${p.by ? ` by ${time(p.by)}` : ""}`,
};

export function inWords(payload) {
  const said = SAYS[payload.kind];
  return said ? said(payload) : String(payload.kind);
}

export function showHistory(actions, sinceLeft, undo, mayWrite) {
  const events = new Map(actions.map((action) => [action.event, action])), undone = new Set(actions.map((action) => action.undo_of));
  const words = (action) => {
    if (!action.undo_of) return `${inWords(action.payload)}${action.author ? ` — ${action.author}` : ""}${action.payload.note ? `: ${action.payload.note}` : ""}`;
    const of = events.get(action.undo_of);
    return `took back ${of ? `"${inWords(of.payload)}"` : "an earlier action"} — ${action.author}`;
  };
  const rows = actions.slice(-20).reverse().map((action) =>
    el("div", { className: "row past" }, el("span", { className: "quiet", text: time(action.at) }), el("span", { text: words(action) }),
      undone.has(action.event) ? el("span", { className: "quiet", text: "taken back" }) : mayWrite ? button("Undo", () => undo(action), { ariaLabel: `undo: ${words(action)}` }) : null));
  $("tab-history").replaceChildren(
    el("h2", { className: "sub", text: "Since you left" }), el("p", { text: sinceLeft || "You have not been away." }),
    el("h2", { className: "sub", text: "The last 20 actions" }), ...(rows.length ? rows : [el("p", { text: "Nobody has changed the plan yet." })]));
}

export function showTrust(facts) {
  const tenths = (facts.trust || []).map((row) => {
    const bar = el("div", { className: "bar-of" }, el("i"), el("b"));
    bar.firstChild.style.width = `${100 * row.found}%`;
    bar.lastChild.style.left = `calc(${100 * row.given}% - 1px)`;
    return el("div", { className: "row tenth" }, el("span", { text: `given ${percent(row.given)}` }), bar, el("span", { text: `${percent(row.found)} of ${row.results}` }));
  });
  const best = (facts.trust || []).reduce((most, row) => (most && most.results >= row.results ? most : row), null);
  $("tab-trust").replaceChildren(
    el("h2", { className: "sub", text: "Given against found" }),
    el("p", { text: best ? `Of ${best.results} results given ${percent(best.given)}, ${Math.round(best.found * best.results)} were good.` : "No result of an advised hole yet." }), ...tenths,
    el("p", { className: "quiet", text: "Bar and number: found good. Mark: what was given." }),
    el("h2", { className: "sub", text: "Advised and done" }),
    el("p", { text: facts.last_20 ? `${facts.followed_of_last_20} of the last ${facts.last_20} were followed; ${facts.followed} of ${facts.compared} in all, ${facts.followed_near} were among the 20 listed.` : "Nothing was imaged since the advice began." }),
    facts.n_overdue ? el("p", { text: `${facts.n_overdue} results are overdue.` }) : el("p", { className: "quiet", text: facts.waiting ? `${facts.waiting} exposures wait for a result${facts.usual_lag_s ? `, usually ${span(facts.usual_lag_s)}` : ""}.` : "No exposure waits for its result." }));
}

export class Notes {
  constructor(send) {
    this.send = send;
    this.text = el("textarea", { maxLength: 2000, ariaLabel: "note" });
    this.kind = el("select", { ariaLabel: "kind of note" }, ...["note", "nitrogen", "zero-loss", "focus", "look", "other pause"].map((kind) => el("option", { value: kind, text: kind })));
    this.minutes = el("input", { type: "number", min: 0, max: 600, step: 1, ariaLabel: "minutes it took", size: 4, placeholder: "min" });
    this.list = el("div");
    this.state = el("p", { className: "quiet" });
    this.keep = button("Write (Ctrl+Enter)", () => this.write());
    this.text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.write(); });
    // What is half typed outlives a reload and a restart of the server.
    this.text.value = localStorage.getItem("cryoscout-draft") || "";
    this.text.addEventListener("input", () => localStorage.setItem("cryoscout-draft", this.text.value));
    $("tab-notes").replaceChildren(this.text, el("div", { className: "form" }, this.kind, this.minutes, this.keep), this.state, this.list);
  }

  async write() {
    if (this.isSending) { say(this.state, "the note before is still on its way"); return; }
    const text = this.text.value.trim();
    if (!text && this.kind.value === "note") { say(this.state, "Write something first."); return; }
    const minutesGiven = this.minutes.value === "" ? {} : { minutes: Number(this.minutes.value) };
    say(this.state, "sending");
    this.isSending = true;
    const sent = await this.send({ text: text || this.kind.value, kind: this.kind.value, ...minutesGiven });
    this.isSending = false;
    say(this.state, sent.sentence);
  }

  // A note was recorded: what was typed since it was sent stays.
  took(text) {
    const typed = this.text.value.trimStart();
    if (!typed.startsWith(text) && typed) return;
    this.text.value = typed.slice(text.length).trimStart(); this.minutes.value = "";
    localStorage.setItem("cryoscout-draft", this.text.value);
  }

  show(notes) {
    this.list.replaceChildren(...[...notes].reverse().slice(0, 100).map((note) =>
      el("div", { className: "row past" }, el("span", { className: "quiet", text: time(note.at) }),
        el("span", { text: `${note.text}${note.kind && note.kind !== "note" ? ` (${note.kind}${note.minutes ? `, ${minutes(note.minutes)}` : ""})` : ""}` }), el("span", { className: "quiet", text: note.author || "" }))));
  }
}

const KEYS = [["p", "pin what is selected, else the next hole"], ["b", "ban it"], ["s", "skip the hole"], ["S", "skip its square"], ["k", "pause, or go on"],
  ["u", "undo the last action"], ["t", "try: what if"], ["f", "follow the next hole"], ["/", "find a hole or square"], ["e", "export the list"], ["n", "write a note"], ["m", "all messages, in full"], ["w", "how the advice reaches the microscope: watch, suggest, send"],
  ["+ −", "zoom"], ["←↑→↓", "move the map"], ["0", "the whole grid"], ["1 … 4", "layers of the map"], ["Esc", "back to the map"], ["?", "this list"]];

export function showHelp() {
  $("tab-help").replaceChildren(...KEYS.map(([key, text]) => el("div", { className: "row key" }, el("kbd", { text: key }), el("span", { text }))));
}
