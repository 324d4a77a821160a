// The list of classes: what is drawn next belongs to the one in hand, which stays until another is picked.

import { el, icon, iconButton, perFrame, tint } from "./dom.js";

export class Classes {
  constructor({ list, form, input, phrase, replica, session, actions, edit }) {
    Object.assign(this, { list, form, input, phrase, replica, session, actions, edit });
    this.texts = false;
    this.signature = "";
    this.refresh = perFrame(() => this.update());
    form.addEventListener("submit", (event) => this.add(event));
    phrase.addEventListener("change", () => this.say());
    actions.askForClass = () => input.focus();
  }

  add(event) {
    event.preventDefault();
    const name = this.input.value.trim();
    if (!name) return;
    this.input.value = "";
    this.input.blur();
    this.actions.addClass(name);
  }

  /** Sends the text prompt of the class in hand. */
  say() {
    const cls = this.replica.get(`class/${this.session.cls}`);
    if (cls && (cls.phrase || "") !== this.phrase.value.trim()) {
      this.actions.editClass(this.session.cls, { phrase: this.phrase.value.trim() });
    }
  }

  update() {
    const classes = this.replica.classes();
    const { image, cls } = this.session;
    const rows = classes.map((one) => [
      one,
      one.id === cls,
      Boolean(image && this.replica.shown(image, one.id)),
    ]);
    const signature = JSON.stringify(rows);
    const field = this.phrase.closest("label");
    field.hidden = !this.texts || !cls;
    if (document.activeElement !== this.phrase)
      this.phrase.value = this.replica.get(`class/${cls}`)?.phrase || "";
    if (signature === this.signature) return;
    this.signature = signature;
    const focused = document.activeElement?.closest?.("[data-class]")?.dataset.class;
    const top = this.list.scrollTop;
    this.list.replaceChildren(...rows.map((row, i) => this.row(...row, i)));
    this.list.scrollTop = top;
    this.list.querySelector("[aria-checked=true]")?.scrollIntoView({ block: "nearest" });
    if (focused) this.list.querySelector(`[data-class="${focused}"] .class-pick`)?.focus();
  }

  row(cls, selected, present, i) {
    const pick = el(
      "button",
      {
        type: "button",
        class: "class-pick",
        role: "radio",
        "aria-checked": String(selected),
        title: `Draw ${cls.name}${i < 9 ? ` (${i + 1})` : ""}`,
        onclick: () => this.session.set({ cls: cls.id }),
      },
      tint(el("span", { class: "swatch" }), cls.colour),
      el("span", { class: "class-name" }, cls.name),
      present ? el("span", { class: "present", title: "On this picture" }, icon("mask")) : null,
      i < 9 ? el("kbd", {}, String(i + 1)) : null,
    );
    const more = iconButton("more", `Edit class ${cls.name}`, () => this.edit(cls.id));
    return el("li", { class: "class-row", role: "presentation", data: { class: cls.id } }, pick, more);
  }

  /** Picks the class with a number on the keyboard. */
  pick(number) {
    const cls = this.replica.classes()[number - 1];
    if (cls) this.session.set({ cls: cls.id });
  }
}
