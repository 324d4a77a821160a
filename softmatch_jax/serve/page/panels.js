// The right panel below the classes: the mask in hand, the references, matching.

import { el, icon, iconButton, percent, perFrame, tint } from "./dom.js";

const SOURCES = {
  accepted: ["lock", "Accepted"],
  painted: ["brush", "Painted"],
  prompts: ["scribble", "From your prompts"],
  found: ["mask", "Found by matching"],
};

/** Replaces the children of a panel when what they say changed. */
function shows(panel, signature, make) {
  const text = JSON.stringify(signature);
  if (panel.dataset.signature === text) return;
  panel.dataset.signature = text;
  const focused = document.activeElement?.closest?.("[data-focus]")?.dataset.focus;
  panel.replaceChildren(...[make()].flat().filter(Boolean));
  if (focused) panel.querySelector(`[data-focus="${focused}"]`)?.focus();
}

export class Panels {
  constructor({ result, references, job, replica, session, actions, outbox }) {
    Object.assign(this, { result, references, job, replica, session, actions, outbox });
    this.refresh = perFrame(() => this.update());
  }

  update() {
    this.updateResult();
    this.updateReferences();
    this.updateJob();
  }

  updateResult() {
    const { image, cls } = this.session;
    const picture = this.replica.image(image);
    const kind = this.replica.get(`class/${cls}`);
    const found = this.replica.found(image);
    const state = {
      status: picture?.status,
      cls: kind && [cls, kind.name, kind.colour],
      image: picture && image,
      layer: kind && this.replica.layer(image, cls),
      source: kind && this.replica.shown(image, cls)?.source,
      found: found && { ...found.classes[cls], error: found.error },
      trouble: this.replica.mask(image, cls)?.error,
      prompts: this.replica.prompts(image, cls).length,
      waiting: this.actions.waiting.has(`${image}/${cls}`),
    };
    shows(this.result, state, () => this.resultOf(state));
  }

  resultOf(state) {
    if (!state.image || !state.cls) return el("p", { class: "hint" }, this.firstSteps(state));
    return [
      this.headline(state),
      state.source === "found" || (!state.source && state.found) ? this.confidence(state.found) : null,
      state.prompts && state.trouble ? note("alert", "trouble", state.trouble) : null,
      state.found?.error ? note("alert", "trouble", state.found.error) : null,
      state.status === "open" ? this.buttons(state) : null,
    ];
  }

  firstSteps(state) {
    if (!this.replica.of("image").size) return "Add pictures: drop them anywhere on this page.";
    if (!state.cls) return "Name a class above, then scribble on one object of it.";
    return "Pick a picture.";
  }

  headline(state) {
    const [, name, colour] = state.cls;
    let [symbol, words] = SOURCES[state.source] || ["outline", this.nothing(state)];
    if (state.waiting) [symbol, words] = ["scribble", "Completing your prompts …"];
    const mark = tint(el("span", { class: "swatch" }), colour);
    return el(
      "div",
      { class: `headline${state.waiting ? " waiting" : ""}` },
      mark,
      el("div", {}, el("strong", {}, name), el("span", { class: "source" }, icon(symbol), words)),
      state.layer.reference
        ? el("span", { class: "badge reference", title: "Reference" }, icon("star"))
        : null,
    );
  }

  nothing(state) {
    if (state.status === "accepted") return "Accepted without this class";
    if (state.found?.absent) return "Not found here";
    return state.found ? "Nothing found" : "No mask yet";
  }

  confidence(found) {
    if (found.score === undefined) return null;
    const score = Math.min(Math.max(found.score, 0), 1);
    const meter = el("meter", {
      min: 0,
      max: 1,
      low: 0.4,
      high: 0.7,
      optimum: 1,
      value: score,
      "aria-label": "Confidence",
    });
    const line = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
    return el(
      "div",
      { class: "confidence" },
      el(
        "div",
        { class: "meter-row" },
        el("span", {}, "Confidence"),
        meter,
        el("output", {}, percent(score)),
      ),
      el(
        "dl",
        { class: "facts" },
        line("Resemblance", percent(found.resemblance)),
        line("Objects", String(found.instances)),
      ),
      found.reason ? el("p", { class: "reason" }, found.reason) : null,
    );
  }

