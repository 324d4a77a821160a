// One message at a time, in one place, said aloud by screen readers.

import { el, iconButton } from "./dom.js";

const LONG = 8000;
const SHORT = 4000;

export class Toast {
  constructor(region) {
    this.region = region;
    this.timer = null;
    this.region.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.region.addEventListener("pointerleave", () => this.region.firstChild && this.fade(SHORT));
  }

  /** Shows a sentence, maybe with a way out, [name, what it does]; `here` says that it is of this picture. */
  say(text, { quiet = false, here = false, action = null } = {}) {
    this.here = here;
    const way =
      action &&
      el(
        "button",
        {
          type: "button",
          class: "toast-action",
          onclick: () => {
            this.clear();
            action[1]();
          },
        },
        action[0],
      );
    const close = iconButton("x", "Dismiss", () => this.clear());
    this.region.replaceChildren(
      el("div", { class: `toast ${quiet ? "quiet" : "loud"}` }, el("span", {}, text), way, close),
    );
    this.fade(quiet ? SHORT : LONG);
  }

  /** Takes away what was said of a picture that is shown no longer. */
  leave() {
    if (this.here) this.clear();
  }

  fade(after) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.clear(), after);
  }

  clear() {
    clearTimeout(this.timer);
    this.region.replaceChildren();
  }
}
