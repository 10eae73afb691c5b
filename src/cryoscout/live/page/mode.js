// How the advice reaches the microscope: which mode holds, what each does, and the one that lets a bridge be obeyed.
import { $, button, el, say } from "./dom.js";
import { time } from "./words.js";

const SAYS = {
  watch: "Nothing is written for the microscope.",
  suggest: "The next holes are written for people and scripts; nothing has to be done.",
  send: "What the bridge hands over is obeyed by the microscope's software. It ends by itself after these minutes.",
};
const MINUTES = { least: 1, most: 1440, first: 60 };

export class ModePanel {
  constructor(send) {
    this.send = send;
    this.minutes = el("input", { type: "number", min: MINUTES.least, max: MINUTES.most, step: 1, value: MINUTES.first, ariaLabel: "minutes for which sending is armed" });
    this.minutes.addEventListener("keydown", (event) => { if (event.key === "Enter") this.choose("send"); });
    this.state = el("p", { className: "quiet", role: "status" });
    this.hands = el("p", { className: "quiet" });
    this.buttons = { watch: button("Watch", () => this.choose("watch")), suggest: button("Suggest", () => this.choose("suggest")), send: button("Send", () => this.choose("send")) };
    this.rows = Object.fromEntries(Object.entries(SAYS).map(([mode, words]) => [mode, el("div", { className: "mode" },
      el("b", { text: mode.toUpperCase() }),
      el("span", { className: "choice" }, ...(mode === "send" ? [this.minutes, el("span", { text: "min" })] : []), this.buttons[mode]),
      el("p", { text: words }))]));
    $("tab-mode").replaceChildren(el("h2", { className: "sub", text: "How the advice reaches the microscope" }), ...Object.values(this.rows), this.hands, this.state);
  }

  async choose(mode) {
    const minutes = Number(this.minutes.value);
    if (mode === "send" && !(minutes >= MINUTES.least && minutes <= MINUTES.most)) { say(this.state, `Minutes must be ${MINUTES.least} to ${MINUTES.most}.`); this.minutes.focus(); return; }
    say(this.state, "sending");
    say(this.state, (await this.send(mode === "send" ? { mode, minutes } : { mode })).sentence);
  }

  show(session, mayWrite) {
    if (!session) return;
    const { mode, bridge } = session, until = session.armed_until ? `until ${time(session.armed_until)}` : "";
    $("mode").dataset.mode = mode;
    say($("mode-name"), mode.toUpperCase()); say($("mode-until"), until);
    $("mode").title = `${mode}${until ? ` ${until}` : ""}: ${SAYS[mode]} (key w)`;
    for (const [name, row] of Object.entries(this.rows)) row.dataset.is = String(name === mode);
    const canWrite = session.writes_files || Boolean(bridge);
    for (const [name, each] of Object.entries(this.buttons)) each.disabled = !mayWrite || (name !== "watch" && !canWrite);
    say(this.buttons.send, mode === "send" ? "Send longer" : "Send");
    say(this.hands, !canWrite ? "This server has no folder to write to: start serve again with --export-to FOLDER to use the other modes. Nothing that was said is lost."
      : bridge ? `Bridge: ${bridge}.` : "No bridge: next.json says that it is to be obeyed, for a script of your own. With --bridge, serve hands it over itself.");
  }
}
