"""Keeps what is derived up to date: finds what is out of date, asks the engine, writes down the answers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from softmatch_jax._checks import InputError
from softmatch_jax.serve.asking import Asking
from softmatch_jax.serve.config import ConductorConfig
from softmatch_jax.serve.engine.queue import ClosedError, FullError
from softmatch_jax.serve.jobs import MatchingJob
from softmatch_jax.serve.live import LiveDocuments, engine_told
from softmatch_jax.serve.outdated import Outdated
from softmatch_jax.serve.project.documents import Document, FoundDocument, ImageDocument, MaskDocument
from softmatch_jax.serve.project.errors import ReadOnlyError
from softmatch_jax.serve.questions import Question, Questions, keys_of, picture_order
from softmatch_jax.serve.quiet import Quiet

if TYPE_CHECKING:
    from softmatch_jax.serve.engine.local import Engine
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.state import State
    from softmatch_jax.serve.project.store import Entry, Store

_LOG = logging.getLogger(__name__)
_AFTER_FAULT_S = 1.0


class Conductor:
    """One thread between the store and the engine.

    Whatever order things happen in, once nothing changes any more all derived documents are current, but for
    matchings that the user does not want now.
    """

    def __init__(
        self,
        store: Store,
        pictures: Pictures,
        engine: Engine,
        *,
        config: ConductorConfig | None = None,
        live: LiveDocuments | None = None,
        observe: Callable[[str, float, bool], None] = lambda kind, seconds, failed: None,
    ) -> None:
        """Takes what it works with.

        Args:
            store: Where documents are read and written.
            pictures: Where files are.
            engine: What answers.
            config: How the engine is kept busy.
            live: Where progress is told.
            observe: Hears of every answer: ``completion`` or ``matching``, seconds, whether it failed.
        """
        self._store, self._engine = store, engine
        self._config = config or ConductorConfig()
        self._live = live or LiveDocuments()
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._asking = Asking(store, pictures)
        self._questions = Questions(
            engine,
            self._asking,
            self._config,
            lambda one: self._inbox.put(("answer", one)),
            observe,
        )
        self._outdated, self._job = Outdated(), MatchingJob()
        self._state: State = store.state()
        self._changed: set[str] | None = None
        self._to_encode: list[str] = []
        self._answers: list[Question] = []
        self._removed: dict[str, str] = {}
        self._on_view: str | None = None
        self._settled_at, self._retry_at = 0.0, 0.0
        self._trouble: str | None = None
        self._quiet = Quiet()
        self._heard = self._ended = False
        self._decision: bool | None = None
        self._again = False
        self._unsubscribe: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    def start(self) -> None:
        """Begins to follow the store."""
        self._unsubscribe = self._store.subscribe(self._hear)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends; questions that wait are cancelled. What is unfinished is out of date the next time."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._inbox.put(("stop", None))
        if self._thread.is_alive():
            self._thread.join(timeout)

    def view(self, iid: str | None) -> None:
        """Says which picture is looked at; it goes first."""
        self._inbox.put(("view", iid))

    def start_matching(self) -> None:
        """Matches all pictures that are out of date, and makes again what failed."""
        self._inbox.put(("match", True))

    def cancel_matching(self) -> None:
        """Stops matching until it is started, or, where that goes by itself, until the references change."""
        self._inbox.put(("match", False))

    def settled(self, timeout: float) -> bool:
        """Waits until there is nothing to do; whether that came about within ``timeout`` seconds."""
        ticket = self._quiet.ticket()
        self._inbox.put(("look", ticket))
        return self._quiet.wait(ticket, lambda: self._store.state().seq, timeout)

    def _hear(self, entry: Entry) -> None:
        self._inbox.put(("changed", tuple(entry.changes)))

    def _run(self) -> None:
        while not self._ended:
            try:
                self._turn()
            except Exception:
                _LOG.exception("The conductor stumbled; it looks at everything again.")
                self._changed = None
                # An answer may have been lost with it.
                self._questions.drop({})
                time.sleep(_AFTER_FAULT_S)
        self._questions.cancel()

    def _turn(self) -> None:
        """One round."""
        self._read(self._wait())
        if self._ended:
            return
        if not self._engine.ready:
            self._tell()
            return
        self._write()
        self._read(0)
        self._look()
        self._decide()
        self._remove()
        if time.monotonic() >= self._retry_at:
            try:
                self._ask()
            except FullError as error:
                self._retry_at = time.monotonic() + min(error.retry_after_s, self._config.retry_s)
            except ClosedError:
                self._retry_at = time.monotonic() + _AFTER_FAULT_S
        self._tell()

    def _wait(self) -> float:
        """Seconds until something is to be done without being told."""
        busy = len(self._questions) or self._outdated.masks or self._outdated.found
        if not self._engine.ready or busy or self._to_encode:
            now = time.monotonic()
            due = [at - now for at in (self._settled_at, self._retry_at) if at > now]
            return min([*due, self._config.tick_s if self._engine.ready else self._config.tick_s / 5])
        return 10 * self._config.tick_s

    def _read(self, wait: float) -> None:
        """Takes in all messages, after waiting for one."""
        try:
            message = self._inbox.get(timeout=wait) if wait > 0 else self._inbox.get_nowait()
            while True:
                self._take(*message)
                message = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, what: str, value: Any) -> None:
        if what == "stop":
            self._ended = True
        elif what == "changed":
            self._heard = True
            if self._changed is not None:
                self._changed.update(value)
        elif what == "look":
            self._quiet.take(value)
        elif what == "answer":
            self._answers.append(value)
        elif what == "view":
            self._on_view = value
            if value is not None:
                self._to_encode = [value, *(iid for iid in self._to_encode if iid != value)]
        elif what == "match":
            self._decision = self._again = value

    def _look(self) -> None:
        """Works out what is out of date."""
        if self._changed is not None and not self._heard:
            return
        changed, self._changed, self._heard = self._changed, set(), False
        self._state = self._store.state()
        before = self._outdated.examples
        self._outdated.look(self._state, self._engine.info.model, changed)
        examples = self._outdated.examples
        if examples is not None and before != examples:
            self._settled_at = time.monotonic() + self._config.settle_s
            self._job.references(f"{examples.digest} {examples.seed}")
        fresh = changed if changed is not None else self._first_pictures()
        for key in fresh:
            image = self._state.get(key) if key.startswith("image/") else None
            if isinstance(image, ImageDocument) and image.status == "open":
                self._to_encode.append(key.partition("/")[2])

    def _decide(self) -> None:
        """Starts or cancels, as last told; that holds for the references with the masks they will have."""
        if self._decision is not None:
            self._job.decide(self._decision)
            if self._again:
                self._outdated.again(self._state)
            self._again = False
            if not self._reference_pending():
                self._decision = None

    def _first_pictures(self) -> list[str]:
        pictures = (key.partition("/")[2] for key in self._state.of("image"))
        ordered = sorted(pictures, key=lambda iid: picture_order(self._state, iid))
        return [f"image/{iid}" for iid in ordered[: self._config.encode_first]]

    def _write(self) -> None:
        """Writes down the answers that are still of use, all in one entry."""
        answers, self._answers = self._answers, []
        changes: dict[str, Document] = {}
        for question in answers:
            try:
                document = self._questions.take(question)
            except ReadOnlyError as error:
                self._cannot_write(error)
                continue
            if document is not None:
                changes[question.key] = document
        if changes:
            self._count(changes)
            self._derive(changes, {"do": "derive", "model": self._engine.info.model})

    def _count(self, changes: Mapping[str, Document]) -> None:
        for document in changes.values():
            if isinstance(document, FoundDocument):
                self._job.count(document.error is not None)

    def _derive(self, changes: Mapping[str, Document | None], what: Mapping[str, Any]) -> None:
        try:
            self._store.derive(changes, what=what)
            self._trouble = None
            for key, document in changes.items():
                # What comes out as before is not written, so that nothing tells of it.
                if isinstance(document, MaskDocument | FoundDocument):
                    self._outdated.answered(key, document.basis)
        except (OSError, InputError) as error:
            self._cannot_write(error)

    def _cannot_write(self, error: Exception) -> None:
        """Nothing is lost: it stays out of date, and is made again when there is room."""
        _LOG.error("Results could not be written: %s", error)
        self._trouble = f"Results could not be written: {self._asking.told(str(error))}"
        self._retry_at = time.monotonic() + 5 * _AFTER_FAULT_S

    def _remove(self) -> None:
        """Takes away what nothing decides any longer, such as findings where there is no reference left."""
        keys = {k: b for k, b in self._outdated.pointless.items() if self._removed.get(k) != b}
        if keys:
            self._removed.update(keys)
            self._derive(dict.fromkeys(keys), {"do": "remove"})
            self._read(0)
            self._look()

    def _ask(self) -> None:
        """Asks for what is out of date and wanted, and takes back what is no longer."""
        found, masks, view = self._wanted(), self._outdated.masks, self._on_view
        self._questions.drop(keys_of(masks.items(), found))
        failures = self._questions.complete(self._state, masks, view)
        chosen = self._outdated.examples
        settled = time.monotonic() >= self._settled_at and not self._reference_pending()
        if chosen is not None and settled:
            failures |= self._questions.match(self._state, found, chosen, view)
        if failures:
            self._count(failures)
            self._derive(failures, {"do": "derive", "model": self._engine.info.model})
        if settled or view in self._to_encode[:1]:
            self._questions.encode(self._state, self._to_encode, view, lambda: self._inbox.put(("look", 0)))

    def _wanted(self) -> Mapping[str, str]:
        """What is to be matched: if the user wants it, what is out of date."""
        if not self._job.goes(self._state.project().automatic):
            return {}
        return self._outdated.found

    def _reference_pending(self) -> bool:
        """Whether a reference is being drawn: what its mask was before is not what to match with."""
        return any(self._state.layer(*layer).reference for layer in self._outdated.masks)

    def _tell(self) -> None:
        """Tells pages how far it is, and those who wait that there is nothing left to do."""
        engine, error = self._engine, getattr(self._engine, "error", None)
        trouble = self._trouble if error is None else self._asking.told(str(error))
        self._live.put("live/engine", engine_told(engine, trouble))
        goes = engine.ready and self._job.goes(self._state.project().automatic)
        self._live.put("live/job", self._job.told(len(self._outdated.found), goes))
        nothing = not (self._answers or len(self._questions) or self._outdated.masks)
        still = nothing and not self._heard and self._changed is not None
        done = still and not (goes and self._outdated.found) and engine.ready
        self._quiet.tell(self._state.seq if done else None)
