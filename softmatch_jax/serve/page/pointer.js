// Mouse, pen and fingers on the canvas: drawing, panning, zooming.

import { TOOLS } from "./session.js";

/** Routes pointer events of the canvas to strokes and to the view. */
export class Pointer {
  constructor({ canvas, session, replica, view, painter, strokes }) {
    Object.assign(this, { canvas, session, replica, view, painter, strokes });
    this.touches = new Map();
    this.mode = null;
    this.space = false;
    this.alt = false;
    // Once a pen was seen, fingers only move the picture: a resting hand draws nothing.
    this.penSeen = false;
    const on = (name, handle, options) => canvas.addEventListener(name, handle.bind(this), options);
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.broken);
    on("lostpointercapture", this.up);
    on("pointerleave", this.leave);
    on("wheel", this.wheel, { passive: false });
    on("contextmenu", (event) => event.preventDefault());
  }

  where(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  down(event) {
    event.preventDefault();
    // Keys belong to the picture again, whatever field was typed in.
    if (document.activeElement !== this.canvas) document.activeElement?.blur();
    if (this.mode && event.pointerType !== "touch") return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.where(event);
    this.at = at;
    if (event.pointerType === "pen") this.penSeen = true;
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, at);
      if (this.touches.size === 2) return this.pinch();
      if (this.touches.size > 2) return;
    }
    const finger = event.pointerType === "touch" && this.penSeen;
    if (finger || this.space || event.button === 1 || this.session.tool === "pan") this.mode = "pan";
    else if (event.button === 0 || event.button === 2 || event.button === 5) this.draw(event, at);
    this.id = event.pointerId;
    this.showCursor();
  }

  draw(event, at) {
    // Button 5 is the far end of a pen.
    const opposite = event.button === 2 || event.button === 5 || event.altKey;
    if (this.strokes.begin(...at, opposite)) this.mode = "draw";
  }

  /** A second finger turns what the first began into moving the picture. */
  pinch() {
    if (this.mode === "draw") this.strokes.cancel();
    this.mode = "pinch";
  }

  move(event) {
    const at = this.where(event);
    this.tip(event, at);
    if (this.mode === "pinch") return this.pinched(event, at);
    if (!this.mode || event.pointerId !== this.id) return;
    if (this.mode === "pan") this.view.pan(at[0] - this.at[0], at[1] - this.at[1]);
    else this.drawn(event);
    this.at = at;
  }

  drawn(event) {
    // A browser hands over fewer events than the pen reports; the others are in here.
    const all = event.getCoalescedEvents?.() || [];
    for (const one of all.length ? all : [event]) this.strokes.extend(...this.where(one));
  }

  pinched(event, at) {
    if (!this.touches.has(event.pointerId)) return;
    const measure = () => {
      const [[ax, ay], [bx, by]] = [...this.touches.values()];
      return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.hypot(ax - bx, ay - by) };
    };
    const before = measure();
    this.touches.set(event.pointerId, at);
    const after = measure();
    this.view.pan(after.x - before.x, after.y - before.y);
    if (before.apart > 0) this.view.zoomAt(after.x, after.y, after.apart / before.apart);
  }

  up(event) {
    this.touches.delete(event.pointerId);
    if (this.mode === "pinch") {
      if (this.touches.size < 2) this.mode = this.touches.size ? "spent" : null;
      return;
    }
    if (this.mode === "spent" && !this.touches.size) this.mode = null;
    if (event.pointerId !== this.id) return;
    if (this.mode === "draw") this.strokes.end();
    this.mode = null;
    this.showCursor();
  }

  broken(event) {
    if (this.mode === "draw" && event.pointerId === this.id) this.strokes.cancel();
    this.up(event);
  }

  leave() {
    this.painter.pointer = null;
    this.painter.invalidateInk();
  }

  tip(event, [x, y]) {
    if (event.pointerType === "touch") return;
    const { tool } = this.session;
    const width = this.session.width(this.replica.image(this.session.image));
    const flipped = event.altKey || (event.buttons & 2) !== 0;
    const plain = tool === "erase" || (TOOLS[tool].signed === true && !this.session.positive);
    this.alt = event.altKey;
    this.painter.pointer = { x, y, width, negative: plain !== flipped };
    this.painter.invalidateInk();
  }

  /** The tip follows a change of width at once. */
  refreshTip() {
    if (!this.painter.pointer) return;
    this.painter.pointer.width = this.session.width(this.replica.image(this.session.image));
    this.painter.invalidateInk();
  }

  wheel(event) {
    event.preventDefault();
    const turned = event.deltaY || event.deltaX;
    const pixels = turned * (event.deltaMode === 1 ? 32 : 1);
    if (event.shiftKey) {
      this.session.widen(Math.exp(-pixels / 500));
      return this.refreshTip();
    }
    // A pinch on a touchpad comes as a wheel with Ctrl and small steps.
    this.view.zoomAt(...this.where(event), Math.exp(-pixels / (event.ctrlKey ? 120 : 480)));
  }

  holdSpace(held) {
    this.space = held;
    this.showCursor();
  }

  showCursor() {
    const panning = this.mode === "pan" || this.space || this.session.tool === "pan";
    this.canvas.dataset.cursor = panning ? (this.mode === "pan" ? "grabbing" : "grab") : this.session.tool;
  }
}
