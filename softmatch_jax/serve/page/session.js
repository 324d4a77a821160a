// What this page is looking at and holding: picture, class, tool. Preferences are kept in the browser.

import { remember, remembered } from "./dom.js";

/** Tools: what they draw, their key, and whether they have a width. */
export const TOOLS = {
  scribble: { label: "Scribble", key: "S", signed: true, width: "scribble" },
  point: { label: "Point", key: "D", signed: true },
  box: { label: "Box", key: "R" },
  brush: { label: "Brush: add to the mask", key: "B", width: "brush" },
  erase: { label: "Brush: erase from the mask", key: "E", width: "brush" },
  wipe: { label: "Remove prompts", key: "W" },
  pan: { label: "Pan", key: "V" },
};

const WIDEST = 2000; // pixels; the server takes no wider stroke
const WIDTHS = { scribble: 0.01, brush: 0.025 };

export class Session {
  constructor() {
    this.image = remembered("image", null);
    this.cls = remembered("class", null);
    this.tool = "scribble";
    this.positive = true;
    this.show = remembered("show", { masks: true, outline: false, heat: false, prompts: true });
    // Widths are shares of the picture's longer side, so that a width suits pictures of any size.
    this.widths = remembered("widths", WIDTHS);
    this.filter = "all";
    this.sort = remembered("sort", "order");
    this.search = "";
    this.listeners = new Set();
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  set(changes) {
    Object.assign(this, changes);
    remember("image", this.image);
    remember("class", this.cls);
    remember("show", this.show);
    remember("widths", this.widths);
    remember("sort", this.sort);
    for (const listener of this.listeners) listener(Object.keys(changes));
  }

  toggle(name) {
    this.set({ show: { ...this.show, [name]: !this.show[name] } });
  }

  /** Width of the tool in hand, in pixels of a picture; 0 for a tool without. */
  width(image) {
    const kind = TOOLS[this.tool].width;
    if (!kind || !image) return 0;
    const width = Math.round(this.widths[kind] * Math.max(image.width, image.height));
    return Math.min(Math.max(width, 1), WIDEST);
  }

  /** Makes the tool in hand wider or narrower. */
  widen(factor) {
    const kind = TOOLS[this.tool].width;
    if (!kind) return;
    const width = Math.min(Math.max(this.widths[kind] * factor, 0.001), 0.3);
    this.set({ widths: { ...this.widths, [kind]: width } });
  }
}
