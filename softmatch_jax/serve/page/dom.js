// Making and finding elements.

import { icon } from "./icons.js";

export { icon };

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Properties starting with "on" are listeners, "data" is a map of data attributes, others are
 * properties where the element has them and attributes where not. Children are nodes or strings; nothing is
 * ever parsed as HTML.
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "class") node.className = value;
    else if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button with an icon, a name that screen readers say, and a shortcut in its hint. */
export function iconButton(name, label, onclick, keys = "") {
  return el(
    "button",
    {
      type: "button",
      class: "icon-button",
      title: keys ? `${label} (${keys})` : label,
      "aria-label": label,
      "aria-keyshortcuts": keys || null,
      onclick,
    },
    icon(name),
  );
}

/** Gives an element a colour that the style sheet uses as var(--colour). */
export function tint(node, colour) {
  node.style.setProperty("--colour", colour);
  return node;
}

/** Calls a function once per frame however often it is asked. */
export function perFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** A value of this browser, or a default; storage may be forbidden. */
export function remembered(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`softmatch.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps a value in this browser. */
export function remember(name, value) {
  try {
    localStorage.setItem(`softmatch.${name}`, JSON.stringify(value));
  } catch {
    // A page that cannot remember still works.
  }
}

export const percent = (value) => `${Math.round(100 * value)} %`;
