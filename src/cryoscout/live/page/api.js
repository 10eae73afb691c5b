// Everything that is asked of the server, and the socket. A page never guesses: what it does not know it fetches anew.
import { clock } from "./words.js";

const BASE = "api/v1";
const GONE_MS = 2000, POST_MS = 30000;
const FIRST_MS = 10000, WAKES_MS = 5000; // so long a socket may take to open before it is called gone
const SLEPT_MS = 5000; // a look that comes so late: this tab, or the computer, slept
const RETRY_MS = 15000; // a socket that is open and says nothing is dead

export class Api {
  constructor() { this.session = null; this.asOf = null; this.reads = new AbortController(); }

  // What is on its way is not waited for any more: it is of another session or time, or of a connection that died.
  drop() { this.reads.abort(); this.reads = new AbortController(); }

  address(what, more = {}) {
    const address = new URL(`${BASE}/${what}`, document.baseURI);
    if (this.session) address.searchParams.set("session", this.session);
    if (this.asOf) address.searchParams.set("as_of", this.asOf);
    for (const [name, value] of Object.entries(more)) address.searchParams.set(name, value);
    return address;
  }

  async get(what, more) {
    const answer = await fetch(this.address(what, more), { signal: this.reads.signal });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }

  async post(what, body, session = this.session) {
    const address = this.address(what);
    address.searchParams.delete("as_of");
    if (session) address.searchParams.set("session", session); else address.searchParams.delete("session");
    const answer = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(POST_MS) });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }
}

async function refusal(answer) {
  let detail = answer.statusText;
  try { detail = (await answer.json()).detail || detail; } catch { /* an answer without JSON says its status alone */ }
  return Object.assign(new Error(detail), { status: answer.status });
}

// One socket, opened again for ever. told: advice(message), anew(), up(change), down(since), ended(), woke(since).
export class Link {
  constructor(api, told) {
    this.api = api; this.told = told; this.heard = performance.now(); this.isUp = false; this.run = null; this.wait = 300;
    this.patientUntil = this.heard + FIRST_MS; this.looked = { at: this.heard, date: Date.now() };
    setInterval(() => this.check(), 500);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.wake(); });
    this.open();
  }

  open() {
    clearTimeout(this.later);
    if (this.socket) { this.socket.onclose = this.socket.onmessage = null; this.socket.close(); }
    const address = new URL(`${BASE}/socket`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    if (this.api.session) address.searchParams.set("session", this.api.session);
    let isOpen = false;
    this.openedAt = performance.now();
    this.socket = new WebSocket(address);
    this.socket.onopen = () => { isOpen = true; };
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = () => {
      this.later = setTimeout(() => this.open(), this.wait); this.wait = Math.min(5000, this.wait * 1.6);
      if (!isOpen) this.api.get("health").catch((error) => { if (error.status === 401) this.told.ended(); }); // a socket does not say why
    };
  }

  // Another session is shown from now on.
  turn() { this.run = null; this.patientUntil = performance.now() + WAKES_MS; this.open(); }

  take(message) {
    this.heard = performance.now(); this.wait = 300; this.downSince = null; this.patientUntil = 0;
    // Less than a minute is the network's, not a clock's.
    if (message.at) { const aheadMs = Date.now() - 1000 * message.at; clock.aheadMs = Math.abs(aheadMs) > 60000 ? aheadMs : 0; }
    const process = (run) => run.split(".")[0];
    const change = this.run === null || this.run === message.run_id ? "" : process(this.run) === process(message.run_id) ? "replaced" : "restarted";
    this.run = message.run_id;
    if (!this.isUp || change) { this.isUp = true; this.told.up(change); }
    if (message.type === "advice") this.told.advice(message);
    else if (message.type === "fetch anew" || change) this.told.anew();
    else if (message.type === "beat" && message.revision !== this.revision) this.told.anew();
    this.revision = message.revision;
  }

  check() {
    const at = performance.now(), date = Date.now(), before = this.looked;
    this.looked = { at, date };
    if (document.hidden) return;
    if (Math.max(at - before.at, date - before.date) > SLEPT_MS) { this.wake(before.date - clock.aheadMs); return; }
    if (at - this.heard > GONE_MS && at > this.patientUntil) {
      if (!this.downSince) this.downSince = clock.nowMs() - (at - this.heard);
      this.isUp = false;
      this.told.down(this.downSince);
    }
    if (!this.isUp && at - this.openedAt > RETRY_MS) this.open();
  }

  // A tab that wakes looks first and warns after. A socket that was open over a sleep may be dead and not know it.
  wake(since = null) {
    this.heard = performance.now(); this.looked = { at: this.heard, date: Date.now() };
    this.patientUntil = this.heard + WAKES_MS;
    this.told.woke(since);
    this.open();
  }
}
