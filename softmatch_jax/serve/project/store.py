"""The project store: documents, log and rasters in one SQLite file, safe to use from any thread."""

from __future__ import annotations

import dataclasses
import io
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from pydantic import ValidationError

from softmatch_jax._checks import InputError
from softmatch_jax._types import Labels
from softmatch_jax.serve.project import applying, journal
from softmatch_jax.serve.project.blobs import Blobs, Table
from softmatch_jax.serve.project.checking import check_store
from softmatch_jax.serve.project.commands import Command
from softmatch_jax.serve.project.connections import Connections
from softmatch_jax.serve.project.documents import Digest, Document, ImageDocument, ProjectDocument
from softmatch_jax.serve.project.errors import ConflictError
from softmatch_jax.serve.project.history import History, Stack
from softmatch_jax.serve.project.journal import Entry, Kind, Step
from softmatch_jax.serve.project.pictures import StoredPicture
from softmatch_jax.serve.project.rasters import decode_labels, encode_labels, heat_png, labels_png
from softmatch_jax.serve.project.state import Documents, State, all_heats, all_rasters

__all__ = ["Entry", "Store"]

_LOG = logging.getLogger(__name__)


class Store:
    """A project on disk. `open` makes one; all methods may be called from any thread.

    What changes it is on the disk when the call returns. Asking again under an ``id`` that the log has
    already is answered by the entry of then, so that a caller who got no answer can ask again.

    Attributes:
        folder: The project's.
        boot: Random name of this opening.
    """

    def __init__(self, connections: Connections) -> None:
        self.folder = connections.folder
        self.boot = connections.boot
        self._connections = connections
        self._blobs = Blobs(connections)
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[Entry], None]] = []
        with connections.reading() as connection:
            documents = Documents(dict(journal.read_documents(connection)))
            self._history = journal.read_history(connection)
            self._state = self._state_of(journal.last_number(connection), documents, self._history)
        if not connections.read_only:
            self._prepare()

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Store:
        """Opens the project in a folder, making it if missing.

        Args:
            folder: The project's.
            read_only: Only look, also beside a process that writes; `state` is then that of the opening.

        Raises:
            InputError: Its database is damaged, of another program, or of a newer version.
            ConflictError: Another process writes it.
            ReadOnlyError: The folder cannot be written.
            NotFoundError: ``read_only``, and there is no project.
        """
        connections = Connections(Path(folder), read_only=read_only)
        try:
            return cls(connections)
        except BaseException:
            connections.close()
            raise

    def close(self) -> None:
        """Closes the project; nothing can be done with it any more."""
        with self._lock:
            self._connections.close()

    def state(self) -> State:
        """What the project is now."""
        return self._state

    def entries(self, after: int, limit: int = 1000) -> list[Entry]:
        """The entries of the log behind number ``after``, at most ``limit``."""
        with self._lock, self._connections.reading() as connection:
            return journal.read(connection, after, limit)

    def run(self, command: Command, *, id: str) -> Entry:
        """Does what a command says.

        Raises:
            NotFoundError: It names something that is not there.
            ConflictError: The picture is locked, what it says is shown is not, or there is nothing to do.
            InputError: It makes no sense.
        """

        def step() -> Step:
            changes = applying.apply(self._state, command, self._tools())
            what = command.model_dump(mode="json", by_alias=True, exclude_none=True)
            return Step(what=what, changes=changes, do=command.do if changes else None)

        return self._enter(id, "command", step)

    def undo(self, *, id: str) -> Entry:
        """Undoes the newest command, upload or import that is not undone; what was derived stays.

        Raises:
            ConflictError: There is none.
        """
        return self._enter(id, "undo", lambda: self._turned(self._history.done, "undo"))

    def redo(self, *, id: str) -> Entry:
        """Does again what was undone last, unless something else was done since.

        Raises:
            ConflictError: There is nothing.
        """
        return self._enter(id, "redo", lambda: self._turned(self._history.undone, "redo"))

    def _turned(self, done: Stack | None, how: Literal["undo", "redo"]) -> Step:
        """The step that takes an entry back, or makes it again."""
        if done is None:
            raise ConflictError(f"There is nothing to {how}.")
        before, after = journal.both_sides(self._connections.main, done.seq)
        what = {"do": done.do, "of": done.seq}
        return Step(what=what, changes=before if how == "undo" else after, do=done.do, target=done.seq)

    def add_image(self, name: str, picture: StoredPicture, *, id: str) -> Entry:
        """Adds a picture whose file is in the project's folder already.

        Raises:
            ConflictError: The project has it; ``image`` of the error says which one it is.
            InputError: The name is empty, too long, or holds control characters.
        """
        digest, width, height = picture.digest, picture.width, picture.height
        try:
            image = ImageDocument(name=name, digest=digest, width=width, height=height, order=0)
        except ValidationError as error:
            raise InputError(
                f"The picture's name is {name[:40]!r}; expected 1 to 200 characters, none of them a control "
                f"character ({error.error_count()} faults)."
            ) from None

        def step() -> Step:
            changes = applying.add_image(self._state, image, self._tools())
            what = {"do": "add_image", "name": name, **dataclasses.asdict(picture)}
            return Step(what=what, changes=changes, do="add_image")

        return self._enter(id, "upload", step)

    def import_masks(self, iid: str, rasters: Mapping[str, Digest], *, id: str, accept: bool) -> Entry:
        """Puts rasters on the layers of a picture by class, as painted, and accepts it if asked to.

        Raises:
            NotFoundError: The picture, a class or a raster is not there.
            ConflictError: The picture is not open.
            InputError: A raster is not of the picture's size.
        """

        def step() -> Step:
            changes = applying.import_masks(self._state, iid, rasters, self._tools(), accept=accept)
            what = {"do": "import_masks", "image": iid, "rasters": dict(rasters), "accept": accept}
            return Step(what=what, changes=changes, do="import_masks" if changes else None)

        return self._enter(id, "command", step)

    def derive(self, changes: Mapping[str, Document | None], *, what: Mapping[str, Any]) -> Entry | None:
        """Writes what the engine derived; drops what is about pictures, classes or prompts that are gone.

        Args:
            changes: Documents of derived kinds by key.
            what: Says by which engine and how, for the record.

        Returns:
            The entry, or None where nothing was left to be changed.
        """
        with self._lock:
            wanted = applying.still_wanted(self._state, changes)
            if not wanted:
                return None
            return self._enter(secrets.token_hex(16), "derive", lambda: Step(what=dict(what), changes=wanted))

    def put_raster(self, labels: Labels) -> Digest:
        """Keeps a raster, ``uint16 [H, W]``; the next command or import puts it on the disk for good.

        One that no document names by the next opening is removed then.
        """
        return self._put("rasters", encode_labels(labels))

    def raster(self, digest: Digest) -> Labels:
        """A raster, ``uint16 [H, W]``, read-only; raises ``NotFoundError``."""
        return decode_labels(self._blobs.read("rasters", digest))

    def raster_png(self, digest: Digest) -> bytes:
        """A raster as `rasters.labels_png` draws it; raises ``NotFoundError``."""
        return labels_png(self.raster(digest))

    def put_heat(self, heat: UInt8[np.ndarray, "h w"]) -> Digest:
        """Keeps a match map; as `put_raster`."""
        return self._put("heats", heat_png(heat))

    def heat(self, digest: Digest) -> UInt8[np.ndarray, "h w"]:
        """A match map; raises ``NotFoundError``."""
        return np.array(PIL.Image.open(io.BytesIO(self.heat_png(digest)), formats=("PNG",)))

    def heat_png(self, digest: Digest) -> bytes:
        """A match map as a grey PNG; raises ``NotFoundError``."""
        return self._blobs.read("heats", digest)

    def subscribe(self, callback: Callable[[Entry], None]) -> Callable[[], None]:
        """Calls back for each entry once it is committed, in order, on the thread that made it.

        Callbacks must be quick, and change nothing here. What is returned ends it.
        """
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def check(self) -> list[str]:
        """Looks for damage: one sentence for each fault, none where the project is whole."""
        with self._lock:
            return check_store(self.folder, self._connections.main, self._blobs, self._state)

    def _prepare(self) -> None:
        """Begins the log of a new project, and removes rasters that nothing needs any more."""
        if self._state.seq == 0:
            name = "".join(c for c in self.folder.resolve().name if c.isprintable())[:200] or "project"
            step = Step(what={"do": "make"}, changes={"project": ProjectDocument(name=name)})
            self._enter(secrets.token_hex(16), "command", lambda: step)
        documents = self._state.docs.values()
        with self._connections.transaction():
            self._blobs.sweep(all_rasters(documents), all_heats(documents))

    def _enter(self, id: str, kind: Kind, make_step: Callable[[], Step]) -> Entry:
        """Appends an entry, unless the log has one of that name, and announces it."""
        if not (0 < len(id) <= 100 and id.isprintable()):
            raise InputError(f"id is {id[:40]!r}; expected 1 to 100 printable characters, such as a UUID.")
        with self._lock:
            self._connections.check_writable()
            with self._connections.reading() as connection:
                there = journal.find(connection, id)
            if there is not None:
                return there
            # What the engine derived could be derived again, so that it need not wait for the disk.
            with self._connections.transaction(relaxed=kind == "derive"):
                step = make_step()
                entry, history = self._append(id, kind, step)
            self._history = history
            self._state = self._state_of(entry.seq, self._state.documents.changed(entry.changes), history)
            self._announce(entry)
            return entry

    def _append(self, id: str, kind: Kind, step: Step) -> tuple[Entry, History]:
        """Writes an entry inside a transaction; nothing in memory changes."""
        seq = self._state.seq + 1
        history = self._history.after(seq, kind, step.do)
        changes = step.changes | dict.fromkeys(applying.outdated(self._state, step.changes))
        entry = Entry(
            seq=seq,
            id=id,
            kind=kind,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            what=step.what,
            changes=changes,
            undo=history.undo,
            redo=history.redo,
        )
        before = {key: self._state.get(key) for key in changes}
        journal.append(self._connections.main, entry, before=before, step=step)
        if kind != "derive":
            self._blobs.keep(all_rasters(document for document in changes.values() if document is not None))
        return entry, history

    def _announce(self, entry: Entry) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(entry)
            except Exception:
                # The entry is on the disk: whoever asked for it must not be told otherwise.
                _LOG.exception("A subscriber of the project failed at entry %d", entry.seq)

    def _state_of(self, seq: int, documents: Documents, history: History) -> State:
        return State(seq=seq, boot=self.boot, docs=documents, undo=history.undo, redo=history.redo)

    def _tools(self) -> applying.Tools:
        return applying.Tools(
            new_id=self._connections.new_id,
            raster=self.raster,
            # Written together with the command's entry.
            put_raster=lambda labels: self._blobs.insert("rasters", encode_labels(labels)),
        )

    def _put(self, table: Table, data: bytes) -> Digest:
        with self._lock:
            self._connections.check_writable()
            # The commit of the command that needs it brings it to the disk, too.
            with self._connections.transaction(relaxed=True):
                return self._blobs.insert(table, data)
