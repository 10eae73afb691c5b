// The one message line: the worst problem, since when, what to do. It takes no focus and moves nothing.
import { $, say } from "./dom.js";
import { time } from "./words.js";

export class MessageLine {
  constructor() { this.ofPage = new Map(); this.ofServer = null; this.more = 0; this.brief = null; }

  // A problem that the page itself knows of: a sentence, or null when it is over.
  set(cause, sentence, level = "warn", buttons = null) {
    if (sentence === null) this.ofPage.delete(cause); else this.ofPage.set(cause, { sentence, level, buttons });
    this.show();
  }

  // Something just happened; it stands for a while, or until the next.
  tell({ sentence, level, lasts, stays, buttons }) {
    clearTimeout(this.over);
    this.brief = { sentence, level, buttons };
    if (!stays) this.over = setTimeout(() => { this.brief = null; this.show(); }, lasts || 8000);
    this.show();
  }

  fromServer(message) {
    const worst = message && message.worst;
    this.ofServer = worst ? { sentence: `${worst.sentence} ${worst.remedy}${worst.since ? ` (since ${time(worst.since)})` : ""}`, level: worst.cause === "end" ? "warn" : "worse" } : null;
    this.more = message ? message.more || 0 : 0;
    this.show();
  }

  show() {
    const page = [...this.ofPage.values()], worst = page.find((each) => each.level === "worse");
    const shown = worst || this.brief || page[0] || this.ofServer || { sentence: "All is well.", level: "fine" };
    const others = page.length + (this.ofServer ? 1 + this.more : 0) - (shown === this.brief || shown.level === "fine" ? 0 : 1);
    $("message").dataset.level = shown.level || "fine";
    say($("message-text"), shown.sentence);
    $("message-text").title = shown.sentence;
    say($("message-more"), others > 0 ? `+${others}` : "");
    const buttons = shown.buttons || [];
    if (this.shownButtons !== buttons) { this.shownButtons = buttons; $("message-buttons").replaceChildren(...buttons); }
  }
}
