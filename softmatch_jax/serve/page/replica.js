// The project's documents as this page knows them, and the questions one asks of them.

/** Documents by key, brought up to date by numbered entries that may come twice or early. */
export class Replica {
  constructor() {
    this.listeners = new Set();
    this.reset({ boot: "", seq: 0, docs: {}, live: {}, undo: null, redo: null });
  }

  /** Takes the whole state over. */
  reset(state) {
    this.boot = state.boot;
    this.seq = state.seq;
    this.docs = new Map(Object.entries(state.docs));
    this.live = new Map(Object.entries(state.live || {}));
    this.stamps = new Map();
    this.base = state.seq;
    this.index();
    this.history = { seq: state.seq, undo: state.undo, redo: state.redo };
    this.notify(null);
  }

  /** Documents by kind, then by the words after the kind: looked up far more often than changed. */
  index() {
    this.kinds = new Map();
    for (const [key, doc] of this.docs) this.file(key, doc);
  }

  file(key, doc) {
    const kind = key.split("/", 1)[0];
    const rest = key.slice(kind.length + 1);
    if (!this.kinds.has(kind)) this.kinds.set(kind, new Map());
    // Prompts are wanted by layer and in order, all others one by one.
    if (kind !== "prompt") {
      if (doc) this.kinds.get(kind).set(rest, doc);
      else this.kinds.get(kind).delete(rest);
      return;
    }
    const [image, cls, id] = rest.split("/");
    const layers = this.kinds.get("prompt");
    const list = (layers.get(`${image}/${cls}`) || []).filter((prompt) => prompt.id !== id);
    if (doc) list.push({ id, ...doc });
    if (list.length)
      layers.set(
        `${image}/${cls}`,
        list.sort((a, b) => a.order - b.order),
      );
    else layers.delete(`${image}/${cls}`);
  }

  /** Applies an entry. A document is never set back: the answer to a command may overtake the stream. */
  apply(entry, fromStream) {
    for (const [key, doc] of Object.entries(entry.changes)) {
      if ((this.stamps.get(key) ?? this.base) >= entry.seq) continue;
      this.stamps.set(key, entry.seq);
      if (doc === null) this.docs.delete(key);
      else this.docs.set(key, doc);
      this.file(key, doc);
    }
    if (entry.seq >= this.history.seq) this.history = { seq: entry.seq, undo: entry.undo, redo: entry.redo };
    if (fromStream) this.seq = Math.max(this.seq, entry.seq);
    this.notify(Object.keys(entry.changes));
  }

  /** Takes over documents that are not part of the record: progress and the engine's state. */
  applyLive(docs) {
    for (const [key, doc] of Object.entries(docs)) this.live.set(key, doc);
    this.notify([]);
  }

  notify(keys) {
    for (const listener of this.listeners) listener(keys);
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  get(key) {
    return this.docs.get(key) || null;
  }

  of(kind) {
    return this.kinds.get(kind) || new Map();
  }

  get project() {
    return this.get("project") || { name: "", seed: 0, automatic: true };
  }

  /** Classes as {id, ...}, in the order of the list. */
  classes() {
    const list = [...this.of("class")].map(([id, doc]) => ({ id, ...doc }));
    return list.sort((a, b) => a.order - b.order || byNumber(a, b));
  }

  /** Pictures as {id, ...}, in their order. */
  images() {
    const list = [...this.of("image")].map(([id, doc]) => ({ id, ...doc }));
    return list.sort((a, b) => a.order - b.order || byNumber(a, b));
  }

  image(id) {
    const doc = this.of("image").get(id);
    return doc ? { id, ...doc } : null;
  }

  layer(image, cls) {
    return this.get(`layer/${image}/${cls}`) || { reference: false, base: null, painted: null };
  }

  prompts(image, cls) {
    return this.of("prompt").get(`${image}/${cls}`) || [];
  }

  found(image) {
    return this.get(`found/${image}`);
  }

  mask(image, cls) {
    return this.get(`mask/${image}/${cls}`);
  }

  /**
   * The raster that is shown of a class on a picture and where it is from, or null: the accepted one; what
   * was painted; what prompts complete to and, until that is there, what they correct; what matching found.
   * The server applies the same rule, and refuses commands that say otherwise.
   */
  shown(image, cls) {
    const picture = this.of("image").get(image);
    if (!picture || !this.of("class").has(cls)) return null;
    if (picture.status === "accepted") return from("accepted", picture.accepted?.[cls]);
    const layer = this.layer(image, cls);
    if (layer.painted) return from("painted", layer.painted);
    if (this.prompts(image, cls).length) return from("prompts", this.mask(image, cls)?.raster || layer.base);
    return from("found", this.found(image)?.classes[cls]?.raster);
  }

  /** Rasters shown on a picture by class: what accepting it accepts. */
  allShown(image) {
    const shown = {};
    for (const { id } of this.classes()) {
      const layer = this.shown(image, id);
      if (layer) shown[id] = layer.raster;
    }
    return shown;
  }

  /** Layers that are examples for all other pictures, as {image, cls}. */
  references() {
    const list = [];
    for (const [key, layer] of this.of("layer")) {
      const [image, cls] = key.split("/");
      if (layer.reference && this.of("image").get(image)?.status !== "rejected") list.push({ image, cls });
    }
    return list;
  }

  /** Open pictures, most uncertain first; those that nothing is known of come after, references last. */
  mostUncertain() {
    const open = this.images().filter((image) => image.status === "open");
    const doubt = (image) => this.found(image.id)?.uncertainty ?? -1;
    const references = new Set(this.references().map((reference) => reference.image));
    const rank = (image) => (references.has(image.id) ? -2 : doubt(image));
    return open.sort((a, b) => rank(b) - rank(a) || a.order - b.order);
  }
}

const from = (source, raster) => (raster ? { raster, source } : null);
const byNumber = (a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1));
