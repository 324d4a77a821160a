// One event stream for all pages of a browser: one of them, the leader, holds it and passes on what it brings.
//
// A browser opens few connections to a server that speaks HTTP/1.1, and a stream keeps one of them busy for
// ever: with a stream for each page, the seventh page would wait in vain.

import { newId } from "./api.js";

const NAME = "softmatch.stream";
const KEPT = 1000;
// A leader answers within milliseconds, unless the browser has put its page to sleep.
const PATIENCE_MS = 3000;

/** Whether pages of this browser can find each other; locks are missing where a page is not from https. */
export const canShare = () => Boolean(navigator.locks && window.BroadcastChannel);

/**
 * Elects a leader and carries its messages. The page's part is `{lead(), resign(), hear(name, data),
 * answer(after)}`: to begin and to stop leading, to take an event, and to answer a page that comes in.
 */
export class Relay {
  constructor(part) {
    this.part = part;
    this.page = newId();
    this.leads = false;
    this.recent = [];
    this.since = Infinity;
    this.channel = new BroadcastChannel(NAME);
    this.channel.addEventListener("message", ({ data }) => this.took(data));
    this.campaign(false);
  }

  /** Waits until no other page leads, then leads for as long as this page lives; `steal` does not wait. */
  campaign(steal) {
    const held = navigator.locks.request(NAME, { steal }, () => {
      clearTimeout(this.timer);
      this.leads = true;
      this.part.lead();
      return new Promise(() => {});
    });
    held.catch((error) => this.lostLead(error));
  }

  /** Another page took the lead, or the browser does not lend locks: then each page leads itself. */
  lostLead(error) {
    const stolen = error.name === "AbortError";
    if (this.leads !== stolen) return;
    this.leads = !stolen;
    if (stolen) this.part.resign();
    else this.part.lead();
    if (stolen) this.campaign(false);
  }

  took({ to, from, name, data }) {
    if (to && to !== this.page) return;
    if (name === "ask") {
      if (this.leads) this.part.answer(data.after, (...message) => this.post(from, ...message));
      return;
    }
    if (this.leads) return;
    clearTimeout(this.timer);
    this.part.hear(name, data);
  }

  post(to, name, data) {
    this.channel.postMessage({ to, from: this.page, name, data });
  }

  /** Asks the leader for what came after an entry; takes the lead where none answers. */
  ask(after) {
    this.post(null, "ask", { after });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => !this.leads && this.campaign(true), PATIENCE_MS);
  }

  /** As the leader: passes an event on, and keeps entries for pages that come in later. */
  pass(name, data) {
    if (name === "entry") {
      this.recent.push(data);
      if (this.recent.length > KEPT) this.since = this.recent.shift().seq;
    }
    this.post(null, name, data);
  }

  /** As the leader: begins to follow the server after an entry. */
  begin(after) {
    this.recent = [];
    this.since = after;
  }

  /** As the leader: the entries after a number, or null where it has them no longer. */
  after(seq) {
    return seq < this.since ? null : this.recent.filter((entry) => entry.seq > seq);
  }
}
