// The gallery: all pictures with their masks, status and uncertainty.

import { el, icon, percent, perFrame } from "./dom.js";

const THUMBNAIL = 240;
const STATUS = { open: "open", accepted: "accepted", rejected: "rejected" };

const FILTERS = {
  all: () => true,
  open: (image) => image.status === "open",
  accepted: (image) => image.status === "accepted",
  rejected: (image) => image.status === "rejected",
  references: (image, references) => references.has(image.id),
};

export class Gallery {
  constructor({ list, count, search, filter, sort, replica, session, rasters, actions }) {
    Object.assign(this, { list, count, search, filter, sort, replica, session, rasters, actions });
    this.items = new Map();
    this.near = new Set();
    this.selected = null;
    this.observer = new IntersectionObserver((seen) => this.seen(seen), { root: list, rootMargin: "200px" });
    this.refresh = perFrame(() => this.update());
    search.addEventListener("input", () => session.set({ search: search.value }));
    filter.addEventListener("change", () => session.set({ filter: filter.value }));
    sort.value = session.sort;
    sort.addEventListener("change", () => session.set({ sort: sort.value }));
    list.addEventListener("keydown", (event) => this.keydown(event));
  }

  /** Pictures that pass the filter, as sorted. */
  listed() {
    const references = this.references();
    const words = this.session.search.trim().toLowerCase();
    const passes = FILTERS[this.session.filter];
    const images = this.replica
      .images()
      .filter((image) => passes(image, references) && image.name.toLowerCase().includes(words));
    if (this.session.sort === "order") return images;
    const rank = new Map(this.replica.mostUncertain().map((image, i) => [image.id, i]));
    const last = rank.size;
    return images.sort((a, b) => (rank.get(a.id) ?? last) - (rank.get(b.id) ?? last) || a.order - b.order);
  }

  references() {
    return new Set(this.replica.references().map((reference) => reference.image));
  }

  update() {
    const listed = this.listed();
    const total = this.replica.of("image").size;
    const decided = this.replica.images().filter((image) => image.status === "accepted").length;
    const text =
      listed.length === total ? `${decided} of ${total} accepted` : `${listed.length} of ${total} shown`;
    if (this.count.textContent !== text) this.count.textContent = text;
    const references = this.references();
    const nodes = listed.map((image) => this.item(image, references.has(image.id)));
    const same =
      nodes.length === this.list.children.length && nodes.every((node, i) => node === this.list.children[i]);
    if (!same) this.list.replaceChildren(...nodes);
    for (const id of [...this.items.keys()]) if (!this.replica.of("image").has(id)) this.forget(id);
    for (const node of this.near) this.paintMasks(node);
    this.follow();
  }

  /** Marks the selected picture, and brings it in sight when the selection moved. */
  follow() {
    const node = this.items.get(this.session.image)?.node || null;
    if (node === this.selected && node?.tabIndex === 0) return;
    if (this.selected) mark(this.selected, false);
    this.selected = node;
    if (node) mark(node, true);
    if (node?.isConnected) node.scrollIntoView({ block: "nearest", inline: "nearest" });
    else if (this.list.firstChild) this.list.firstChild.tabIndex = 0;
  }

  /** What is held changed: only some of it decides which pictures are listed. */
  heldChanged(names) {
    if (names.some((name) => ["filter", "sort", "search"].includes(name))) this.refresh();
    else this.follow();
  }

  forget(id) {
    const { node } = this.items.get(id);
    this.observer.unobserve(node);
    this.near.delete(node);
    this.items.delete(id);
  }

  item(image, reference) {
    const found = this.replica.found(image.id);
    const doubt = image.status === "open" && found && !found.error ? found.uncertainty : null;
    const trouble = found?.error || this.layerTrouble(image.id);
    const signature = JSON.stringify([image.status, image.name, reference, doubt, trouble]);
    let entry = this.items.get(image.id);
    if (!entry) {
      entry = { node: this.newItem(image), signature: "" };
      this.items.set(image.id, entry);
      this.observer.observe(entry.node);
    }
    if (entry.signature !== signature) {
      entry.signature = signature;
      this.fill(entry.node, image, reference, doubt, trouble);
    }
    return entry.node;
  }

  layerTrouble(image) {
    for (const { id } of this.replica.classes()) {
      const mask = this.replica.mask(image, id);
      if (mask?.error && this.replica.prompts(image, id).length) return mask.error;
    }
    return null;
  }

