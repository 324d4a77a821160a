"""What pages follow: the latest entries of the project, and documents that are in memory alone.

Nothing is kept for any one page. Each reads from the same bounded memory at its own pace, so that one that
does not read costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softmatch_jax.serve.engine.local import Engine


class LiveDocuments:
    """Documents that are sent to pages and never logged, such as ``live/job``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[str, tuple[int, dict[str, Any]]] = {}
        self._version = 0
        self._listener: Callable[[], None] | None = None

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Sets a document and tells the listener, unless it is what it was."""
        with self._lock:
            old = self._documents.get(key)
            if old is not None and old[1] == document:
                return
            self._version += 1
            self._documents[key] = (self._version, dict(document))
            listener = self._listener
        if listener is not None:
            listener()

    def since(self, version: int) -> tuple[int, dict[str, dict[str, Any]]]:
        """The version now, and the documents that were set after ``version``."""
        with self._lock:
            newer = {key: document for key, (at, document) in self._documents.items() if at > version}
            return self._version, newer

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Calls ``listener`` after every change, from the thread that made it."""
        self._listener = listener


def engine_told(engine: Engine, trouble: str | None) -> dict[str, Any]:
    """The document ``live/engine``; ``trouble`` says what keeps it from its work."""
    info, load = engine.info, engine.load()
    return {
        "ready": engine.ready,
        "backend": info.backend,
        "model": info.model,
        "texts": info.texts,
        "depth": int(load.get("depth", 0)),
        "capacity": int(load.get("capacity", 0)),
        "error": trouble,
    }


class RecentEntries:
    """The latest entries, ready to be sent, by number. Not thread-safe: the event loop owns it.

    Args:
        after: Number of the last entry that is not remembered.
        most: Entries that are remembered.
    """

    def __init__(self, after: int, most: int = 2000) -> None:
        self._entries: deque[tuple[int, bytes]] = deque(maxlen=most)
        self.last = after

    def add(self, seq: int, frame: bytes) -> None:
        """Remembers an entry, unless it is known."""
        if seq > self.last:
            if seq > self.last + 1:
                # What was missed has to be read from the log.
                self._entries.clear()
            self._entries.append((seq, frame))
            self.last = seq

    def after(self, seq: int, limit: int = 200) -> list[tuple[int, bytes]] | None:
        """Entries after ``seq`` in order, or None where some of those are no longer remembered."""
        if seq >= self.last:
            return []
        if not self._entries or self._entries[0][0] > seq + 1:
            return None
        # Without gaps, so that a page that lacks the last one alone costs next to nothing.
        first = len(self._entries) - (self.last - seq)
        return [self._entries[place] for place in range(first, min(first + limit, len(self._entries)))]
