// Strokes: from the points of a pointer to prompts and brush strokes.

import { TOOLS } from "./session.js";
import { hits } from "./prompts.js";

const MOST_POINTS = 9000;
const round = (value) => Math.round(value * 100) / 100;

/** The stroke in hand. Nothing is sent before it ends, so what breaks off is that stroke alone. */
export class Strokes {
  constructor({ session, replica, view, painter, actions }) {
    Object.assign(this, { session, replica, view, painter, actions });
    this.points = null;
  }

  get image() {
    return this.replica.image(this.session.image);
  }

  /** Starts a stroke at a point of the canvas; false where there is nothing to draw on. */
  begin(px, py, opposite) {
    const image = this.image;
    if (!image || !this.actions.mayDraw(image)) return false;
    const at = this.at(px, py);
    const slack = this.session.width(image) / 2 + 12 / this.view.scale;
    const outside =
      at[0] < -slack || at[1] < -slack || at[0] > image.width + slack || at[1] > image.height + slack;
    if (outside) return false;
    this.points = [at];
    this.opposite = opposite;
    if (this.session.tool === "wipe") this.wipe(at);
    this.show();
    return true;
  }

  at(px, py) {
    const [x, y] = this.view.toPicture(px, py);
    return [round(x), round(y)];
  }

  /** Adds a point, unless it is less than a pixel away from the one before. */
  extend(px, py) {
    if (!this.points) return;
    const at = this.at(px, py);
    const [x, y] = this.points[this.points.length - 1];
    const near = Math.hypot(at[0] - x, at[1] - y) < 0.8 / Math.max(this.view.scale, 0.5);
    if (near || this.points.length >= MOST_POINTS) return;
    this.points.push(at);
    if (this.session.tool === "wipe") this.wipe(at);
    this.show();
  }

  get positive() {
    return this.session.positive !== this.opposite;
  }

  get prompt() {
    const { points, positive } = this;
    const last = points[points.length - 1];
    if (this.session.tool === "scribble") {
      return { kind: "scribble", points, width: this.session.width(this.image), positive };
    }
    if (this.session.tool === "point") return { kind: "point", xy: last, positive };
    if (this.session.tool !== "box") return null;
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    const [xs, ys] = [
      [points[0][0], last[0]],
      [points[0][1], last[1]],
    ];
    const { width, height } = this.image;
    return {
      kind: "box",
      x0: within(Math.min(...xs), width),
      y0: within(Math.min(...ys), height),
      x1: within(Math.max(...xs), width),
      y1: within(Math.max(...ys), height),
    };
  }

  get stroke() {
    const add = (this.session.tool === "brush") !== this.opposite;
    return { points: this.points, width: this.session.width(this.image), add };
  }

  show() {
    const brush = TOOLS[this.session.tool].width === "brush";
    const where = { image: this.session.image, cls: this.session.cls };
    if (brush) this.painter.live = { kind: "brush", ...where, stroke: this.stroke };
    else this.painter.live = { kind: "prompt", ...where, prompt: this.prompt };
    if (brush) this.painter.invalidate();
    else this.painter.invalidateInk();
  }

  cancel() {
    this.points = null;
    this.painter.live = null;
    this.painter.invalidate();
  }

  /** Ends the stroke and sends it. */
  end() {
    if (!this.points) return;
    const { prompt, stroke } = this;
    this.cancel();
    if (prompt) this.finish(prompt);
    else if (TOOLS[this.session.tool].width === "brush") this.actions.paint([stroke]);
  }

  finish(prompt) {
    const flat = prompt.kind === "box" && (prompt.x1 - prompt.x0 < 2 || prompt.y1 - prompt.y0 < 2);
    if (!flat) this.actions.addPrompt(prompt);
  }

  /** Takes away the uppermost prompt at a point, of the class in hand before all others. */
  wipe(at) {
    const image = this.session.image;
    const slack = 8 / this.view.scale;
    const classes = this.replica.classes().map((cls) => cls.id);
    classes.sort((a, b) => (b === this.session.cls) - (a === this.session.cls));
    for (const cls of classes) {
      const gone = new Set(this.actions.outbox.shows(image, cls).map((show) => show.gone));
      const there = this.replica.prompts(image, cls).filter((one) => !gone.has(one.id));
      const hit = there.reverse().find((one) => hits(one.prompt, at, slack));
      if (hit) {
        this.actions.deletePrompt(image, cls, hit.id);
        return;
      }
    }
  }
}
