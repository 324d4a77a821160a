// Puts the page together.

import { Actions } from "./actions.js";
import { getJson, patiently } from "./api.js";
import { Classes } from "./classes.js";
import { Dialogs, chooseFiles, chooseFolder, listenForFiles } from "./dialogs.js";
import { byId } from "./dom.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { drawIcons } from "./icons.js";
import { Keys } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Painter } from "./painter.js";
import { Panels } from "./panels.js";
import { Pointer } from "./pointer.js";
import { Rasters } from "./rasters.js";
import { Replica } from "./replica.js";
import { Session } from "./session.js";
import { Status } from "./status.js";
import { Stream } from "./stream.js";
import { Strokes } from "./tools.js";
import { Toast } from "./toast.js";
import { Toolbar } from "./toolbar.js";
import { Upload, droppedFiles } from "./upload.js";
import { View } from "./view.js";

drawIcons();
const toaster = new Toast(byId("toast"));
const toast = (text, options) => toaster.say(text, options);
const report = (error) => toast(error.message);

const replica = new Replica();
const session = new Session();
const view = new View();
const outbox = new Outbox(replica, report);
const rasters = new Rasters(() => redraw(), report);
const actions = new Actions({ replica, session, outbox, toast });
const history = new History({ replica, session, actions });
const dialogs = new Dialogs({ replica, session, actions, toast, history });

const canvas = byId("ink");
const painter = new Painter({ base: byId("canvas"), ink: canvas, view, rasters, replica, session, outbox });
const strokes = new Strokes({ session, replica, view, painter, actions });
const pointer = new Pointer({ canvas, session, replica, view, painter, strokes });
const toolbar = new Toolbar({ replica, session, view, actions, pointer });
const gallery = new Gallery({
  list: byId("gallery-list"),
  count: byId("count"),
  search: byId("search"),
  filter: byId("filter"),
  sort: byId("sort"),
  replica,
  session,
  rasters,
  actions,
});
const classes = new Classes({
  list: byId("class-list"),
  form: byId("class-form"),
  input: byId("class-input"),
  phrase: byId("phrase"),
  replica,
  session,
  actions,
  edit: (id) => dialogs.editClass(id),
});
const panels = new Panels({
  result: byId("result"),
  references: byId("references"),
  job: byId("job"),
  replica,
  session,
  actions,
  outbox,
});
const upload = new Upload({
  panel: byId("upload"),
  list: byId("upload-list"),
  summary: byId("upload-summary"),
  close: byId("upload-close"),
  replica,
  actions,
  say: toast,
  importArchive: (file) => dialogs.imports(file),
});
const status = new Status({
  chip: byId("status"),
  text: byId("status-text"),
  undo: byId("undo"),
  redo: byId("redo"),
  theme: byId("theme"),
  name: byId("project-name"),
  replica,
  outbox,
  actions,
  upload,
});
const stream = new Stream(replica, (state, note) => {
  status.tell(state, note);
  if (state === "live") outbox.hurry();
});
listenForFiles((files) => upload.add(files));
new Keys({ session, actions, view, gallery, dialogs, pointer, strokes, classes, canvas, chooseFiles });

function redraw() {
  painter.invalidate();
  gallery.refresh();
}

function refresh() {
  for (const part of [toolbar, classes, panels, status]) part.refresh();
  painter.invalidate();
}

/** Another picture is shown as a whole; one that just got its size, too. */
let placed = "";
function place() {
  const image = replica.image(session.image);
  const key = image ? `${image.id} ${image.width} ${image.height}` : "";
  if (key === placed) return;
  placed = key;
  strokes.cancel();
  toaster.leave();
  if (image) view.show({ width: image.width, height: image.height });
  setTimeout(fetchAhead, 150);
}

/** Has the picture that accepting leads to ready before it is asked for. */
function fetchAhead() {
  const next = replica.mostUncertain().find((image) => image.id !== session.image);
  if (!next || document.hidden) return;
  rasters.picture(next, 0);
  for (const raster of Object.values(replica.allShown(next.id))) rasters.labels(raster, next);
}

replica.onChange(() => {
  if (replica.boot) actions.settle();
  place();
  refresh();
  gallery.refresh();
});
session.onChange((names) => {
  gallery.heldChanged(names);
  place();
  pointer.showCursor();
  refresh();
});
outbox.onChange(refresh);

function listenForDrops() {
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    byId("drop").hidden = depth === 0;
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => files(event) && over(1));
  addEventListener("dragleave", (event) => files(event) && over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over(-depth);
    if (files(event)) upload.add(await droppedFiles(event.dataTransfer));
  });
}

function listenForButtons() {
  const on = (id, act) => byId(id).addEventListener("click", act);
  for (const id of ["add-files", "empty-files"]) on(id, chooseFiles);
  for (const id of ["add-folder", "empty-folder"]) on(id, chooseFolder);
  on("export", () => dialogs.exports());
  on("import", () => dialogs.imports());
  on("help", () => dialogs.shortcuts());
  on("history", () => dialogs.record());
  on("settings", () => dialogs.project());
  on("panel-toggle", () => {
    const hidden = document.body.dataset.panel === "hidden";
    document.body.dataset.panel = hidden ? "shown" : "hidden";
    byId("panel-toggle").setAttribute("aria-pressed", String(hidden));
  });
}

/** Sends what pages had not sent when they were closed. A project goes by the name of its first entry. */
async function sendLeft() {
  const { entries } = await patiently(() => getJson("/api/log?limit=1"), 1000);
  const left = entries.length ? await outbox.open(entries[0].id) : 0;
  const commands = left === 1 ? "one command" : `${left} commands`;
  if (left) toast(`Sent ${commands} that a closed page had left.`, { quiet: true });
}

async function start() {
  new ResizeObserver(() => painter.resize()).observe(byId("stage-canvas"));
  listenForDrops();
  listenForButtons();
  pointer.showCursor();
  addEventListener("online", () => stream.hurry());
  document.addEventListener("visibilitychange", () => !document.hidden && stream.hurry());
  await stream.start();
  document.body.dataset.ready = "true";
  actions.tellView();
  sendLeft().catch(report);
  const info = await patiently(() => getJson("/api/info"), 1000);
  dialogs.info = info;
  classes.texts = info.texts;
  status.readOnly = info.read_only;
  const bytes = info.limits?.upload_bytes ?? info.limits?.max_bytes;
  if (bytes) upload.maxBytes = bytes;
  byId("version").textContent = `softmatch ${info.version} · ${info.backend}`;
  byId("version").title = info.model;
  refresh();
}

start().catch(report);
