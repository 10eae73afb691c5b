// What people say to the server: shown as sending, then as recorded. What was said without a connection is kept and asked
// about when it is back; nothing is sent twice, nothing is lost.
import { clock, middle, minutes, time } from "./words.js";
import { inWords } from "./panels.js";

const KEPT = "cryoscout-kept";
const SENDING_MS = 60000; // "sending" stands until the answer, which comes before

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
    this.api = api; this.told = told; this.isUp = true; this.isEnded = false; this.mayWrite = true; this.shown = () => 0; this.author = () => ""; this.answered = () => {}; this.asks = () => {}; this.recorded = () => {};
    this.written = new Map(); // session -> revision of this page's last word to it
    this.last = Promise.resolve(); this.waiting = [];
    this.kept = JSON.parse(sessionStorage.getItem(KEPT) || "[]"); // outlives a page that is loaded again
  }

  // The newest revision that this page has seen: its own last word is known to it before the advice on it comes.
  revision() { return Math.max(this.shown(), this.written.get(this.api.session) || 0); }

  _keep(...all) { this.kept = all; sessionStorage.setItem(KEPT, JSON.stringify(all)); }

  async override(payload) { return this._send("override", { ...payload, revision: this.revision() }, inWords(payload)); }
  async undo(action) { return this._send("undo", { event: action.event, revision: this.revision() }, `undo of: ${inWords(action.payload)}`); }
  // How the advice reaches the microscope: of the whole server. body : {mode} or {mode: "send", minutes}
  async mode(body) { return this._send("mode", body, body.minutes ? `mode send for ${minutes(body.minutes)}` : `mode ${body.mode}`); }
  // Its key is told with it: sent again because no answer came, it is not recorded twice.
  async note(body) { return this._send("note", { ...body, key: [...crypto.getRandomValues(new Uint32Array(4))].join("-") }, `note "${middle(body.text)}"`); }

  async _send(what, body, words) {
    const author = this.author();
    if (!author) { this.told({ level: "warn", sentence: "Write your initials above first: every action is signed.", needsAuthor: true }); return { ok: false, sentence: "initials are missing" }; }
    if (!this.mayWrite) { this.told({ level: "warn", sentence: "This page may look and not write: it was opened with the viewer's token." }); return { ok: false, sentence: "read only" }; }
    // It is for the session that was shown when it was said, whatever is shown when it is sent.
    const said = { what, body: { ...body, author }, words, session: this.api.session };
    return this.isUp ? this._inTurn(said) : this._keepBack(said);
  }

  _keepBack(said) {
    this._keep(...this.kept, said);
    this.told({ level: "warn", sentence: this.isEnded ? `This page's key has ended: "${said.words}" is kept, and asked about when it is renewed.` : `No connection: "${said.words}" is kept, and asked about when the server is back.` });
    return { ok: false, isKept: true, sentence: "kept until the server is back" };
  }

  // One after the other: of two things said at once the second is signed with what the first one made.
  _inTurn(said) {
    this.waiting.push(said.words);
    this.told({ level: "fine", sentence: `sending: ${this.waiting.join("; ")}`, lasts: SENDING_MS });
    const sent = this.last.then(() => (this.isUp ? this._post(said) : this._keepBack(said)));
    this.last = sent.then(() => { this.waiting.shift(); });
    return sent;
  }

  async _post(said) {
    const { what, body, words, session } = said;
    try {
      const revision = "revision" in body ? { revision: Math.max(body.revision, this.written.get(session) || 0) } : {};
      const answer = await this.api.post(what, { ...body, ...revision }, session);
      if (answer.revision) this.written.set(session, Math.max(this.written.get(session) || 0, answer.revision));
      const sentence = `recorded ${time(clock.nowMs())} by ${body.author}: ${words}`, others = this.waiting.slice(1);
      this.told({ level: "fine", sentence: others.length ? `${sentence}; sending: ${others.join("; ")}` : sentence, lasts: others.length ? SENDING_MS : 6000 });
      this.recorded(said);
      return { ok: true, sentence };
    } catch (error) {
      if (error.status === undefined || error.status === 401) {
        this._keep(...this.kept, said);
        this.told({ level: "warn", sentence: error.status ? `This page's key has ended: "${words}" is kept, and asked about when it is renewed.` : `The server did not answer: "${words}" is kept, and asked about when it is back.` });
        if (error.status) this.ended(); else if (this.isUp) this.asks(); // the server is there: its answer was lost
        return { ok: false, isKept: true, sentence: "kept until the server is back" };
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
    const many = this.kept.length, [{ words, session }] = this.kept, first = session ? `${words} (session ${session})` : words;
    this.told({
      level: "warn", stays: true,
      sentence: many === 1 ? `Said while there was no connection: ${first}. Is it still right?` : `${many} things were said while there was no connection, first: ${first}. Are they still right?`,
      buttons: buttons(async () => {
        const kept = this.kept;
        this.answered(); this._keep();
        // Whoever says that it is still right has seen what is shown now, of the session that is shown.
        for (const each of kept) await this._inTurn("revision" in each.body && each.session === this.api.session ? { ...each, body: { ...each.body, revision: this.revision() } } : each);
      }, () => { this.answered(); this._keep(); this.told({ level: "fine", sentence: "Discarded.", lasts: 3000 }); }),
    });
  }
}
