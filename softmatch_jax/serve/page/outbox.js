// Commands on their way to the server: sent in order, tried again under the same id until answered.

import { ApiError, FAULTS, OfflineError, newId, postJson, sleep } from "./api.js";
import { Unsent } from "./unsent.js";

const SLOWEST = 8;

/**
 * A queue of commands. Each is made when its turn comes (`make()` gives {path, body}, or null for nothing to
 * do), so that it names what is shown after those before it. `pending` entries carry what the painter shows
 * until the answer is there.
 */
export class Outbox {
  constructor(replica, report) {
    this.replica = replica;
    this.report = report;
    this.pending = [];
    this.busy = false;
    this.waiting = "";
    this.listeners = new Set();
    this.unsent = new Unsent();
    addEventListener("pagehide", () => this.keepAll(null));
    addEventListener("pageshow", (event) => event.persisted && this.keepAll(this.unsent.page));
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  /** Queues a command; `show` is drawn meanwhile. Resolves to the answer, or null where it was refused. */
  send(make, { show = null, again = false } = {}) {
    return this.queue({ id: newId(), make, show, again });
  }

  queue(entry) {
    return new Promise((done) => {
      this.pending.push({ at: this.unsent.now(), ...entry, kept: false, done });
      this.keep(this.pending.at(-1));
      this.changed();
      this.work();
    });
  }

  /** Has the browser keep a command as it would be sent now. */
  keep(entry, made = entry.make()) {
    if (!made) return;
    const { id, again, at } = entry;
    const record = { id, again, at, path: made.path, body: made.body };
    entry.kept = this.unsent.put(record);
    entry.record = record;
  }

  /** Marks all that is kept as this page's own, or as left behind by it. */
  keepAll(page) {
    for (const entry of this.pending) if (entry.kept) this.unsent.put({ ...entry.record, page });
  }

  /** Whether a page that is closed now would lose a command. */
  get wouldLose() {
    return this.pending.some((entry) => !entry.kept);
  }

  /** Sends what pages left behind that are gone; gives the number of commands. */
  async open(project) {
    this.unsent.open(project);
    for (const entry of this.pending) this.keep(entry);
    const records = await this.unsent.adopt();
    // What a first undo would have undone was on a page that nobody sees any more.
    while (/(un|re)do$/.test(records[0]?.path)) this.unsent.drop(records.shift().id);
    for (const record of records) this.queue(this.adopted(record));
    return records.length;
  }

  /** A command of a page that is gone: as it was first, then over what is shown now. */
  adopted({ id, path, body, again, at }) {
    const { image, class: cls, prompt, strokes } = body.command || {};
    let asKept = true;
    const make = () => {
      if (asKept || !body.command) return { path, body };
      const shown = this.replica.shown(image, cls)?.raster ?? null;
      return { path, body: { ...body, command: { ...body.command, shown } } };
    };
    const drawn = typeof prompt === "object" ? { image, cls, prompt } : { image, cls, strokes };
    const entry = { id, at, again, show: prompt || strokes ? drawn : null, make };
    entry.tried = () => {
      asKept = false;
    };
    return entry;
  }

  command(command, options) {
    const make = typeof command === "function" ? command : () => command;
    return this.send(() => wrapped(make()), options);
  }

  async work() {
    if (this.busy) return;
    this.busy = true;
    while (this.pending.length) {
      const entry = this.pending[0];
      const answer = await this.deliver(entry).catch((error) => this.report(error));
      // The answer's documents are there before the entry goes: nothing flickers between the two.
      if (answer) this.replica.apply(answer, false);
      this.pending.shift();
      this.unsent.drop(entry.id);
      this.waiting = "";
      this.changed();
      entry.done(answer || null);
    }
    this.busy = false;
  }

  async deliver(entry) {
    let made = entry.make();
    this.keep(entry, made);
    entry.tried?.();
    for (let attempt = 0; made; attempt += 1) {
      try {
        return await postJson(made.path, { id: entry.id, ...made.body });
      } catch (error) {
        if (waits(error, attempt)) {
          await this.rest(error, attempt);
          continue;
        }
        const next = await this.remade(entry, made, error);
        if (!next) {
          this.report(error, made.body.command);
          return null;
        }
        made = next;
      }
    }
    return null;
  }

  async rest(error, attempt) {
    this.waiting = error instanceof OfflineError ? "offline" : (REASONS[error.status] ?? "busy");
    this.changed();
    const wait = Math.max(error.retryAfter || 0, Math.min(SLOWEST, 0.3 * 2 ** attempt));
    const woken = new Promise((wake) => {
      this.wake = wake;
    });
    await Promise.race([sleep(wait), woken]);
  }

  /** Tries again at once where the server was away, or did not know this page: it is back. */
  hurry() {
    if (this.waiting === "offline" || this.waiting === "signed-out") this.wake?.();
  }

  /** A brush stroke over a mask that the engine replaced meanwhile is meant for the mask now shown. */
  async remade(entry, made, error) {
    if (!entry.again || error.status !== 409) return null;
    entry.again = false;
    await sleep(0.4);
    const next = entry.make();
    if (!next || JSON.stringify(next.body) === JSON.stringify(made.body)) return null;
    const { id } = entry;
    entry.id = newId();
    this.keep(entry, next);
    this.unsent.drop(id);
    return next;
  }

  /** What waits for an answer and is to be drawn on a layer. */
  shows(image, cls) {
    return this.pending
      .map((entry) => entry.show)
      .filter((show) => show?.image === image && show.cls === cls);
  }
}

/** Whether a command is kept: until there is room on the disk, or this browser is signed in again. */
function waits(error, attempt) {
  if (error instanceof OfflineError) return true;
  if (!(error instanceof ApiError)) return false;
  if (error.status === 500) return attempt + 1 < FAULTS;
  return error.passing || error.status in REASONS;
}

const REASONS = { 401: "signed-out", 507: "full" };
const wrapped = (command) => command && { path: "/api/commands", body: { command } };
