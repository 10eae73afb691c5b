// What people say to the server: shown as sending, then as recorded. What was said without a connection is kept and asked
// about when it is back; nothing is sent twice, nothing is lost.
import { time } from "./words.js";
import { inWords } from "./panels.js";

const KEPT = "cryoscout-kept";

// The newest action that is no undo and was not taken back: pressed twice it takes back two.
export function lastToUndo(actions) {
  const undone = new Set();
  for (const action of actions.slice().reverse()) {
    if (action.undo_of) undone.add(action.undo_of);
    else if (!undone.has(action.event)) return action;
  }
  return null;
}

export class Writes {
  constructor(api, told) {
    this.api = api; this.told = told; this.isUp = true; this.mayWrite = true; this.shown = () => 0; this.written = 0; this.author = () => ""; this.answered = () => {};
    this.kept = JSON.parse(sessionStorage.getItem(KEPT) || "[]"); // outlives a page that is loaded again
  }

  // The newest revision that this page has seen: its own last word is known to it before the advice on it comes.
  revision() { return Math.max(this.shown(), this.written); }

  _keep(...all) { this.kept = all; sessionStorage.setItem(KEPT, JSON.stringify(all)); }

  async override(payload) { return this._send("override", { ...payload, revision: this.revision() }, inWords(payload)); }
  async undo(action) { return this._send("undo", { event: action.event, revision: this.revision() }, `undo of: ${inWords(action.payload)}`); }
  async note(body) { return this._send("note", body, "note"); }

  async _send(what, body, words) {
    const author = this.author();
    if (!author) { this.told({ level: "warn", sentence: "Write your initials above first: every action is signed.", needsAuthor: true }); return { ok: false, sentence: "initials are missing" }; }
    if (!this.mayWrite) { this.told({ level: "warn", sentence: "This page may look and not write: it was opened with the viewer's token." }); return { ok: false, sentence: "read only" }; }
    const whole = { ...body, author };
    if (!this.isUp) {
      this._keep(...this.kept, { what, body: whole, words });
      this.told({ level: "warn", sentence: `No connection: "${words}" is kept, and asked about when the server is back.` });
      return { ok: false, sentence: "kept until the server is back" };
    }
    return this._post(what, whole, words);
  }

  async _post(what, body, words) {
    this.told({ level: "fine", sentence: `sending: ${words}` });
    try {
      this.written = Math.max(this.written, (await this.api.post(what, body)).revision);
      const sentence = `recorded ${time(new Date())} by ${body.author}: ${words}`;
      this.told({ level: "fine", sentence, lasts: 6000 });
      return { ok: true, sentence };
    } catch (error) {
      if (error.status === undefined || error.status === 401) {
        this._keep(...this.kept, { what, body, words });
        this.told({ level: "warn", sentence: error.status ? `This page's key has ended: "${words}" is kept. Open the address that serve printed again, in this tab.` : `The server did not answer: "${words}" is kept, and asked about when it is back.` });
        return { ok: false, sentence: "kept until the server is back" };
      }
      if (error.status === 403) this.mayWrite = false;
      const sentence = error.status === 412 ? `Not recorded: somebody changed the plan meanwhile. Look at the history, then say "${words}" again.`
        : error.status === 403 ? "Not recorded: this page may look and not write (viewer's token)." : `Not recorded: ${error.message}`;
      this.told({ level: "worse", sentence, lasts: 15000 });
      return { ok: false, sentence };
    }
  }

  // Asks about what was kept: one sentence, two buttons.
  ask(buttons) {
    if (!this.kept.length) return;
    const many = this.kept.length, first = this.kept[0].words;
    this.told({
      level: "warn", stays: true,
      sentence: many === 1 ? `Said while there was no connection: ${first}. Is it still right?` : `${many} things were said while there was no connection, first: ${first}. Are they still right?`,
      buttons: buttons(async () => { const kept = this.kept; this.answered(); this._keep(); for (const each of kept) await this._post(each.what, { ...each.body, ...("revision" in each.body ? { revision: this.revision() } : {}) }, each.words); },
        () => { this.answered(); this._keep(); this.told({ level: "fine", sentence: "Discarded.", lasts: 3000 }); }),
    });
  }
}
