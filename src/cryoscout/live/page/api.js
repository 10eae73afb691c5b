// Everything that is asked of the server, and the socket. A page never guesses: what it does not know it fetches anew.
const BASE = "api/v1";
const GONE_MS = 2000;

export class Api {
  constructor() { this.session = null; this.asOf = null; }

  address(what, more = {}) {
    const address = new URL(`${BASE}/${what}`, document.baseURI);
    if (this.session) address.searchParams.set("session", this.session);
    if (this.asOf) address.searchParams.set("as_of", this.asOf);
    for (const [name, value] of Object.entries(more)) address.searchParams.set(name, value);
    return address;
  }

  async get(what, more) {
    const answer = await fetch(this.address(what, more));
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }

  async post(what, body) {
    const address = this.address(what);
    address.searchParams.delete("as_of");
    const answer = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }
}

async function refusal(answer) {
  let detail = answer.statusText;
  try { detail = (await answer.json()).detail || detail; } catch { /* an answer without JSON says its status alone */ }
  return Object.assign(new Error(detail), { status: answer.status });
}

// One socket, opened again for ever. told: advice(message), anew(), up(), down(since).
export class Link {
  constructor(api, told) {
    this.api = api; this.told = told; this.heard = performance.now(); this.isUp = false; this.run = null; this.wait = 300; this.began = Date.now();
    setInterval(() => this.check(), 500);
    // A tab that wakes looks first and warns after.
    document.addEventListener("visibilitychange", () => { if (!document.hidden) { this.heard = performance.now(); this.check(); if (!this.socket || this.socket.readyState > 1) this.open(); } });
    this.open();
  }

  open() {
    clearTimeout(this.later);
    if (this.socket) { this.socket.onclose = null; this.socket.close(); }
    const address = new URL(`${BASE}/socket`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    if (this.api.session) address.searchParams.set("session", this.api.session);
    this.socket = new WebSocket(address);
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = () => { this.later = setTimeout(() => this.open(), this.wait); this.wait = Math.min(5000, this.wait * 1.6); };
  }

  take(message) {
    this.heard = performance.now(); this.lastAt = Date.now(); this.wait = 300;
    if (message.at) this.offsetS = Date.now() / 1000 - message.at; // the browser's clock against the server's
    const restarted = this.run !== null && this.run !== message.run_id;
    this.run = message.run_id;
    if (!this.isUp) { this.isUp = true; this.told.up(restarted); }
    else if (restarted) this.told.up(true);
    if (message.type === "advice") this.told.advice(message);
    else if (message.type === "fetch anew" || restarted) this.told.anew();
    else if (message.type === "beat" && message.revision !== this.revision) this.told.anew();
    this.revision = message.revision;
  }

  check() {
    if (document.hidden) return;
    if (performance.now() - this.heard > GONE_MS && this.isUp !== false) { this.isUp = false; this.downSince = Date.now() - (performance.now() - this.heard); }
    if (!this.isUp) this.told.down(this.downSince || this.began);
  }
}
