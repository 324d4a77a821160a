// The event stream: keeps the replica up to date and says how the connection is.

import { ApiError, getJson } from "./api.js";
import { Relay, canShare } from "./relay.js";

const SLOWEST = 8;
const REST_MS = 30_000;

/** Follows the server; `tell(state, note)` hears "live", "connecting", "offline" and "signed-out". */
export class Stream {
  constructor(replica, tell) {
    this.replica = replica;
    this.tellPage = tell;
    this.state = "connecting";
    this.waits = 0;
    this.source = null;
    this.timer = null;
    this.wasLive = false;
    this.note = "";
    this.loading = null;
    this.behind = false;
    this.relay = canShare() ? new Relay(this) : null;
    if (!this.relay) document.addEventListener("visibilitychange", () => this.restWhileHidden());
  }

  /** Fetches the whole state, then follows. */
  async start() {
    this.source?.close();
    try {
      this.replica.reset(await this.load());
    } catch (error) {
      this.failed(error, () => this.start());
      return;
    }
    this.follow();
  }

  /** The state; asked for once, however many ask. */
  load() {
    this.loading ??= getJson("/api/state").finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  follow() {
    if (this.relay && !this.relay.leads) this.relay.ask(this.replica.seq);
    else this.open();
  }

  open() {
    this.source?.close();
    const after = this.replica.seq;
    this.relay?.begin(after);
    const source = new EventSource(`/api/events?after=${after}`);
    this.source = source;
    for (const name of ["hello", "entry", "live", "reset"]) {
      source.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        this.relay?.pass(name, name === "hello" ? { ...data, after } : data);
        this.hear(name, data);
      });
    }
    source.addEventListener("error", () => source === this.source && this.lost());
  }

  /** Takes an event, from the server or from the page that leads. */
  hear(name, data) {
    if (name === "hello") this.greet(data);
    else if (name === "entry") this.enter(data);
    else if (name === "live") this.replica.applyLive(data);
    else if (name === "reset") this.restart();
    else if (name === "state") this.tellOf(data);
  }

  /** Hears how the connection of the page that leads is; a page out of sight would try again too seldom. */
  tellOf({ state, hidden }) {
    this.tellPage(state, "");
    if (hidden && !document.hidden) this.relay.campaign(true);
  }

  /** Entries have no gaps: a page that missed one asks for it. */
  enter(entry) {
    if (this.loading || this.behind || entry.seq <= this.replica.seq) return;
    this.behind = !this.source && entry.seq > this.replica.seq + 1;
    if (this.behind) this.follow();
    else this.replica.apply(entry, true);
  }

  /** A new boot is a new server process: its state is taken as a whole, in case its record was put back. */
  greet(hello) {
    this.waits = 0;
    this.behind = false;
    const leads = Boolean(this.source);
    if (hello.boot !== this.replica.boot || (leads && hello.seq < this.replica.seq)) {
      this.note = this.wasLive || leads ? "Server restarted: reconnected" : "";
      this.restart();
      return;
    }
    // What came before the leader began to listen, only the server has.
    if (!leads && hello.after > this.replica.seq) {
      this.restart();
      return;
    }
    this.tell("live", this.note || (this.wasLive ? "Reconnected" : ""));
    this.note = "";
    this.wasLive = true;
  }

  restart() {
    if (this.source) this.start();
    // The leader and the server may be a moment apart: no page asks them in a circle without a pause.
    else this.later(() => this.start());
  }

  /** Says how the connection is, here and, where this page leads, on all others. */
  tell(state, note) {
    this.state = state;
    this.tellPage(state, note);
    if (this.relay?.leads && state !== "live") this.relay.pass("state", { state, hidden: document.hidden });
  }

  /** This page leads from now on. */
  lead() {
    if (this.replica.boot && !this.loading) this.open();
  }

  /** Another page leads: this one was asleep. */
  resign() {
    this.source?.close();
    this.source = null;
    if (this.replica.boot) this.follow();
  }

  /** Answers a page that came in, as the page that leads: with what it lacks, or how the connection is. */
  answer(after, post) {
    if (this.state !== "live" || !this.replica.boot) {
      post("state", { state: this.state, hidden: document.hidden });
      return;
    }
    const entries = this.relay.after(after);
    if (entries === null) {
      post("reset", {});
      return;
    }
    post("hello", { boot: this.replica.boot, seq: this.replica.seq, after: this.relay.since });
    for (const entry of entries) post("entry", entry);
    post("live", Object.fromEntries(this.replica.live));
  }

  /** An event source does not say why it ended; a plain request does. */
  async lost() {
    this.source?.close();
    this.tell("connecting", "");
    try {
      await getJson("/api/info");
      this.later(() => this.follow());
    } catch (error) {
      this.failed(error, () => this.lost());
    }
  }

  failed(error, again) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      this.tell("signed-out", "");
      return;
    }
    // A server that is full is there all the same.
    this.tell(error instanceof ApiError ? "connecting" : "offline", "");
    this.later(again, error.retryAfter);
  }

  later(again, atLeast = 0) {
    const wait = Math.max(atLeast, Math.min(SLOWEST, 0.25 * 2 ** this.waits));
    this.waits += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(again, 1000 * wait * (0.8 + 0.4 * Math.random()));
  }

  /** Tries at once: the network or the tab came back. */
  hurry() {
    if (!this.replica.boot) return;
    if (!this.source) {
      // Asking also finds out whether the page that leads is awake.
      if (this.relay && !this.relay.leads) this.relay.ask(this.replica.seq);
      return;
    }
    if (this.source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.timer);
    this.waits = 0;
    this.lost();
  }

  /** Where every page has a stream of its own, those out of sight do without after a while. */
  restWhileHidden() {
    clearTimeout(this.rest);
    if (document.hidden) this.rest = setTimeout(() => this.source?.close(), REST_MS);
  }
}
