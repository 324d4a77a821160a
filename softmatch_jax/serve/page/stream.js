// The event stream: keeps the replica up to date and says how the connection is.

import { ApiError, getJson } from "./api.js";

const SLOWEST = 8;

/** Follows the server; `tell(state, note)` hears "live", "connecting", "offline" and "signed-out". */
export class Stream {
  constructor(replica, tell) {
    this.replica = replica;
    this.tell = tell;
    this.waits = 0;
    this.source = null;
    this.timer = null;
    this.stopped = false;
    this.wasLive = false;
    this.note = "";
  }

  /** Fetches the whole state, then follows. */
  async start() {
    try {
      this.replica.reset(await getJson("/api/state"));
    } catch (error) {
      this.failed(error, () => this.start());
      return false;
    }
    this.follow();
    return true;
  }

  follow() {
    this.source?.close();
    const source = new EventSource(`/api/events?after=${this.replica.seq}`);
    this.source = source;
    source.addEventListener("hello", (event) => this.greet(JSON.parse(event.data)));
    source.addEventListener("entry", (event) => this.replica.apply(JSON.parse(event.data), true));
    source.addEventListener("live", (event) => this.replica.applyLive(JSON.parse(event.data)));
    source.addEventListener("reset", () => this.restart());
    source.addEventListener("error", () => this.lost());
  }

  /** A new boot is a new server process: its state is taken as a whole, in case its record was put back. */
  greet(hello) {
    this.waits = 0;
    if (hello.boot !== this.replica.boot || hello.seq < this.replica.seq) {
      this.note = "Server restarted: reconnected";
      this.restart();
      return;
    }
    this.tell("live", this.note || (this.wasLive ? "Reconnected" : ""));
    this.note = "";
    this.wasLive = true;
  }

  restart() {
    this.source?.close();
    this.start();
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
    if (!this.source || this.source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.timer);
    this.waits = 0;
    this.lost();
  }
}