  newItem(image) {
    const [width, height] = fitted(image, THUMBNAIL);
    const picture = el("img", {
      class: "thumb-picture",
      alt: "",
      loading: "lazy",
      decoding: "async",
      draggable: false,
      width,
      height,
      src: `/api/images/${image.id}/preview?side=${THUMBNAIL}&digest=${image.digest}`,
    });
    retryMissing(picture);
    const masks = el("canvas", { class: "thumb-masks", width, height });
    const select = () => this.actions.select(image.id);
    return el(
      "li",
      {
        class: "thumb",
        role: "option",
        tabIndex: -1,
        "aria-selected": "false",
        data: { image: image.id },
        onclick: select,
        onfocus: select,
      },
      el("div", { class: "thumb-frame" }, picture, masks, el("div", { class: "thumb-badges" })),
      el("div", { class: "thumb-text" }),
    );
  }

  fill(node, image, reference, doubt, trouble) {
    node.dataset.status = image.status;
    const badges = [];
    if (reference) badges.push(badge("star", "reference", "Reference"));
    if (image.status === "accepted") badges.push(badge("check", "accepted", "Accepted"));
    if (image.status === "rejected") badges.push(badge("x", "rejected", "Rejected"));
    if (trouble) badges.push(badge("alert", "trouble", trouble));
    node.querySelector(".thumb-badges").replaceChildren(...badges);
    const meter = doubt !== null && !reference ? doubtMeter(doubt) : el("span", { class: "doubt none" });
    const name = el("span", { class: "thumb-name", title: image.name }, image.name);
    node.querySelector(".thumb-text").replaceChildren(meter, name);
    const words = [
      image.name,
      STATUS[image.status],
      reference && "reference",
      trouble,
      doubt !== null && `uncertainty ${percent(doubt)}`,
    ];
    node.setAttribute("aria-label", words.filter(Boolean).join(", "));
  }

  seen(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        this.near.add(target);
        this.paintMasks(target);
      } else {
        this.near.delete(target);
      }
    }
  }

  /** Masks over a thumbnail, drawn again only when other masks are shown. */
  paintMasks(node) {
    const image = this.replica.image(node.dataset.image);
    if (!image) return;
    const layers = this.replica.classes().map((cls) => [cls, this.replica.shown(image.id, cls.id)?.raster]);
    const shown = layers.filter(([, raster]) => raster);
    const key = shown.map(([cls, raster]) => `${raster}${cls.colour}`).join();
    if (node.dataset.masks === key) return;
    const canvas = node.querySelector("canvas");
    const size = { width: canvas.width, height: canvas.height };
    const tinted = shown.map(([cls, raster]) => this.rasters.thumbnail(raster, size, cls.colour));
    // What was there stays until all of the new is.
    if (tinted.includes(null)) return;
    node.dataset.masks = key;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const mask of tinted) {
      // Twice: a small picture needs a stronger tint to be told apart.
      context.drawImage(mask, 0, 0, canvas.width, canvas.height);
      context.drawImage(mask, 0, 0, canvas.width, canvas.height);
    }
  }

  keydown(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.step(step);
    this.list.querySelector(`[data-image="${this.session.image}"]`)?.focus({ preventScroll: true });
  }

  /** Selects the next or the previous picture of the list. */
  step(by) {
    const listed = this.listed();
    if (!listed.length) return;
    const at = listed.findIndex((image) => image.id === this.session.image);
    const to = at < 0 ? 0 : Math.min(Math.max(at + by, 0), listed.length - 1);
    this.actions.select(listed[to].id);
  }
}

function fitted({ width, height }, side) {
  const ratio = Math.min(1, side / Math.max(width, height));
  return [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
}

function mark(node, selected) {
  node.setAttribute("aria-selected", String(selected));
  node.tabIndex = selected ? 0 : -1;
}

/** A busy server may refuse a picture at first; a missing file stays missing. */
function retryMissing(picture) {
  let tries = 0;
  picture.addEventListener("load", () => picture.classList.remove("missing"));
  picture.addEventListener("error", () => {
    picture.classList.add("missing");
    tries += 1;
    if (tries <= 3)
      setTimeout(() => (picture.src = picture.src.replace(/(&try=.*)?$/, `&try=${tries}`)), 1500 * tries);
  });
}

const badge = (name, kind, label) => el("span", { class: `badge ${kind}`, title: label }, icon(name));

function doubtMeter(doubt) {
  const level = doubt < 0.34 ? "low" : doubt < 0.67 ? "middle" : "high";
  const bar = el(
    "span",
    { class: `doubt ${level}`, title: `Uncertainty ${percent(doubt)}` },
    el("span", { class: "doubt-fill" }),
  );
  bar.style.setProperty("--share", String(Math.max(doubt, 0.04)));
  return bar;
}
