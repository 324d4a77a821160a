// The header: connection, engine, undo and redo, theme.

import { inWords } from "./actions.js";
import { perFrame, remember, remembered } from "./dom.js";

const THEMES = ["auto", "light", "dark"];
const NOTE_MS = 5000;

export class Status {
  constructor({ chip, text, undo, redo, theme, name, replica, outbox, actions, upload }) {
    Object.assign(this, { chip, text, undo, redo, theme, name, replica, outbox, actions, upload });
    this.state = "connecting";
    this.note = "";
    this.readOnly = false;
    this.refresh = perFrame(() => this.update());
    undo.addEventListener("click", () => actions.undo());
    redo.addEventListener("click", () => actions.redo());
    theme.addEventListener("click", () => this.nextTheme());
    name.addEventListener("change", () => this.rename());
    this.showTheme(remembered("theme", "auto"));
    addEventListener("beforeunload", (event) => {
      if (outbox.wouldLose || upload.busy) event.preventDefault();
    });
  }

  /** Hears of the connection. A note, such as that the server was restarted, stays for some seconds. */
  tell(state, note) {
    this.state = state;
    this.note = note;
    clearTimeout(this.timer);
    if (note) this.timer = setTimeout(() => this.tell(this.state, ""), NOTE_MS);
    this.update();
  }

  words() {
    const waiting = this.outbox.pending.length;
    const commands = `${waiting} ${waiting === 1 ? "command waits" : "commands wait"}`;
    if (this.state === "signed-out")
      return ["offline", "Signed out: open the address that the server printed"];
    if (this.state === "offline" || this.outbox.waiting === "offline") {
      return ["offline", waiting ? `Offline: ${commands}` : "Offline: trying again"];
    }
    if (this.state === "connecting") return ["busy", waiting ? `Connecting: ${commands}` : "Connecting …"];
    if (this.outbox.waiting === "busy") return ["busy", `Server is busy: ${commands}`];
    if (this.outbox.waiting === "full") return ["offline", `The disk is full: ${commands}`];
    if (this.note) return ["note", this.note];
    const engine = this.replica.live.get("live/engine");
    if (engine?.error) return ["offline", engine.error];
    if (engine && engine.ready === false) return ["busy", "Warming up the model …"];
    if (this.readOnly) return ["live", "Read only"];
    return waiting ? ["live", "Saving …"] : ["live", "All saved"];
  }

  update() {
    const [kind, text] = this.words();
    this.chip.dataset.state = kind;
    this.chip.dataset.waiting = this.outbox.pending.length;
    if (this.text.textContent !== text) this.text.textContent = text;
    const { undo, redo } = this.replica.history;
    this.button(this.undo, "Undo", undo, "Ctrl+Z");
    this.button(this.redo, "Redo", redo, "Ctrl+Shift+Z");
    if (document.activeElement !== this.name) this.name.value = this.replica.project.name;
    document.title = this.replica.project.name ? `${this.replica.project.name} - softmatch` : "softmatch";
  }

  button(button, word, what, keys) {
    button.disabled = !what;
    button.title = what ? `${word}: ${inWords(what)} (${keys})` : `Nothing to ${word.toLowerCase()}`;
  }

  rename() {
    const name = this.name.value.trim();
    if (name && name !== this.replica.project.name) this.actions.editProject({ name });
    else this.update();
  }

  nextTheme() {
    const now = remembered("theme", "auto");
    this.showTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  }

  showTheme(theme) {
    remember("theme", theme);
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    this.theme.title = `Theme: ${theme === "auto" ? "as the system" : theme}`;
    this.theme.setAttribute("aria-label", this.theme.title);
  }
}
