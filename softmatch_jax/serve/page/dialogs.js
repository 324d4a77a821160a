// Dialogs: a class, the project, the record, the shortcuts, export and import.

import { getJson, newId, postFile } from "./api.js";
import { byId, el, icon, iconButton } from "./dom.js";
import { SHORTCUTS } from "./keys.js";

/** Opens a dialog with a title; a click beside it or Escape closes it. */
function open(title, ...content) {
  const dialog = el("dialog", { "aria-label": title });
  const close = () => dialog.close();
  dialog.append(
    el("header", { class: "dialog-head" }, el("h2", {}, title), iconButton("x", "Close", close, "Esc")),
    el("div", { class: "dialog-body" }, ...content),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.tabIndex = -1;
  dialog.showModal();
  dialog.focus();
  return dialog;
}

const field = (label, control, hint) =>
  el("label", { class: "field" }, el("span", {}, label), control, hint ? el("small", {}, hint) : null);

/** Has Enter in a field press a button, and nothing else: closing hands the focus back meanwhile. */
function pressOnEnter(input, button) {
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    button.click();
  });
}

export class Dialogs {
  constructor({ replica, session, actions, toast, history }) {
    Object.assign(this, { replica, session, actions, toast, history });
    this.info = { formats: [], texts: false };
  }

  get isOpen() {
    return Boolean(document.querySelector("dialog[open]"));
  }

  shortcuts() {
    if (this.isOpen) return;
    const rows = ([keys, what]) =>
      el(
        "div",
        { class: "shortcut" },
        el("span", {}, what),
        el(
          "span",
          { class: "keys" },
          keys.split(" ").map((key) => el("kbd", {}, key)),
        ),
      );
    const groups = SHORTCUTS.map(([title, list]) => el("section", {}, el("h3", {}, title), list.map(rows)));
    open("Keyboard and pointer", el("div", { class: "shortcuts" }, groups)).classList.add("wide");
  }

  /** What was done, from the server's log. */
  record() {
    if (this.isOpen) return;
    const list = this.history.view(() => dialog.close());
    const dialog = open("History", list);
  }

  /** What holds for the whole project. */
  project() {
    const { name: called, seed: number, automatic } = this.replica.project;
    const name = el("input", { type: "text", value: called, maxLength: 200, required: true });
    const seed = el("input", { type: "number", value: number, min: 0, max: 2 ** 32 - 1, step: 1 });
    const box = el("input", { type: "checkbox", checked: automatic });
    const save = el("button", { type: "button", class: "button primary" }, "Save");
    const dialog = open(
      "Project",
      field("Name", name),
      field("Seed", seed, "Where matching draws at random. The same seed finds the same masks again."),
      el("label", { class: "check" }, box, "Match again whenever references change"),
      el("footer", { class: "dialog-foot" }, save),
    );
    save.addEventListener("click", () => {
      if (!seed.reportValidity() || !seed.value) return;
      const fields = {};
      if (name.value.trim() && name.value.trim() !== called) fields.name = name.value.trim();
      if (Number(seed.value) !== number) fields.seed = Number(seed.value);
      if (box.checked !== automatic) fields.automatic = box.checked;
      if (Object.keys(fields).length) this.actions.editProject(fields);
      dialog.close();
    });
    for (const input of [name, seed]) pressOnEnter(input, save);
    name.select();
  }

  editClass(id) {
    const cls = this.replica.get(`class/${id}`);
    const name = el("input", { type: "text", value: cls.name, maxLength: 200, required: true });
    const colour = el("input", { type: "color", value: cls.colour });
    const phrase = el("input", { type: "text", value: cls.phrase || "", maxLength: 300 });
    const save = el("button", { type: "button", class: "button primary" }, "Save");
    const drop = el("button", { type: "button", class: "button danger" }, icon("trash"), "Delete class");
    const move = (by, symbol, words) => iconButton(symbol, words, () => this.actions.moveClass(id, by));
    const dialog = open(
      "Class",
      field("Name", name),
      el(
        "div",
        { class: "field-row" },
        field("Colour", colour),
        el(
          "div",
          { class: "field", role: "group", "aria-label": "Place in the list" },
          el("span", {}, "Place in the list"),
          el("div", { class: "button-row" }, move(-1, "up", "Move up"), move(1, "down", "Move down")),
        ),
      ),
      this.info.texts
        ? field("Text prompt", phrase, "Says in words what to find, beside the references.")
        : null,
      el("footer", { class: "dialog-foot" }, drop, save),
    );
    save.addEventListener("click", () => {
      const fields = {};
      if (name.value.trim() && name.value.trim() !== cls.name) fields.name = name.value.trim();
      if (colour.value !== cls.colour) fields.colour = colour.value;
      if (this.info.texts && phrase.value.trim() !== (cls.phrase || "")) fields.phrase = phrase.value.trim();
      if (Object.keys(fields).length) this.actions.editClass(id, fields);
      dialog.close();
    });
    pressOnEnter(name, save);
    drop.addEventListener("click", () => {
      this.actions.deleteClass(id);
      dialog.close();
    });
    name.select();
  }

