// Commands that were not answered yet, kept by the browser: they outlive a page that is closed or crashes.

import { newId } from "./api.js";

const PREFIX = "softmatch.unsent.";

/** Records {id, path, body, again, at, page} under the id of the project that they are for. */
export class Unsent {
  constructor() {
    this.page = newId();
    this.prefix = null;
    this.last = 0;
    // Held for as long as the page lives: its commands are its own until then.
    navigator.locks?.request(this.lock(this.page), () => new Promise(() => {})).catch(() => {});
  }

  lock(page) {
    return `softmatch.page.${page}`;
  }

  /** Says which project it is; before that nothing is kept. */
  open(project) {
    this.prefix = `${PREFIX}${project}.`;
  }

  /** The time, later each time that it is asked for. */
  now() {
    this.last = Math.max(Date.now(), this.last + 0.001);
    return this.last;
  }

  /** Keeps a command; false where the browser does not. */
  put(record) {
    if (!this.prefix) return false;
    try {
      localStorage.setItem(this.prefix + record.id, JSON.stringify({ page: this.page, ...record }));
      return true;
    } catch {
      return false;
    }
  }

  drop(id) {
    try {
      if (this.prefix) localStorage.removeItem(this.prefix + id);
    } catch {
      // Where nothing can be kept, nothing is there.
    }
  }

  /** Takes over the commands of pages that are gone, oldest first. */
  async adopt() {
    if (!this.prefix) return [];
    const take = async () => {
      const alive = await this.alive();
      const left = this.records().filter(({ page }) => page === null || (alive && !alive.has(page)));
      for (const record of left) this.put({ ...record, page: this.page });
      return left.sort((a, b) => a.at - b.at);
    };
    return navigator.locks ? navigator.locks.request(`${PREFIX}adopt`, take) : take();
  }

  /** Pages that live, or null where the browser does not say: then only those count that said goodbye. */
  async alive() {
    if (!navigator.locks) return null;
    const { held } = await navigator.locks.query();
    return new Set(held.map(({ name }) => name.replace(this.lock(""), "")));
  }

  records() {
    const records = [];
    try {
      for (const [key, text] of Object.entries(localStorage))
        if (key.startsWith(this.prefix)) records.push(JSON.parse(text));
    } catch {
      // What cannot be read was not written by this page.
    }
    return records;
  }
}
