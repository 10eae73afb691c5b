// What if: overrides put together, what they would change, and only then applied.
import { $, button, el, say } from "./dom.js";
import { inWords } from "./panels.js";
import { clock, minutes } from "./words.js";

export class Tryout {
  constructor(api, writes, selected) {
    this.api = api; this.writes = writes; this.selected = selected; this.overrides = []; this.ofSession = new Map();
    const field = (type, more) => el("input", { type, ...more });
    this.threshold = field("number", { min: 1, max: 50, step: 0.1, placeholder: "Å", ariaLabel: "good up to, in angstrom" });
    // Text, because a browser writes its own time fields with AM and PM where its language does.
    this.end = field("text", { size: 6, maxLength: 5, placeholder: "09:00", inputMode: "numeric", autocomplete: "off", ariaLabel: "session ends at, by the microscope's 24 h clock" });
    this.good = field("number", { min: 1, step: 1, placeholder: "good", ariaLabel: "good micrographs wanted" });
    this.answer = el("p", { role: "status" });
    this.list = el("div");
    this.apply = button("Apply", () => this.send(), { disabled: true });
    const row = (words, ...controls) => [el("span", { text: words }), el("span", {}, ...controls)];
    $("tab-try").replaceChildren(
      el("p", { className: "quiet", text: "Try something: nothing changes until it is applied." }),
      el("div", { className: "form" },
        ...row("what is selected", button("Pin", () => this.ofPlace("pin")), button("Ban", () => this.ofPlace("ban")), button("Skip", () => this.ofPlace("skip"))),
        ...row("good up to", this.threshold, button("Try", () => this.add({ kind: "threshold", threshold_angstrom: Number(this.threshold.value) }, this.threshold))),
        ...row("ends at", this.end, button("Try", () => this.timed((at) => this.add({ kind: "budget", end_at: at }, this.end)))),
        ...row("target by the end", this.good, button("Try", () => this.timed((at) => this.add({ kind: "target", good: Number(this.good.value), ...(at ? { by: at } : {}) }, this.good))))),
      this.list, this.answer, el("div", {}, this.apply, button("Clear", () => this.clear())), el("div", { id: "try-others" }));
  }

  // Goes on with the end that is written, empty where none is; says so where it is no time of day.
  timed(goOn) {
    const at = this.at(this.end.value.trim());
    if (at === null) say(this.answer, `The end must be a time of day by the 24 h clock, such as 09:00. Got "${this.end.value}" instead.`);
    else goOn(at);
  }

  // The microscope's time of day, today or tomorrow; null for what is none.
  at(text) {
    if (!text) return "";
    const found = /^([01]?\d|2[0-3])[:.]?([0-5]\d)$/.exec(text);
    if (!found) return null;
    const now = new Date(this.microscopeAt || clock.nowMs()), at = new Date(now);
    at.setHours(Number(found[1]), Number(found[2]), 0, 0);
    if (at <= now) at.setDate(at.getDate() + 1);
    const two = (n) => String(n).padStart(2, "0");
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}:00`;
  }

  ofPlace(kind) {
    const place = this.selected();
    if (!place) { say(this.answer, "Select a hole or a square on the map first."); return; }
    this.add({ kind, ...place });
  }

  async add(override, field) {
    if (field && !field.value) { say(this.answer, "Give a value first."); return; }
    this.overrides.push(override);
    await this.ask(true);
  }

  clear() { this.overrides = []; this.showList(); say(this.answer, ""); this.apply.disabled = true; }
  showList() { this.list.replaceChildren(...this.overrides.map((each) => el("p", { text: `• ${inWords(each)}` }))); }

  // Another session is shown, or stands at the place of this one: what was tried of it is asked anew, and kept for the way back.
  turn(from, to) {
    this.ofSession.set(from, this.overrides);
    this.clear();
    this.overrides = this.ofSession.get(to) || [];
    this.others([]);
    if (this.overrides.length) this.ask(false);
  }

  async ask(isNew) {
    const tried = this.overrides;
    this.showList();
    say(this.answer, "asking");
    const author = this.writes.author() || "page", revision = this.writes.revision();
    try {
      const answer = await this.api.post("what-if", { author, overrides: this.overrides.map((each) => ({ ...each, author, revision })) });
      if (tried !== this.overrides) return; // of another session meanwhile
      const { advice, expected_good_gain: gain } = answer, target = advice.target;
      say(this.answer, `${advice.verdict.sentence} Expected ${advice.expected_good.toFixed(1)} good (${gain >= 0 ? "+" : ""}${gain.toFixed(1)}), ${minutes(advice.minutes_left)} left${target ? `; ${target.good} good: ${Math.round(100 * target.probability)} %` : ""}.`);
      this.apply.disabled = false;
    } catch (error) {
      if (tried !== this.overrides) return;
      if (isNew) this.overrides.pop(); // its field keeps what was typed
      say(this.answer, error.status ? error.message : "The server did not answer: try it again.");
      this.apply.disabled = true;
      this.showList();
    }
  }

  async send() {
    const all = this.overrides.splice(0);
    this.clear();
    for (const [at, each] of all.entries()) {
      const sent = await this.writes.override(each);
      say(this.answer, sent.sentence);
      if (sent.ok || sent.isKept) continue;
      this.overrides = all.slice(at); // what was refused, and what was not said yet, stays
      this.showList(); this.apply.disabled = false;
      return;
    }
  }

  others(list) {
    const holder = $("try-others");
    if (!holder) return;
    holder.replaceChildren(...(list && list.length ? [el("h2", { className: "sub", text: "Another grid instead" }), ...list.map((each) => el("p", { text: `${each.session}: ${each.sentence}${each.target_probability === null ? "" : ` Target: ${Math.round(100 * each.target_probability)} %.`}` }))] : []));
  }
}
