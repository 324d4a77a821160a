"""Whether targets are to be matched now, and how far that is."""

from __future__ import annotations

from typing import Any


class MatchingJob:
    """The wish of the user and the count of what was done. Not thread-safe.

    A cancelled job stays so until it is started or the references change.
    """

    def __init__(self) -> None:
        self._digest = ""
        self._started: str | None = None
        self._stopped: str | None = None
        self._running = self._finished = False
        self._done, self._failed = 0, 0

    def references(self, digest: str) -> None:
        """The references have changed: what was done is counted from the start."""
        self._digest = digest
        self._done, self._failed = 0, 0

    def decide(self, go: bool) -> None:
        """The user starts or cancels."""
        self._started = self._digest if go else None
        self._stopped = None if go else self._digest

    def goes(self, automatic: bool) -> bool:
        """Whether what is out of date is to be matched."""
        if self._stopped == self._digest:
            return False
        return automatic or self._started == self._digest

    def count(self, failed: bool) -> None:
        """One more is done."""
        self._done += not failed
        self._failed += failed

    def told(self, outdated: int, goes: bool) -> dict[str, Any]:
        """The document ``live/job``. ``total`` is of this job; ``waiting`` are out of date and not in it."""
        running = goes and outdated > 0
        if running and not self._running and self._done + self._failed > 0 and self._finished:
            self._done, self._failed = 0, 0
        self._finished = not running and outdated == 0
        self._running = running
        cancelled = not goes and outdated > 0 and self._stopped == self._digest
        return {
            "state": "running" if running else "cancelled" if cancelled else "idle",
            "total": self._done + self._failed + (outdated if running else 0),
            "done": self._done,
            "failed": self._failed,
            "waiting": 0 if running else outdated,
        }
