// Keys: everything can be reached without a mouse but drawing itself.

import { TOOLS } from "./session.js";

/** The sheet of shortcuts, by group: keys, and what they do. */
export const SHORTCUTS = [
  [
    "Draw",
    [
      ["S", "Scribble"],
      ["D", "Point"],
      ["R", "Box"],
      ["T", "On the object / beside it"],
      ["Alt", "Beside it, while held (or the right button)"],
      ["B", "Brush: add to the mask"],
      ["E", "Brush: erase from the mask"],
      ["W", "Remove prompts"],
      ["[ ]", "Narrower, wider (or Shift and wheel)"],
      ["1 … 9", "Pick a class"],
      ["Alt+↑ Alt+↓", "Move the class in hand up, down"],
      ["C", "Name a new class"],
    ],
  ],
  [
    "Decide",
    [
      ["A Enter", "Accept, and next most uncertain"],
      ["X", "Reject, and next"],
      ["L", "Reopen"],
      ["P", "Make the mask a reference, or no longer"],
      ["N", "Next most uncertain"],
      ["J K", "Next, previous picture"],
      ["Ctrl+Z", "Undo"],
      ["Ctrl+Shift+Z", "Redo"],
    ],
  ],
  [
    "Look",
    [
      ["Wheel", "Zoom at the pointer"],
      ["Space", "Pan while held (or middle button, two fingers)"],
      ["V", "Pan"],
      ["F", "Fit"],
      ["0", "One to one"],
      ["+ −", "Zoom"],
      ["M", "Masks"],
      ["O", "Outlines"],
      ["H", "Match map"],
      ["G", "Prompts"],
    ],
  ],
  [
    "Project",
    [
      ["Ctrl+O", "Add pictures"],
      ["Ctrl+E", "Export"],
      ["Y", "History"],
      ["/", "Search pictures"],
      ["?", "This sheet"],
    ],
  ],
];

const TYPED =
  "input:not([type=checkbox]):not([type=radio]):not([type=file]), select, textarea, [contenteditable]";

export class Keys {
  constructor(parts) {
    Object.assign(this, parts);
    this.plain = this.plainKeys();
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => event.code === "Space" && this.pointer.holdSpace(false));
    addEventListener("blur", () => this.pointer.holdSpace(false));
  }

  plainKeys() {
    const { actions, session, view, gallery, dialogs, pointer } = this;
    const keys = {
      a: () => actions.accept(),
      enter: () => actions.accept(),
      x: () => actions.reject(),
      l: () => actions.reopen(),
      p: () => actions.promote(),
      n: () => actions.nextUncertain(),
      j: () => gallery.step(1),
      k: () => gallery.step(-1),
      t: () => session.set({ positive: !session.positive }),
      c: () => actions.askForClass(),
      f: () => view.fit(),
      0: () => view.actual(),
      "+": () => view.zoom(1.25),
      "=": () => view.zoom(1.25),
      "-": () => view.zoom(0.8),
      m: () => session.toggle("masks"),
      o: () => session.toggle("outline"),
      h: () => actions.toggleHeat(),
      g: () => session.toggle("prompts"),
      y: () => dialogs.record(),
      "?": () => dialogs.shortcuts(),
      "/": () => gallery.search.focus(),
      escape: () => this.strokes.cancel(),
    };
    keys["["] = () => this.widen(1 / 1.15);
    keys["]"] = () => this.widen(1.15);
    for (const [tool, { key }] of Object.entries(TOOLS))
      keys[key.toLowerCase()] = () => session.set({ tool });
    for (let n = 1; n <= 9; n += 1) keys[n] = () => this.classes.pick(n);
    this.refreshTip = () => pointer.refreshTip();
    return keys;
  }

  widen(factor) {
    this.session.widen(factor);
    this.refreshTip();
  }

  down(event) {
    if (this.dialogs.isOpen) return;
    if (event.target.matches?.(TYPED)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) return this.chord(event, key);
    if (event.altKey && key !== "alt") return this.moveClass(event, { arrowup: -1, arrowdown: 1 }[key]);
    if (event.code === "Space") return this.space(event);
    // Enter and Space belong to the button that has the focus.
    if (key === "enter" && event.target.matches?.("button, a, summary")) return null;
    if (key.startsWith("arrow")) return this.arrow(event, key);
    // Holding Alt alone would move the focus to the browser's menu.
    if (key === "alt") event.preventDefault();
    const act = this.plain[key];
    if (!act || (event.repeat && !"[]+=-jk".includes(key))) return null;
    event.preventDefault();
    return act();
  }

  chord(event, key) {
    const { actions } = this;
    const acts = {
      z: event.shiftKey ? () => actions.redo() : () => actions.undo(),
      y: () => actions.redo(),
      o: () => this.chooseFiles(),
      e: () => this.dialogs.exports(),
    };
    if (!acts[key]) return null;
    event.preventDefault();
    return acts[key]();
  }

  moveClass(event, by) {
    if (!by) return;
    event.preventDefault();
    this.actions.moveClass(this.session.cls, by);
  }

  space(event) {
    if (event.target.matches?.("button, a, summary, input")) return;
    event.preventDefault();
    this.pointer.holdSpace(true);
  }

  /** Arrows move the picture unless a list or a field has the focus. */
  arrow(event, key) {
    if (event.target !== this.canvas && event.target !== document.body) return;
    const step = 60;
    const [dx, dy] = {
      arrowleft: [step, 0],
      arrowright: [-step, 0],
      arrowup: [0, step],
      arrowdown: [0, -step],
    }[key];
    event.preventDefault();
    this.view.pan(dx, dy);
  }
}
