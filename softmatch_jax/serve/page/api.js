// The server's API. Errors carry the sentence of its problem documents.

/** The server answered that it will not do this. */
export class ApiError extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. A full disk may stay so for long, which is to be said. */
  get passing() {
    return (this.status === 429 || this.status === 408 || this.status >= 500) && this.status !== 507;
  }
}

/** No answer came: the server is away or the network is down. */
export class OfflineError extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** A random UUID; crypto.randomUUID is missing where the page is not served from loopback or https. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Not from this server: its status has to do.
  }
  if (Array.isArray(problem.detail)) problem.detail = problem.detail.map((one) => one.msg).join("; ");
  const wait = Number(answer.headers.get("Retry-After"));
  return new ApiError(answer.status, problem, wait > 0 ? wait : 1);
}

/** An answer of the server that is a success. */
export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new OfflineError();
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** Small bodies outlive the page: a command under way when a tab closes still arrives. */
export async function postJson(path, body) {
  const text = JSON.stringify(body);
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: text };
  return (await request(path, { ...options, keepalive: text.length < 30000 })).json();
}

export async function postFile(path, file, signal) {
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  return (await request(path, { method: "POST", headers, body: file, signal })).json();
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

const SLOWEST = 8;
/** How often a fault of the server is asked for again: what breaks it once may break it always. */
export const FAULTS = 5;

/** Runs a request again while the server is full or away, at most `tries` times. */
export async function patiently(ask, tries = 6) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      const later = error instanceof OfflineError || (error instanceof ApiError && error.passing);
      const most = error.status === 500 ? Math.min(tries, FAULTS) : tries;
      if (!later || attempt + 1 >= most) throw error;
      await sleep(Math.max(error.retryAfter || 0, Math.min(SLOWEST, 0.4 * 2 ** attempt)));
    }
  }
}
