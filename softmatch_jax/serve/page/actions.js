// What a person can do, as commands; every button and key ends here.

import { patiently, postJson } from "./api.js";
import { moved } from "./ordering.js";

export class Actions {
  constructor({ replica, session, outbox, toast }) {
    Object.assign(this, { replica, session, outbox, toast });
    // Layers whose prompts were sent and whose mask has not come back.
    this.waiting = new Set();
    this.moving = Promise.resolve();
    replica.onChange((keys) => this.arrived(keys));
  }

  arrived(keys) {
    if (keys === null) this.waiting.clear();
    else for (const key of keys) if (key.startsWith("mask/")) this.waiting.delete(key.slice(5));
  }

  /** Whether the class in hand can be drawn on a picture; says why not. */
  mayDraw(image) {
    if (image.status === "accepted") {
      this.toast("This picture is accepted, so its masks are locked.", {
        here: true,
        action: ["Reopen", () => this.reopen()],
      });
    } else if (image.status === "rejected") {
      this.toast("This picture is rejected.", { here: true, action: ["Take it back", () => this.reopen()] });
    } else if (!this.replica.get(`class/${this.session.cls}`)) {
      this.toast("Name a class first: what is it that you want to find?");
      this.askForClass?.();
    } else {
      return true;
    }
    return false;
  }

  /** Shows the match map, or says why there is none. */
  toggleHeat() {
    this.session.toggle("heat");
    const found = this.replica.found(this.session.image)?.classes[this.session.cls];
    if (!this.session.show.heat || found?.heat) return;
    this.toast("This class has no match map here: maps come with matching, and references are not matched.", {
      quiet: true,
      here: true,
    });
  }

  get at() {
    return { image: this.session.image, cls: this.session.cls };
  }

  raster(image, cls) {
    return this.replica.shown(image, cls)?.raster ?? null;
  }

  async addPrompt(prompt) {
    const { image, cls } = this.at;
    const make = () => ({ do: "add_prompt", image, class: cls, prompt, shown: this.raster(image, cls) });
    this.waiting.add(`${image}/${cls}`);
    const answer = await this.outbox.command(make, { show: { image, cls, prompt }, again: true });
    if (!answer) this.waiting.delete(`${image}/${cls}`);
  }

  paint(strokes) {
    const { image, cls } = this.at;
    const make = () => ({ do: "paint", image, class: cls, shown: this.raster(image, cls), strokes });
    return this.outbox.command(make, { show: { image, cls, strokes }, again: true });
  }

  deletePrompt(image, cls, prompt) {
    const command = { do: "delete_prompt", image, class: cls, prompt };
    return this.outbox.command(command, { show: { image, cls, gone: prompt } });
  }

  clearLayer() {
    const { image, cls } = this.at;
    return this.outbox.command({ do: "clear_layer", image, class: cls });
  }

  /** Makes the shown mask a reference, or takes that back. */
  promote(image = this.session.image, cls = this.session.cls, wanted = undefined) {
    const layer = this.replica.layer(image, cls);
    const reference = wanted ?? !layer.reference;
    if (reference && !this.replica.shown(image, cls)) {
      this.toast(
        "There is no mask of this class here to promote: draw one, or wait for matching to find it.",
      );
      return null;
    }
    const make = () => ({ do: "promote", image, class: cls, reference, shown: this.raster(image, cls) });
    return this.outbox.command(make, { again: true });
  }

  /** Accepts exactly the masks that are shown and goes on to the next most uncertain picture. */
  accept() {
    const { image } = this.session;
    const picture = this.replica.image(image);
    if (!picture) return;
    const unseen =
      !Object.keys(this.replica.allShown(image)).length &&
      !this.replica.found(image) &&
      !this.outbox.pending.length;
    if (picture.status === "open" && unseen) {
      const anyway = ["Accept as empty", () => this.acceptAsShown(image)];
      this.toast("No mask is shown here, and matching has not come to this picture.", {
        here: true,
        action: anyway,
      });
      return;
    }
    if (picture.status === "open") this.acceptAsShown(image);
    else this.nextUncertain();
  }

  acceptAsShown(image) {
    this.outbox.command(() => ({ do: "accept", image, shown: this.replica.allShown(image) }));
    this.nextUncertain();
  }

