"""Documents as JSON, written once for all who read them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from softmatch_jax.serve.project.documents import Document

if TYPE_CHECKING:
    from softmatch_jax.serve.live import LiveDocuments
    from softmatch_jax.serve.project.state import State
    from softmatch_jax.serve.project.store import Entry


def documents_json(documents: Mapping[str, Document | None]) -> bytes:
    """An object with the documents under their keys."""
    parts = (
        json.dumps(key) + ":" + ("null" if document is None else document.model_dump_json())
        for key, document in documents.items()
    )
    return ("{" + ",".join(parts) + "}").encode()


def entry_json(entry: Entry, *, what: bool = False) -> bytes:
    """An entry of the log; with ``what`` was asked and when, where that is wanted."""
    head = {"seq": entry.seq, "id": entry.id, "kind": entry.kind}
    if what:
        head |= {"at": entry.at, "what": entry.what}
    tail = {"undo": entry.undo, "redo": entry.redo}
    return _joined(head, b"changes", documents_json(entry.changes), tail)


class StateEncoder:
    """All a page needs to begin. Of one state to the next, only what changed is written anew. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[str, tuple[Document, str]] = {}
        self._last: tuple[State, bytes] | None = None

    def encode(self, state: State, live: LiveDocuments) -> bytes:
        """The documents of a state and those in memory."""
        head = {"boot": state.boot, "seq": state.seq}
        tail = {"live": live.since(0)[1], "undo": state.undo, "redo": state.redo}
        with self._lock:
            if self._last is None or self._last[0] is not state:
                self._last = state, self._documents(state)
            documents = self._last[1]
        return _joined(head, b"docs", documents, tail)

    def _documents(self, state: State) -> bytes:
        before, written = self._written, {}
        for key, document in state.docs.items():
            there = before.get(key)
            # Documents are values: the same one is written the same way.
            if there is None or there[0] is not document:
                there = document, f"{json.dumps(key)}:{document.model_dump_json()}"
            written[key] = there
        self._written = written
        return ("{" + ",".join(text for _, text in written.values()) + "}").encode()


def _joined(head: Mapping[str, object], name: bytes, value: bytes, tail: Mapping[str, object]) -> bytes:
    """One object of three parts, the middle one of which is JSON already."""
    return _dump(head)[:-1] + b',"' + name + b'":' + value + b"," + _dump(tail)[1:]


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
