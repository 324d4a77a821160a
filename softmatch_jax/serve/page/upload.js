// Pictures on their way into the project, with a list that says what became of each.

import { ApiError, newId, patiently, postFile } from "./api.js";
import { el, icon, perFrame } from "./dom.js";

const LISTED = 300;
const JUNK = /^(\.|thumbs\.db$|desktop\.ini$)/i;

/** All files of what was dropped, folders opened. */
export async function droppedFiles(transfer) {
  // Entries are gone once this handler returns to the browser: they are taken before anything is awaited.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files;
}

async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed)).catch(() => null);
    if (file) files.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  // A reader hands over a hundred at a time.
  for (;;) {
    const some = await new Promise((done) => reader.readEntries(done, () => done([])));
    if (!some.length) return;
    for (const one of some.sort((a, b) => a.name.localeCompare(b.name))) await walk(one, files);
  }
}

const isArchive = ({ name }) => /\.zip$/i.test(name);

/** The bytes of a file. Were they read while they are sent, one that is gone would look like a server away. */
async function bytesOf(file) {
  try {
    return new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    throw new Error("It cannot be read: it was moved or changed, or you may not read it. Drop it again.");
  }
}

export class Upload {
  constructor({ panel, list, summary, close, replica, actions, say, importArchive }) {
    Object.assign(this, { panel, list, summary, replica, actions, say, importArchive });
    this.files = [];
    this.running = false;
    this.maxBytes = 50e6;
    this.refresh = perFrame(() => this.update());
    close.addEventListener("click", () => this.dismiss());
  }

  get busy() {
    return this.running || this.files.some((one) => one.state === "waiting");
  }

  /** Queues files, {file, name}, in the order of their names. */
  add(files) {
    const wanted = files.filter(({ name }) => !JUNK.test(name.split("/").pop()));
    const archives = wanted.filter(isArchive);
    if (archives.length) this.importArchive(archives[0].file);
    if (archives.length > 1) this.say("Archives are imported one at a time; drop the others afterwards.");
    this.addPictures(wanted.filter((one) => !isArchive(one)));
    if (!wanted.length) this.say("There was no file in what you dropped.");
  }

  addPictures(wanted) {
    if (!wanted.length) return;
    wanted.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    for (const { file, name } of wanted)
      this.files.push({ file, name, id: newId(), state: "waiting", why: "", row: null });
    this.panel.hidden = false;
    this.refresh();
    // One after the other: pictures keep the order of their names.
    if (!this.running) this.next();
  }

  async next() {
    const one = this.files.find((file) => file.state === "waiting");
    if (!one) return;
    this.running = true;
    one.state = "sending";
    this.refresh();
    await this.sendOne(one);
    // The file may be large: only what the list says of it is kept.
    one.file = null;
    this.running = false;
    this.refresh();
    this.next();
  }

  async sendOne(one) {
    if (one.file.size > this.maxBytes) {
      const size = (bytes) => `${Math.round(bytes / 1e6)} MB`;
      this.refuse(one, `It has ${size(one.file.size)}; expected at most ${size(this.maxBytes)}.`);
      return;
    }
    // Some systems allow line breaks in names; the server and the list do not.
    const name = one.name.replace(/[\x00-\x1f\x7f]/g, "_").slice(-200);
    const query = new URLSearchParams({ name, id: one.id });
    try {
      const bytes = await bytesOf(one.file);
      const answer = await patiently(() => postFile(`/api/images?${query}`, bytes), 1000);
      if (answer.changes) this.replica.apply(answer, false);
      one.state = "added";
      if (!this.files.some((other) => other.first)) {
        one.first = true;
        if (this.replica.of("image").size <= this.files.length) this.actions.settle();
      }
    } catch (error) {
      this.refuse(one, error.message, error instanceof ApiError && error.status === 409);
    }
  }

  refuse(one, why, known = false) {
    one.state = known ? "known" : "refused";
    one.why = why;
  }

  update() {
    const count = (state) => this.files.filter((one) => one.state === state).length;
    const total = this.files.length;
    const done = total - count("waiting") - count("sending");
    const parts = [`${count("added")} added`];
    if (count("known")) parts.push(`${count("known")} already there`);
    if (count("refused")) parts.push(`${count("refused")} refused`);
    this.summary.textContent = done < total ? `Adding pictures: ${done} of ${total}` : parts.join(", ");
    this.panel.dataset.busy = String(this.busy);
    for (const one of this.files.slice(-LISTED)) this.showRow(one);
    if (!this.busy && !count("refused") && !count("known")) this.later();
  }

  showRow(one) {
    if (!one.row) {
      one.row = el("li");
      this.list.append(one.row);
    }
    if (one.row.dataset.state === one.state) return;
    one.row.dataset.state = one.state;
    const symbol = { added: "check", refused: "alert", known: "check" }[one.state] || "image";
    one.row.replaceChildren(
      icon(symbol),
      el("span", { class: "file-name", title: one.name }, one.name),
      el(
        "span",
        { class: "file-why" },
        one.why || { waiting: "", sending: "sending …", added: "added" }[one.state],
      ),
    );
  }

  /** A list in which all went well goes by itself. */
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => !this.busy && this.dismiss(), 2500);
  }

  dismiss() {
    this.panel.hidden = true;
    if (this.busy) return;
    this.files = [];
    this.list.replaceChildren();
  }
}
