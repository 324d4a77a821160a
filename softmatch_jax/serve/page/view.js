// Where the picture lies on the canvas: screen = picture * scale + (x, y), in CSS pixels.

// Room for the tools that float over the canvas.
const MARGIN = { left: 68, top: 66, right: 20, bottom: 20 };
const CLOSEST = 40;

export class View {
  constructor() {
    this.width = 1;
    this.height = 1;
    this.picture = { width: 1, height: 1 };
    this.fitted = true;
    this.listeners = new Set();
    this.scale = 1;
    this.x = 0;
    this.y = 0;
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  /** Tells the size of the canvas; a picture that fitted still does. */
  resize(width, height) {
    this.width = width;
    this.height = height;
    if (this.fitted) this.fit();
    else this.changed();
  }

  /** Shows another picture, as a whole. */
  show(picture) {
    this.picture = picture;
    this.fit();
  }

  get fitScale() {
    const across = Math.max(this.width - MARGIN.left - MARGIN.right, 40) / this.picture.width;
    const down = Math.max(this.height - MARGIN.top - MARGIN.bottom, 40) / this.picture.height;
    return Math.min(across, down, 8);
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    const middle = (room, before, after, size) => before + (room - before - after - size * this.scale) / 2;
    this.x = middle(this.width, MARGIN.left, MARGIN.right, this.picture.width);
    this.y = middle(this.height, MARGIN.top, MARGIN.bottom, this.picture.height);
    this.changed();
  }

  /** Zooms so that what is at a point of the canvas stays there. */
  zoomAt(px, py, factor) {
    const least = Math.min(this.fitScale, 1) / 4;
    const scale = Math.min(Math.max(this.scale * factor, least), CLOSEST);
    const ratio = scale / this.scale;
    this.x = px - (px - this.x) * ratio;
    this.y = py - (py - this.y) * ratio;
    this.scale = scale;
    this.fitted = false;
    this.keep();
    this.changed();
  }

  zoom(factor) {
    this.zoomAt(this.width / 2, this.height / 2, factor);
  }

  actual() {
    this.zoom(1 / this.scale);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.keep();
    this.changed();
  }

  /** A corner of the picture always stays in sight. */
  keep() {
    const bound = (at, room, size) => Math.min(Math.max(at, 60 - size), room - 60);
    this.x = bound(this.x, this.width, this.picture.width * this.scale);
    this.y = bound(this.y, this.height, this.picture.height * this.scale);
  }

  toPicture(px, py) {
    return [(px - this.x) / this.scale, (py - this.y) / this.scale];
  }

  toScreen(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }
}