  formatSelect(any) {
    const options = this.info.formats.map((format) => el("option", { value: format.name }, format.title));
    if (any) options.unshift(el("option", { value: "" }, "Recognise it"));
    return el("select", { name: "format" }, options);
  }

  exports() {
    const format = this.formatSelect(false);
    const which = el(
      "select",
      { name: "which" },
      el("option", { value: "accepted" }, "Accepted pictures"),
      el("option", { value: "shown" }, "All masks as shown"),
    );
    const images = el("input", { type: "checkbox", name: "images", checked: true });
    const polygons = el("input", { type: "checkbox", name: "polygons" });
    const losses = el("div", { class: "losses", "aria-live": "polite" });
    const download = el(
      "a",
      { class: "button primary", download: "", id: "download" },
      icon("export"),
      "Download",
    );
    const polygonField = el("label", { class: "check" }, polygons, "Polygons instead of exact rasters");
    const accepted = this.replica.images().filter((image) => image.status === "accepted").length;
    if (!accepted) which.value = "shown";
    const refresh = () => {
      const known = this.info.formats.find((one) => one.name === format.value);
      polygonField.hidden = !offers(known, "polygons");
      const query = new URLSearchParams({
        which: which.value,
        images: images.checked,
        polygons: polygons.checked,
      });
      download.href = `/api/exports/${format.value}?${query}`;
      this.showLosses(losses, format.value, query);
    };
    for (const control of [format, which, images, polygons]) control.addEventListener("change", refresh);
    const dialog = open(
      "Export masks",
      field("Format", format),
      field("What", which, `${accepted} of ${this.replica.of("image").size} pictures are accepted.`),
      el("label", { class: "check" }, images, "With the pictures"),
      polygonField,
      losses,
      el("footer", { class: "dialog-foot" }, download),
    );
    download.addEventListener("click", () => setTimeout(() => dialog.close(), 300));
    refresh();
  }

  /** Says what a format cannot keep, before anything is written. */
  async showLosses(box, format, query) {
    try {
      const { warnings } = await getJson(`/api/exports/${format}/losses?${query}`);
      const lines = warnings.map((text) => el("li", {}, text));
      box.replaceChildren(
        warnings.length
          ? el("div", { class: "note warn" }, icon("alert"), el("ul", {}, lines))
          : el("p", { class: "note fine" }, icon("check"), el("span", {}, "This format keeps everything.")),
      );
    } catch (error) {
      box.replaceChildren(el("p", { class: "note trouble" }, icon("alert"), el("span", {}, error.message)));
    }
  }

  imports(archive = null) {
    const file = el("input", { type: "file", accept: ".zip,application/zip" });
    const format = this.formatSelect(true);
    const accept = el("input", { type: "checkbox" });
    const outcome = el("div", { class: "losses", "aria-live": "polite" });
    const go = el("button", { type: "button", class: "button primary" }, icon("import"), "Import");
    const chosen = archive
      ? el("p", { class: "hint" }, `Masks of ${archive.name}`)
      : field("Archive", file, "A .zip with masks, and their pictures if the project lacks them.");
    open(
      "Import masks",
      chosen,
      field("Format", format),
      el("label", { class: "check" }, accept, "Accept the imported pictures"),
      outcome,
      el("footer", { class: "dialog-foot" }, go),
    );
    go.addEventListener("click", async () => {
      const source = archive || file.files[0];
      if (!source) return file.click();
      go.disabled = true;
      outcome.replaceChildren(el("p", { class: "hint" }, "Importing …"));
      await this.runImport(source, format.value, accept.checked, outcome);
      go.disabled = false;
      return null;
    });
  }

  async runImport(source, format, accept, outcome) {
    const query = new URLSearchParams({ accept, id: newId() });
    if (format) query.set("format", format);
    try {
      const { pictures, masks, warnings } = await postFile(`/api/imports?${query}`, source);
      const lines = warnings.map((text) => el("li", {}, text));
      outcome.replaceChildren(
        el(
          "p",
          { class: "note fine" },
          icon("check"),
          el("span", {}, `${masks} masks on ${pictures} pictures imported.`),
        ),
        lines.length ? el("div", { class: "note warn" }, icon("alert"), el("ul", {}, lines)) : "",
      );
    } catch (error) {
      outcome.replaceChildren(
        el("p", { class: "note trouble" }, icon("alert"), el("span", {}, error.message)),
      );
    }
  }
}

/** Whether a format has an option, whichever way the server lists options. */
function offers(format, option) {
  const options = format?.options || [];
  return Array.isArray(options) ? options.some((one) => (one.name || one) === option) : option in options;
}

/** Lets the two hidden inputs for files hand over what the browser's own dialog chose. */
export function listenForFiles(add) {
  for (const id of ["choose-files", "choose-folder"]) {
    const input = byId(id);
    input.addEventListener("change", () => {
      add([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
      input.value = "";
    });
  }
}

export const chooseFiles = () => byId("choose-files").click();
export const chooseFolder = () => byId("choose-folder").click();
