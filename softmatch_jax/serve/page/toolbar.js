// The tools beside the canvas, the options of the tool in hand, and what is decided about the picture.

import { byId, el, icon, iconButton, percent, perFrame } from "./dom.js";
import { TOOLS } from "./session.js";

const LAYERS = {
  masks: ["mask", "Masks", "M"],
  outline: ["outline", "Outlines only", "O"],
  heat: ["heat", "Match map", "H"],
  prompts: ["prompts", "Prompts", "G"],
};

export class Toolbar {
  constructor({ replica, session, view, actions, pointer }) {
    Object.assign(this, { replica, session, view, actions, pointer });
    this.refresh = perFrame(() => this.update());
    this.tools = this.fillTools(byId("tools"));
    this.layers = this.fillLayers(byId("layers"));
    this.fillOptions(byId("options"));
    this.fillZoom(byId("zoom"));
    byId("accept").addEventListener("click", () => actions.accept());
    byId("reject").addEventListener("click", () => actions.reject());
    byId("reopen").addEventListener("click", () => actions.reopen());
    byId("next").addEventListener("click", () => actions.nextUncertain());
    byId("remove").addEventListener("click", () => actions.deleteImage(session.image));
    view.onChange(() => this.refresh());
  }

  fillTools(bar) {
    const buttons = {};
    for (const [tool, { label, key }] of Object.entries(TOOLS)) {
      buttons[tool] = iconButton(tool, label, () => this.session.set({ tool }), key);
      buttons[tool].dataset.tool = tool;
      if (tool === "brush" || tool === "wipe") bar.append(el("hr"));
      bar.append(buttons[tool]);
    }
    return buttons;
  }

  fillLayers(bar) {
    const buttons = {};
    for (const [name, [symbol, label, key]] of Object.entries(LAYERS)) {
      buttons[name] = iconButton(
        symbol,
        label,
        () => (name === "heat" ? this.actions.toggleHeat() : this.session.toggle(name)),
        key,
      );
      buttons[name].dataset.layer = name;
      bar.append(buttons[name]);
    }
    return buttons;
  }

  fillOptions(bar) {
    const sign = (positive, symbol, text) =>
      el(
        "button",
        {
          type: "button",
          title: `${text} (T)`,
          data: { positive: String(positive) },
          onclick: () => this.session.set({ positive }),
        },
        icon(symbol),
        text,
      );
    this.signs = [sign(true, "add", "On it"), sign(false, "minus", "Beside it")];
    this.signGroup = el(
      "div",
      { class: "segments", role: "group", "aria-label": "What the prompt marks" },
      this.signs,
    );
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      "aria-label": "Width of the tool",
      title: "Width ([ and ], or Shift and wheel)",
    });
    this.slider.addEventListener("input", () => {
      this.session.widen(widthAt(Number(this.slider.value)) / this.share());
      this.pointer.refreshTip();
    });
    this.widthText = el("output", { class: "width-text" });
    this.widthGroup = el("label", { class: "width" }, this.slider, this.widthText);
    bar.append(this.signGroup, this.widthGroup);
  }

  share() {
    return this.session.widths[TOOLS[this.session.tool].width] || 0.01;
  }

  fillZoom(bar) {
    this.zoomText = el("button", {
      type: "button",
      class: "zoom-text",
      title: "One to one (0)",
      onclick: () => this.view.actual(),
    });
    bar.append(
      iconButton("minus", "Zoom out", () => this.view.zoom(0.8), "-"),
      this.zoomText,
      iconButton("add", "Zoom in", () => this.view.zoom(1.25), "+"),
      iconButton("fit", "Fit", () => this.view.fit(), "F"),
    );
  }

  update() {
    const { session } = this;
    const tool = TOOLS[session.tool];
    for (const [name, button] of Object.entries(this.tools))
      button.setAttribute("aria-pressed", String(name === session.tool));
    for (const [name, button] of Object.entries(this.layers))
      button.setAttribute("aria-pressed", String(session.show[name]));
    this.signGroup.hidden = !tool.signed;
    for (const button of this.signs)
      button.setAttribute("aria-pressed", String(button.dataset.positive === String(session.positive)));
    this.widthGroup.hidden = !tool.width;
    if (tool.width) {
      this.slider.value = String(sliderAt(this.share()));
      this.widthText.textContent = `${session.width(this.replica.image(session.image)) || "–"} px`;
    }
    byId("options").hidden = !tool.width && !tool.signed;
    this.zoomText.textContent = percent(this.view.scale);
    this.zoomText.setAttribute("aria-label", `Zoom ${percent(this.view.scale)}, set to 100 %`);
    this.updatePicture();
  }

  updatePicture() {
    const image = this.replica.image(this.session.image);
    document.body.dataset.empty = String(!this.replica.of("image").size);
    byId("picture-name").textContent = image?.name ?? "";
    byId("picture-name").title = image?.name ?? "";
    byId("picture-size").textContent = image ? `${image.width} × ${image.height}` : "";
    const status = image?.status ?? "none";
    byId("stage").dataset.status = status;
    byId("accept").disabled = status !== "open";
    byId("reject").disabled = status === "none" || status === "accepted";
    byId("reject").hidden = status === "rejected";
    byId("reopen").hidden = status !== "accepted" && status !== "rejected";
    byId("remove").disabled = !image;
    byId("next").disabled = !image;
    byId("lock-text").textContent = { accepted: "Accepted: locked", rejected: "Rejected" }[status] || "";
  }
}

// The slider is logarithmic: narrow tools need the finer steps.
const widthAt = (slider) => 0.001 * 300 ** (slider / 100);
const sliderAt = (width) => Math.round((100 * Math.log(width / 0.001)) / Math.log(300));
