// Prompts as drawn: their look and where they are hit.

const DARK = "rgba(12, 16, 24, 0.85)";
const BESIDE = "#ff5a4f";

/** The path of a stroke in the coordinates of a context. */
export function trace(context, points, at = (x, y) => [x, y]) {
  context.beginPath();
  context.lineCap = "round";
  context.lineJoin = "round";
  const [x, y] = at(...points[0]);
  context.moveTo(x, y);
  if (points.length === 1) context.lineTo(x + 0.01, y);
  for (const point of points.slice(1)) context.lineTo(...at(...point));
}

/** Draws a prompt: on the object in the class's colour, beside it dark with a red dashed core. */
export function drawPrompt(context, view, prompt, colour, strength = 1) {
  context.save();
  context.globalAlpha = strength;
  const at = (x, y) => view.toScreen(x, y);
  if (prompt.kind === "scribble") drawScribble(context, view, prompt, colour, at);
  else if (prompt.kind === "point") drawPoint(context, at(...prompt.xy), prompt.positive, colour);
  else drawBox(context, at(prompt.x0, prompt.y0), at(prompt.x1, prompt.y1), colour);
  context.restore();
}

function drawScribble(context, view, prompt, colour, at) {
  const width = Math.max(prompt.width * view.scale, 3);
  trace(context, prompt.points, at);
  const strength = context.globalAlpha;
  context.globalAlpha = strength * 0.75;
  context.lineWidth = width;
  context.strokeStyle = prompt.positive ? colour : DARK;
  context.stroke();
  context.globalAlpha = strength;
  context.lineWidth = Math.min(2, width / 3);
  context.strokeStyle = prompt.positive ? "#ffffff" : BESIDE;
  if (!prompt.positive) context.setLineDash([5, 5]);
  context.stroke();
}

function drawPoint(context, [x, y], positive, colour) {
  context.beginPath();
  context.arc(x, y, 7, 0, 2 * Math.PI);
  context.fillStyle = positive ? colour : DARK;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = positive ? "#ffffff" : BESIDE;
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (positive) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.stroke();
}

function drawBox(context, [x0, y0], [x1, y1], colour) {
  context.lineWidth = 4;
  context.strokeStyle = DARK;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = 2;
  context.strokeStyle = colour;
  context.setLineDash([8, 4]);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

/** Whether a point of the picture is on a prompt, give or take a slack in picture pixels. */
export function hits(prompt, [x, y], slack) {
  if (prompt.kind === "point") return Math.hypot(x - prompt.xy[0], y - prompt.xy[1]) <= slack * 2;
  if (prompt.kind === "box") return onBox(prompt, x, y, slack);
  const reach = prompt.width / 2 + slack;
  const [first] = prompt.points;
  if (prompt.points.length === 1) return Math.hypot(x - first[0], y - first[1]) <= reach;
  return prompt.points.slice(1).some((point, i) => distance(prompt.points[i], point, x, y) <= reach);
}

function onBox({ x0, y0, x1, y1 }, x, y, slack) {
  const within = x >= x0 - slack && x <= x1 + slack && y >= y0 - slack && y <= y1 + slack;
  const core = x > x0 + slack && x < x1 - slack && y > y0 + slack && y < y1 - slack;
  return within && !core;
}

function distance([ax, ay], [bx, by], x, y) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}
