// Icons as outlines on a grid of 24, drawn in the colour of the text beside them.

const SVG = "http://www.w3.org/2000/svg";

const OUTLINES = {
  undo: "M8 5 4 9l4 4M4.5 9H14a6 6 0 0 1 0 12h-3",
  redo: "m16 5 4 4-4 4M19.5 9H10a6 6 0 0 0 0 12h3",
  scribble: "M3 16c2.5-8 5.5-10 7-6.5S9 18 11.5 18.5 16 9 18 9s.5 5 3 5",
  point: "M12 3v4M12 17v4M3 12h4M17 12h4M12 10.8a1.2 1.2 0 1 0 0 2.4 1.2 1.2 0 1 0 0-2.4",
  box: "M5 8V5h3M16 5h3v3M19 16v3h-3M8 19H5v-3M10.5 5h3M10.5 19h3M5 10.5v3M19 10.5v3",
  brush:
    "M20 4c-4 1-9 6-10.5 8.5l2 2C14 13 19 8 20 4ZM9 13c-2.5 0-3.5 1.5-3.8 3.5-.2 1.5-.9 2.300-2.2 2.700 2.5 1.5 8 1.300 8-3.2",
  erase: "m14.5 4.5 5 5L11 18H7l-3-3 10.5-10.5ZM9.5 9.5l5 5M11 18h9",
  wipe: "M4 19c2-6 4-8 5.5-5.5S9.5 18 12 18M13 5l7 7M20 5l-7 7",
  pan: "M12 3v18M3 12h18M9.5 5.5 12 3l2.5 2.5M9.5 18.5 12 21l2.5-2.5M5.5 9.5 3 12l2.5 2.5M18.5 9.5 21 12l-2.5 2.5",
  fit: "M4 9V5a1 1 0 0 1 1-1h4M15 4h4a1 1 0 0 1 1 1v4M20 15v4a1 1 0 0 1-1 1h-4M9 20H5a1 1 0 0 1-1-1v-4",
  mask: "M4 13c0-5 4-8 8-8s8 2 8 7-4 7-8 7-8-2-8-6ZM12 5v14M15 6v12.5M18 8v9",
  outline: "M4 13c0-5 4-8 8-8s8 2 8 7-4 7-8 7-8-2-8-6Z",
  heat: "M12 21c-4 0-6.5-2.600-6.5-6.2C5.5 10.5 10 9 10 3c4 2 4.5 5 4.2 7.2 1-.4 1.8-1.4 2-2.5 1.700 1.700 2.300 4.300 2.300 6.600C18.5 18.300 16 21 12 21Z",
  prompts: "M4 17c3-9 5-9 6-4s3 3 4 0M17 5v6M14 8h6M15 18h5",
  add: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  image:
    "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM4.5 17l5-5 4 4 2.5-2.5 3.5 3.5M15.5 8.5h.01",
  folder: "M3 18V6a1 1 0 0 1 1-1h5l2 2.5h9a1 1 0 0 1 1 1V18a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1Z",
  check: "m5 12.5 4.5 4.5L19 7.5",
  x: "m6 6 12 12M18 6 6 18",
  next: "M5 6l6 6-6 6M13 6l6 6-6 6",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.700-1.4",
  star: "m12 3.5 2.600 5.4 5.900.8-4.300 4.100 1 5.900L12 16.900l-5.2 2.8 1-5.900L3.5 9.700l5.900-.8L12 3.5Z",
  export: "M12 4v11M7.5 10.5 12 15l4.5-4.5M4 17v2a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-2",
  import: "M12 15V4M7.5 8.5 12 4l4.5 4.5M4 17v2a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-2",
  theme: "M12 4a8 8 0 1 0 0 16 8 8 0 1 0 0-16ZM12 4v16M12 8h6.900M12 12h8M12 16h6.900",
  help: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 1 0 0-17ZM9.5 9.5A2.5 2.5 0 1 1 13 11.8c-.7.4-1 .8-1 1.700M12 16.700v.01",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  trash: "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 12.5h9.4L17.5 7M10 11v5M14 11v5",
  play: "M7 5v14l11-7-11-7Z",
  stop: "M6.5 6.5h11v11h-11z",
  alert: "M12 4 2.8 19.5h18.4L12 4ZM12 10v4.5M12 17v.01",
  search: "M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 1 0 0-13ZM16 16l4.5 4.5",
  history: "M4.5 12a7.5 7.5 0 1 0 2.300-5.400L4.5 9M4.5 4.5V9H9M12 8v4.300l2.800 1.700",
  settings:
    "M4 7h8M16 7h4M14 4.800a2.200 2.200 0 1 0 0 4.400 2.200 2.200 0 1 0 0-4.400ZM4 17h4M12 17h8M10 14.800a2.200 2.200 0 1 0 0 4.400 2.200 2.200 0 1 0 0-4.400Z",
  up: "M12 19V5M6.5 10.5 12 5l5.5 5.5",
  down: "M12 5v14M6.5 13.5 12 19l5.5-5.5",
  panel: "M4 5h16v14H4zM14.5 5v14",
  sort: "M4 7h16M7 12h10M10 17h4",
};

function draw(svg, name) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", OUTLINES[name]);
  svg.replaceChildren(path);
}

/** An icon; it is decoration, its button carries the name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  draw(svg, name);
  return svg;
}

/** Draws the icons that the document has places for. */
export function drawIcons() {
  for (const svg of document.querySelectorAll("svg[data-icon]")) draw(svg, svg.dataset.icon);
}