  buttons(state) {
    const promote = el(
      "button",
      {
        type: "button",
        class: "button",
        disabled: !state.layer.reference && !state.source,
        data: { focus: "promote" },
        title: "Use this mask as an example for all other pictures (P)",
        id: "promote",
        "aria-pressed": String(state.layer.reference),
        onclick: () => this.actions.promote(),
      },
      icon("star"),
      state.layer.reference ? "Unmark reference" : "Make it a reference",
    );
    const own = state.prompts || state.layer.painted;
    const clear = el(
      "button",
      {
        type: "button",
        class: "button quiet",
        disabled: !own,
        data: { focus: "clear" },
        title: "Take away what you drew here, so that what was found shows again",
        onclick: () => this.actions.clearLayer(),
      },
      icon("trash"),
      "Clear",
    );
    return el("div", { class: "button-row" }, promote, clear);
  }

  updateReferences() {
    const list = this.replica.references().map(({ image, cls }) => {
      const kind = this.replica.get(`class/${cls}`);
      const open = this.replica.image(image)?.status === "open";
      return {
        image,
        cls,
        name: kind?.name,
        colour: kind?.colour,
        file: this.replica.image(image)?.name,
        digest: this.replica.image(image)?.digest,
        open,
      };
    });
    shows(this.references, list, () => {
      if (list.length)
        return el(
          "ul",
          { class: "reference-list" },
          list.map((one) => this.reference(one)),
        );
      return el(
        "p",
        { class: "hint" },
        "None yet. The first mask you scribble becomes one; good matches can be promoted (P).",
      );
    });
  }

  reference({ image, digest, cls, name, colour, file, open }) {
    const picture = el("img", {
      alt: "",
      width: 36,
      height: 36,
      loading: "lazy",
      src: `/api/images/${image}/preview?side=240&digest=${digest}`,
    });
    const go = () => {
      this.session.set({ cls });
      this.actions.select(image);
    };
    const text = el(
      "span",
      { class: "reference-text" },
      el("span", { class: "reference-class" }, tint(el("span", { class: "swatch small" }), colour), el("span", {}, name)),
      el("span", { class: "reference-file" }, file),
    );
    const show = el(
      "button",
      { type: "button", class: "reference-show", title: `Show ${file}`, onclick: go },
      picture,
      text,
    );
    const remove = iconButton("x", `${name} on ${file} is no reference`, () =>
      this.actions.promote(image, cls, false),
    );
    return el("li", { class: "reference-row" }, show, open ? remove : null);
  }

  updateJob() {
    const job = this.replica.live.get("live/job") || { state: "idle", total: 0, done: 0, failed: 0 };
    const { automatic } = this.replica.project;
    const references = this.replica.references().length;
    shows(this.job, [job, automatic, references > 0], () => this.jobOf(job, automatic, references));
    document.body.dataset.job = job.state;
  }

  jobOf(job, automatic, references) {
    const running = job.state === "running";
    const button = el(
      "button",
      {
        type: "button",
        class: "button",
        id: "matching-button",
        data: { focus: "matching" },
        disabled: !running && !references,
        onclick: () => this.actions.matching(running ? "cancel" : "start"),
      },
      icon(running ? "stop" : "play"),
      running ? "Cancel" : "Match now",
    );
    const bar = el("progress", {
      max: Math.max(job.total, 1),
      value: job.total ? job.done : 0,
      "aria-label": "Matched pictures",
    });
    const box = el("input", { type: "checkbox", checked: automatic, data: { focus: "automatic" } });
    box.addEventListener("change", () => this.actions.editProject({ automatic: box.checked }));
    return [
      el(
        "div",
        { class: "job-row" },
        el("span", { class: "job-text" }, this.jobWords(job, references)),
        button,
      ),
      running || job.state === "cancelled" ? bar : null,
      el("label", { class: "check" }, box, "Match again whenever references change"),
    ];
  }

  jobWords(job, references) {
    const failed = job.failed ? `, ${job.failed} failed` : "";
    if (job.state === "running") return `${job.done} of ${job.total} matched${failed}`;
    if (job.state === "cancelled") return `Cancelled after ${job.done} of ${job.total}${failed}`;
    if (!references) return "Waits for a reference";
    return job.total ? `All ${job.total} matched${failed}` : "Up to date";
  }
}

const note = (symbol, kind, text) => el("p", { class: `note ${kind}` }, icon(symbol), el("span", {}, text));
