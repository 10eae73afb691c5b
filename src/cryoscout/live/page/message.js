// The one message line: the worst problem, since when, what to do. It takes no focus and moves nothing; all that is said at
// the same time stands in a panel beside the map, worst first.
import { $, el, say } from "./dom.js";
import { time } from "./words.js";

const LEVELS = ["worse", "warn", "fine"];
const WORDS = { worse: "act", warn: "know", fine: "fine" };
// That what is shown is not of now goes before everything that is shown.
const NOT_OF_NOW = ["key", "link", "awake", "reading", "read", "past", "stale"];

export class MessageLine {
  constructor() { this.ofPage = new Map(); this.ofServer = []; this.isKnown = false; this.brief = null; }

  // A problem that the page itself knows of: a sentence, or null when it is over.
  set(cause, sentence, level = "warn") {
    if (sentence === null) this.ofPage.delete(cause); else this.ofPage.set(cause, { cause, sentence, level });
    this.show();
  }

  // The answer to what a person just did; it stands for a while, or until the next. With `stays` until it is answered.
  tell({ sentence, level, lasts, stays, buttons }) {
    clearTimeout(this.over);
    if (this.brief && this.brief.stays && !stays) this.asked = this.brief; // a question is asked again after the answer to something else
    if (stays) this.asked = null;
    this.brief = { sentence, level, buttons, stays };
    if (!stays) this.over = setTimeout(() => { this.brief = this.asked || null; this.asked = null; this.show(); }, lasts || 8000);
    this.show();
  }

  // A question was answered.
  answered() { this.asked = null; if (this.brief && this.brief.stays) this.brief = null; }

  // message : what the server says; null while it is not known yet.
  fromServer(message) {
    this.isKnown = Boolean(message);
    this.ofServer = ((message && message.all) || []).map((each) => ({ ...each, sentence: `${each.sentence} ${each.remedy}${each.since ? ` (since ${time(each.since)})` : ""}` }));
    this.show();
  }

  // All that holds now, worst first; of equally bad ones the page's before the server's, which come by weight.
  all() {
    const rank = (each) => { const at = NOT_OF_NOW.indexOf(each.cause); return at >= 0 ? at : NOT_OF_NOW.length + LEVELS.indexOf(each.level); };
    return [...this.ofPage.values(), ...this.ofServer].sort((a, b) => rank(a) - rank(b));
  }

  show() {
    const all = this.all(), shown = this.brief || all[0] || { sentence: this.isKnown ? "All is well." : "Asking the server whether all is well.", level: "fine" };
    const others = all.length - (this.brief || !all.length ? 0 : 1);
    $("message").dataset.level = shown.level || "fine";
    say($("message-text"), shown.sentence);
    $("message-text").title = shown.sentence;
    say($("message-more"), others > 0 ? `+${others} (m)` : "All (m)");
    $("message-more").ariaLabel = others > 0 ? `${others} more messages, key m` : "all messages, key m";
    $("message-more").title = "all messages, in full (key m)";
    const buttons = shown.buttons || [];
    if (this.shownButtons !== buttons) { this.shownButtons = buttons; $("message-buttons").replaceChildren(...buttons); }
    this.list(all);
  }

  list(all) {
    const key = this.isKnown + all.map((each) => each.level + each.sentence).join("\n");
    if (this.listed === key) return;
    this.listed = key;
    const rows = all.map((each) => el("li", { className: "message-row", data: { level: each.level } }, el("b", { text: WORDS[each.level] }), el("span", { text: each.sentence })));
    $("tab-messages").replaceChildren(el("h2", { className: "sub", text: "All messages, the worst first" }), rows.length ? el("ul", { className: "plain" }, ...rows) : el("p", { text: this.isKnown ? "All is well." : "Nothing is known yet." }));
  }
}
