// Commands on their way to the server: sent in order, tried again under the same id until answered.

import { ApiError, OfflineError, newId, postJson, sleep } from "./api.js";

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
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  /** Queues a command; `show` is drawn meanwhile. Resolves to the answer, or null where it was refused. */
  send(make, { show = null, again = false } = {}) {
    return new Promise((done) => {
      this.pending.push({ id: newId(), make, show, again, done });
      this.changed();
      this.work();
    });
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
      this.waiting = "";
      this.changed();
      entry.done(answer || null);
    }
    this.busy = false;
  }

  async deliver(entry) {
    let made = entry.make();
    for (let attempt = 0; made; attempt += 1) {
      try {
        return await postJson(made.path, { id: entry.id, ...made.body });
      } catch (error) {
        if (error instanceof OfflineError || (error instanceof ApiError && error.passing)) {
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
    this.waiting = error instanceof OfflineError ? "offline" : "busy";
    this.changed();
    const wait = Math.max(error.retryAfter || 0, Math.min(SLOWEST, 0.3 * 2 ** attempt));
    const woken = new Promise((wake) => {
      this.wake = wake;
    });
    await Promise.race([sleep(wait), woken]);
  }

  /** Tries again at once where the server was away: it is back. */
  hurry() {
    if (this.waiting === "offline") this.wake?.();
  }

  /** A brush stroke over a mask that the engine replaced meanwhile is meant for the mask now shown. */
  async remade(entry, made, error) {
    if (!entry.again || error.status !== 409) return null;
    entry.again = false;
    await sleep(0.4);
    const next = entry.make();
    if (!next || JSON.stringify(next.body) === JSON.stringify(made.body)) return null;
    entry.id = newId();
    return next;
  }

  /** What waits for an answer and is to be drawn on a layer. */
  shows(image, cls) {
    return this.pending
      .map((entry) => entry.show)
      .filter((show) => show?.image === image && show.cls === cls);
  }
}

const wrapped = (command) => command && { path: "/api/commands", body: { command } };
