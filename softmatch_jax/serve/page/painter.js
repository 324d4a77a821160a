// Paints the picture with its masks, match map and prompts, and above it what the pointer is doing.

import { drawPrompt, trace } from "./prompts.js";
import { newCanvas, rasterSize } from "./rasters.js";
import { perFrame } from "./dom.js";

const FILL = 0.42;

export class Painter {
  constructor({ base, ink, view, rasters, replica, session, outbox }) {
    Object.assign(this, { base, ink, view, rasters, replica, session, outbox });
    this.live = null;
    this.pointer = null;
    this.last = new Map();
    this.shownImage = null;
    this.invalidate = perFrame(() => this.paint());
    this.invalidateInk = perFrame(() => this.paintInk());
    view.onChange(() => this.invalidate());
  }

  /** Fits both canvases to the room they have, in device pixels. */
  resize() {
    const { clientWidth: width, clientHeight: height } = this.base.parentElement;
    const ratio = globalThis.devicePixelRatio || 1;
    for (const canvas of [this.base, this.ink]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.view.resize(width, height);
    this.invalidate();
  }

  cleared(canvas) {
    const context = canvas.getContext("2d");
    const ratio = globalThis.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width / ratio, canvas.height / ratio);
    return context;
  }

  paint() {
    const context = this.cleared(this.base);
    const image = this.replica.image(this.session.image);
    this.tellView(image);
    if (image?.id !== this.shownImage) {
      this.last.clear();
      this.shownImage = image?.id ?? null;
    }
    if (image) {
      this.paintPicture(context, image);
      if (this.session.show.heat) this.paintHeat(context, image);
      if (this.session.show.masks) this.paintMasks(context, image);
      if (this.session.show.prompts) this.paintPrompts(context, image);
    }
    this.paintInk();
  }

  /** Says on the element what is shown where, for tools that read the page. */
  tellView(image) {
    Object.assign(this.ink.dataset, {
      image: image?.id ?? "",
      scale: this.view.scale.toFixed(6),
      x: this.view.x.toFixed(3),
      y: this.view.y.toFixed(3),
      shown: image && this.session.cls ? (this.replica.shown(image.id, this.session.cls)?.raster ?? "") : "",
    });
  }

  place(context, source, image) {
    context.drawImage(
      source,
      this.view.x,
      this.view.y,
      image.width * this.view.scale,
      image.height * this.view.scale,
    );
  }

  paintPicture(context, image) {
    const bitmap = this.rasters.picture(image, this.view.scale);
    context.imageSmoothingEnabled = this.view.scale < 3;
    context.imageSmoothingQuality = "high";
    if (bitmap) {
      this.place(context, bitmap, image);
      return;
    }
    context.fillStyle = "rgba(127, 134, 148, 0.18)";
    const { x, y, scale } = this.view;
    context.fillRect(x, y, image.width * scale, image.height * scale);
  }

  paintHeat(context, image) {
    const found = this.replica.found(image.id)?.classes[this.session.cls];
    const map = found?.heat && this.rasters.heat(found.heat);
    context.imageSmoothingEnabled = true;
    if (map) this.place(context, map, image);
  }

  paintMasks(context, image) {
    context.imageSmoothingEnabled = this.view.scale < 3;
    for (const cls of this.replica.classes()) {
      const canvas = this.layerCanvas(image, cls);
      if (!canvas) continue;
      context.globalAlpha = cls.id === this.session.cls ? 1 : 0.7;
      this.place(context, canvas, image);
    }
    context.globalAlpha = 1;
  }

  /** A class's mask with the brush strokes that are not in it yet; or the one before until it is here. */
  layerCanvas(image, cls) {
    const shown = this.replica.shown(image.id, cls.id);
    // A match map shows through outlines alone.
    const outline = this.session.show.outline || this.session.show.heat;
    const tinted = shown && this.rasters.tinted(shown.raster, image, cls.colour, outline);
    if (shown && !tinted) return this.last.get(cls.id) || null;
    const strokes = this.brushStrokes(image.id, cls.id);
    const canvas = strokes.length ? brushed(tinted, image, cls.colour, strokes) : tinted;
    this.last.set(cls.id, canvas);
    return canvas;
  }

  brushStrokes(image, cls) {
    const strokes = this.outbox.shows(image, cls).flatMap((show) => show.strokes || []);
    const live = this.live;
    if (live?.kind === "brush" && live.image === image && live.cls === cls) strokes.push(live.stroke);
    return strokes;
  }

  paintPrompts(context, image) {
    const classes = this.replica.classes();
    // The class in hand is drawn last, above the others.
    classes.sort((a, b) => (a.id === this.session.cls) - (b.id === this.session.cls));
    for (const cls of classes) {
      const strength = cls.id === this.session.cls ? 1 : 0.35;
      const waiting = this.outbox.shows(image.id, cls.id);
      const gone = new Set(waiting.map((show) => show.gone));
      for (const { id, prompt } of this.replica.prompts(image.id, cls.id)) {
        if (!gone.has(id)) drawPrompt(context, this.view, prompt, cls.colour, strength);
      }
      for (const { prompt } of waiting)
        if (prompt) drawPrompt(context, this.view, prompt, cls.colour, strength);
    }
  }

  /** What is under way: the stroke in hand and the tip of the tool. */
  paintInk() {
    const context = this.cleared(this.ink);
    const colour = this.replica.get(`class/${this.session.cls}`)?.colour || "#8892a0";
    if (this.live?.prompt) drawPrompt(context, this.view, this.live.prompt, colour);
    if (this.pointer) this.paintTip(context, colour);
  }

  paintTip(context, colour) {
    const { x, y, width, negative } = this.pointer;
    if (!width || this.replica.image(this.session.image)?.status !== "open") return;
    context.beginPath();
    context.arc(x, y, Math.max((width * this.view.scale) / 2, 2), 0, 2 * Math.PI);
    context.lineWidth = 3;
    context.strokeStyle = "rgba(12, 16, 24, 0.55)";
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = negative ? "#ff5a4f" : "#ffffff";
    context.stroke();
    context.beginPath();
    context.arc(x, y, 1.5, 0, 2 * Math.PI);
    context.fillStyle = negative ? "#ff5a4f" : colour;
    context.fill();
  }
}

function brushed(tinted, image, colour, strokes) {
  const canvas = newCanvas(tinted || rasterSize(image));
  const context = canvas.getContext("2d");
  if (tinted) context.drawImage(tinted, 0, 0);
  const ratio = canvas.width / image.width;
  context.scale(ratio, ratio);
  for (const { points, width, add } of strokes) {
    trace(context, points);
    context.lineWidth = width;
    // Cleared first: paint over a mask is as bright as the mask, not brighter.
    context.globalCompositeOperation = "destination-out";
    context.globalAlpha = 1;
    context.stroke();
    if (!add) continue;
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = FILL;
    context.strokeStyle = colour;
    context.stroke();
    context.strokeStyle = "#000000";
  }
  return canvas;
}
