// Pictures, masks and match maps as they are painted: fetched once, tinted off screen, kept within bounds.

import { patiently, request } from "./api.js";

const MOST_BYTES = 400e6;
const LONGEST_SIDE = 2560;
const PREVIEWS = [1600, 4096];

/** What was made, oldest dropped first once it takes too much memory. */
class Shelf {
  constructor() {
    this.things = new Map();
    this.bytes = 0;
  }

  get(key) {
    const entry = this.things.get(key);
    if (!entry) return null;
    this.things.delete(key);
    this.things.set(key, entry);
    return entry.thing;
  }

  set(key, thing, bytes) {
    this.things.set(key, { thing, bytes });
    this.bytes += bytes;
    for (const [oldest, entry] of this.things) {
      if (this.bytes <= MOST_BYTES || oldest === key) break;
      this.things.delete(oldest);
      this.bytes -= entry.bytes;
      entry.thing.close?.();
    }
  }
}

export class Rasters {
  constructor(changed, report) {
    this.shelf = new Shelf();
    this.changed = changed;
    this.report = report;
    this.loading = new Set();
  }

  /** A thing of the shelf, or null while it is being fetched and made. */
  wanted(key, load) {
    const thing = this.shelf.get(key);
    if (!thing && !this.loading.has(key)) this.load(key, load);
    return thing;
  }

  async load(key, load) {
    this.loading.add(key);
    try {
      const [thing, bytes] = await load();
      this.shelf.set(key, thing, bytes);
      this.loading.delete(key);
      this.changed();
    } catch (error) {
      // Left among what is loading: it is not asked for in every frame again.
      this.report(error);
      setTimeout(() => this.loading.delete(key), 15000);
    }
  }

  /** The picture, upright, as fine as a scale needs or else as fine as there is. */
  picture(image, scale) {
    const longest = Math.max(image.width, image.height);
    const pixels = longest * scale * (globalThis.devicePixelRatio || 1);
    const side = pixels > PREVIEWS[0] * 1.15 && longest > PREVIEWS[0] ? PREVIEWS[1] : PREVIEWS[0];
    const fetched = (size) => this.wanted(`picture/${image.digest}/${size}`, () => preview(image, size));
    return fetched(side) || (side !== PREVIEWS[0] ? fetched(PREVIEWS[0]) : null);
  }

  /** A mask as numbers of objects, {width, height, numbers}; larger masks are reduced. */
  labels(digest, image) {
    return this.wanted(`labels/${digest}`, () => labels(digest, image));
  }

  /** A mask in a colour, filled with an edge or the edge alone, or null while it is not there. */
  tinted(digest, image, colour, outline) {
    const key = `tint/${digest}/${colour}/${outline}`;
    const ready = this.shelf.get(key);
    if (ready) return ready;
    const mask = this.labels(digest, image);
    if (!mask) return null;
    const canvas = coloured(mask, colour, outline);
    this.shelf.set(key, canvas, 4 * canvas.width * canvas.height);
    return canvas;
  }

  /** A mask in a colour at the size of a thumbnail. */
  thumbnail(digest, size, colour) {
    return this.wanted(`thumbnail/${digest}/${colour}`, async () => {
      const [small] = await numbered(`/api/rasters/${digest}`, size);
      const canvas = coloured(small, colour, false);
      return [canvas, 4 * canvas.width * canvas.height];
    });
  }

  /** A match map in colours from dark to bright, on its own grid. */
  heat(digest) {
    return this.wanted(`heat/${digest}`, () => heat(digest));
  }
}

const asBitmap = async (path, options) => {
  const blob = await patiently(async () => (await request(path)).blob());
  return createImageBitmap(blob, options);
};

async function preview({ id, digest }, side) {
  const bitmap = await asBitmap(`/api/images/${id}/preview?side=${side}&digest=${digest}`);
  return [bitmap, 4 * bitmap.width * bitmap.height];
}

/** Size in which masks of a picture are kept here. */
export function rasterSize(image) {
  const ratio = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  return {
    width: Math.max(1, Math.round(image.width * ratio)),
    height: Math.max(1, Math.round(image.height * ratio)),
  };
}

export function newCanvas({ width, height }) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

async function pixels(path, size) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  if (size)
    Object.assign(options, {
      resizeWidth: size.width,
      resizeHeight: size.height,
      resizeQuality: "pixelated",
    });
  const bitmap = await asBitmap(path, options);
  const context = newCanvas(bitmap).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const data = context.getImageData(0, 0, bitmap.width, bitmap.height);
  bitmap.close();
  return data;
}

function labels(digest, image) {
  const size = rasterSize(image);
  return numbered(`/api/rasters/${digest}`, size.width < image.width ? size : null);
}

async function numbered(path, size) {
  const { data, width, height } = await pixels(path, size);
  const numbers = new Uint8Array(width * height);
  for (let i = 0; i < numbers.length; i += 1) numbers[i] = data[4 * i + 3] ? data[4 * i] : 0;
  return [{ width, height, numbers }, numbers.length];
}

const FILL = 0.42;

/** RGBA as one number in the order of an image's bytes. */
const packed = (r, g, b, alpha) => ((Math.round(255 * alpha) << 24) | (b << 16) | (g << 8) | r) >>> 0;

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function coloured({ width, height, numbers }, colour, outline) {
  const canvas = newCanvas({ width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const fill = outline ? 0 : packed(...channels(colour), FILL);
  const edge = packed(...channels(colour), 1);
  const thick = Math.max(1, Math.round(Math.max(width, height) / 700));
  for (let y = 0, i = 0; y < height; y += 1) {
    const up = y >= thick ? -thick * width : 0;
    const down = y + thick < height ? thick * width : 0;
    for (let x = 0; x < width; x += 1, i += 1) {
      const n = numbers[i];
      if (!n) continue;
      const left = x >= thick ? -thick : 0;
      const right = x + thick < width ? thick : 0;
      const inside =
        numbers[i + left] === n &&
        numbers[i + right] === n &&
        numbers[i + up] === n &&
        numbers[i + down] === n;
      out[i] = inside ? fill : edge;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const HEAT = [
  [16, 12, 48],
  [92, 26, 110],
  [190, 52, 96],
  [246, 132, 62],
  [252, 238, 158],
];

function heatColour(value) {
  const at = (value / 255) * (HEAT.length - 1);
  const from = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[from].map((channel, i) => Math.round(channel + (HEAT[from + 1][i] - channel) * (at - from)));
}

async function heat(digest) {
  const data = await pixels(`/api/heat/${digest}`, null);
  const out = new Uint32Array(data.data.buffer);
  for (let i = 0; i < out.length; i += 1) {
    const value = data.data[4 * i];
    out[i] = packed(...heatColour(value), 0.55 + 0.3 * (value / 255));
  }
  const canvas = newCanvas(data);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return [canvas, 4 * out.length];
}