  reject() {
    const { image } = this.session;
    const picture = this.replica.image(image);
    if (!picture) return;
    if (picture.status === "rejected") {
      this.reopen();
      return;
    }
    if (picture.status === "accepted") {
      this.toast("This picture is accepted: reopen it before you reject it.", {
        here: true,
        action: ["Reopen", () => this.reopen()],
      });
      return;
    }
    this.outbox.command({ do: "reject", image });
    this.nextUncertain();
  }

  reopen() {
    const picture = this.replica.image(this.session.image);
    if (picture && picture.status !== "open") return this.outbox.command({ do: "reopen", image: picture.id });
    return null;
  }

  /** Shows the open picture that deserves a look most. */
  nextUncertain() {
    const next = this.replica.mostUncertain().find((image) => image.id !== this.session.image);
    if (next) this.select(next.id);
    else this.toast("No other picture is open: all are accepted or rejected.", { quiet: true });
  }

  select(image) {
    if (image === this.session.image) return;
    this.session.set({ image });
    this.tellView();
  }

  /** Tells the server what is on view: that is matched first. Nothing depends on its arriving. */
  tellView() {
    postJson("/api/view", { image: this.replica.image(this.session.image)?.id ?? null }).catch(() => {});
  }

  async undo() {
    this.showChanged(await this.outbox.send(() => ({ path: "/api/undo", body: {} })));
  }

  async redo() {
    this.showChanged(await this.outbox.send(() => ({ path: "/api/redo", body: {} })));
  }

  /** Goes to the picture that undoing changed: nothing happens out of sight. */
  showChanged(answer) {
    const images = new Set();
    for (const key of Object.keys(answer?.changes || {})) {
      const [kind, id] = key.split("/");
      if (["image", "layer", "prompt"].includes(kind)) images.add(id);
    }
    const [only] = images;
    if (images.size === 1 && this.replica.image(only)) this.select(only);
  }

  async addClass(name) {
    const before = new Set(this.replica.classes().map((cls) => cls.id));
    await this.outbox.command({ do: "add_class", name });
    const added = this.replica.classes().find((cls) => !before.has(cls.id) && cls.name === name);
    if (added) this.session.set({ cls: added.id });
  }

  editClass(cls, fields) {
    return this.outbox.command({ do: "edit_class", class: cls, ...fields });
  }

  /** Moves a class up (-1) or down (1) in the list, which decides its key. */
  moveClass(cls, by) {
    // Each step starts from the order that the one before it made.
    this.moving = this.moving.then(async () => {
      for (const { id, order } of moved(this.replica.classes(), cls, by)) await this.editClass(id, { order });
    });
    return this.moving;
  }

  async deleteClass(cls) {
    const { name } = this.replica.get(`class/${cls}`);
    const answer = await this.outbox.command({ do: "delete_class", class: cls });
    if (answer)
      this.toast(`Class "${name}" deleted with its masks.`, {
        quiet: true,
        action: ["Undo", () => this.undo()],
      });
  }

  async deleteImage(image) {
    const { name } = this.replica.image(image);
    this.nextUncertain();
    const answer = await this.outbox.command({ do: "delete_image", image });
    if (answer) this.toast(`"${name}" taken out.`, { quiet: true, action: ["Undo", () => this.undo()] });
  }

  editProject(fields) {
    return this.outbox.command({ do: "edit_project", ...fields });
  }

  async matching(action) {
    try {
      await patiently(() => postJson("/api/matching", { action }), 3);
    } catch (error) {
      this.toast(error.message);
    }
  }

  /** Keeps picture and class pointing at things that exist. */
  settle() {
    const classes = this.replica.classes();
    const { image, cls } = this.session;
    if (!classes.some((one) => one.id === cls) && (classes.length || cls)) {
      this.session.set({ cls: classes[0]?.id ?? null });
    }
    const images = this.replica.images();
    if (!images.some((one) => one.id === image) && (images.length || image)) {
      this.session.set({ image: images[0]?.id ?? null });
      this.tellView();
    }
  }
}

const WORDS = {
  add_prompt: "prompt",
  delete_prompt: "removed prompt",
  clear_layer: "clearing",
  paint: "brush stroke",
  promote: "reference",
  accept: "accepting",
  reject: "rejecting",
  reopen: "reopening",
  add_class: "new class",
  edit_class: "change of class",
  delete_class: "deleted class",
  delete_image: "removed picture",
  edit_project: "change of project",
  upload: "added picture",
  add_image: "added picture",
  import_masks: "import",
};

/** What undoing undoes, in a word or two. */
export const inWords = (command) => WORDS[command] || (command || "").replaceAll("_", " ");
