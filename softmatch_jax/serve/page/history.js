// The record: what was done, when and on what, newest first.

import { getJson } from "./api.js";
import { el } from "./dom.js";

const PAGE = 200;
const ROWS = 40;

const count = (number, word) => `${number} ${number === 1 ? word : `${word}s`}`;

/** What each command did, in words; `{image, cls}` are names. */
const SENTENCES = {
  make: () => "Project made",
  add_prompt: ({ prompt }) => `${PROMPTS[prompt.kind]}${prompt.positive === false ? " beside it" : ""}`,
  delete_prompt: () => "Prompt removed",
  clear_layer: () => "Layer cleared",
  paint: ({ strokes }) => (strokes.every((one) => !one.add) ? "Erased from the mask" : "Painted"),
  promote: ({ reference }) => (reference ? "Made a reference" : "No longer a reference"),
  accept: ({ shown }) => `Accepted with ${count(Object.keys(shown).length, "mask")}`,
  reject: () => "Rejected",
  reopen: () => "Reopened",
  add_class: ({ name }) => `New class "${name}"`,
  edit_class: (what) => (what.order === undefined ? `Class changed: ${fields(what)}` : "Class moved"),
  delete_class: () => "Class deleted",
  delete_image: () => "Picture taken out",
  add_image: () => "Picture added",
  edit_project: (what) => `Project changed: ${fields(what)}`,
  import_masks: ({ rasters }) => `Imported ${count(Object.keys(rasters).length, "mask")}`,
};
const FIELDS = { automatic: "matching by itself", phrase: "text prompt" };
const SAID = { true: "on", false: "off", "": "taken away" };
const PROMPTS = { scribble: "Scribble", point: "Point", box: "Box" };

function fields(what) {
  const parts = Object.entries(what).filter(([name]) => name !== "do" && name !== "class");
  return parts.map(([name, value]) => `${FIELDS[name] || name} ${SAID[value] ?? value}`).join(", ");
}

/** Reads the log backwards, and folds what was undone into what it undid. */
class Backwards {
  constructor(last) {
    this.next = last;
    this.turned = new Map();
    this.names = new Map();
    this.derived = 0;
  }

  get ended() {
    return this.next <= 0;
  }

  /** The rows before those that were read already, at least one where there is any. */
  async more() {
    const rows = [];
    while (rows.length < ROWS && !this.ended) {
      const after = Math.max(0, this.next - PAGE);
      const { entries } = await getJson(`/api/log?after=${after}&limit=${this.next - after}`);
      for (const entry of entries) this.learn(entry);
      for (const entry of entries.reverse()) this.row(entry, rows);
      this.next = after;
    }
    return rows;
  }

  /** Names of things that may be gone by now. */
  learn({ changes }) {
    for (const [key, doc] of Object.entries(changes))
      if (doc?.name && !this.names.has(key)) this.names.set(key, doc.name);
  }

  row(entry, rows) {
    const { kind, what, at, seq } = entry;
    if (kind === "undo" || kind === "redo") {
      // Read backwards, the first word on an entry is the last that was said.
      if (!this.turned.has(what.of)) this.turned.set(what.of, kind === "undo" ? at : null);
      return;
    }
    if (kind === "derive") {
      this.derived += 1;
      return;
    }
    if (this.derived) rows.push({ results: this.derived });
    this.derived = 0;
    rows.push({ seq, what, at, undone: this.turned.get(seq) || null, image: imageOf(entry) });
  }
}

function imageOf({ what, changes }) {
  const added = Object.keys(changes).find((key) => key.startsWith("image/"));
  return what.image || (what.do === "add_image" && added ? added.slice(6) : null);
}

/** The record as a list that grows when its end comes in sight. */
export class History {
  constructor({ replica, session, actions }) {
    Object.assign(this, { replica, session, actions });
  }

  /** An element with the list; `leave` is called when a row is followed to its picture. */
  view(leave) {
    const list = el("ol", { class: "history", "aria-label": "What was done, newest first" });
    const more = el("button", { type: "button", class: "button quiet" }, "Earlier");
    const log = new Backwards(this.replica.history.seq);
    let day = "";
    const load = async () => {
      more.disabled = true;
      try {
        for (const row of await log.more()) {
          const on = row.at && new Date(row.at).toLocaleDateString([], { dateStyle: "full" });
          if (on && on !== day) list.append(el("li", { class: "history-day" }, on));
          if (on) day = on;
          list.append(row.results ? this.results(row) : this.item(row, log.names, leave));
        }
        more.hidden = log.ended;
      } catch (error) {
        list.append(el("li", { class: "hint" }, error.message));
      }
      more.disabled = false;
    };
    more.addEventListener("click", load);
    new IntersectionObserver(([seen]) => seen.isIntersecting && !more.disabled && load()).observe(more);
    return el("div", { class: "history-box" }, list, more);
  }

  results({ results }) {
    return el("li", { class: "history-results" }, `${count(results, "result")} of the model`);
  }

  item({ what, at, undone, image }, names, leave) {
    const name = (key) => this.replica.get(key)?.name ?? names.get(key) ?? key.split("/")[1];
    const words = SENTENCES[what.do]?.(what) ?? what.do.replaceAll("_", " ");
    const cls = what.class && what.do !== "add_class" ? name(`class/${what.class}`) : "";
    const picture = image ? name(`image/${image}`) : "";
    const where = [cls, picture].filter(Boolean).join(" · ");
    const there = image && this.replica.image(image);
    const go = () => {
      if (what.class && this.replica.get(`class/${what.class}`)) this.session.set({ cls: what.class });
      this.actions.select(image);
      leave();
    };
    const place = there
      ? el("button", { type: "button", class: "history-place", title: `Show ${where}`, onclick: go }, where)
      : el("span", { class: "history-place", title: where }, where);
    const text = el("span", { class: "history-text" }, el("span", { class: "history-words" }, words), place);
    const clock = (time) => new Date(time).toLocaleTimeString([], { timeStyle: "short", hourCycle: "h23" });
    const mark = undone ? el("span", { class: "history-undone" }, `undone ${clock(undone)}`) : null;
    const time = el("time", { dateTime: at, title: new Date(at).toLocaleString() }, clock(at));
    return el("li", { class: "history-row", data: { undone: String(Boolean(undone)) } }, time, text, mark);
  }
}
