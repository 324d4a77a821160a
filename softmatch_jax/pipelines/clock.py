"""Where the time of a target goes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Wall-clock seconds by stage.

    Args:
        between: Called after every stage; its time is booked nowhere, and what it raises goes through.

    Attributes:
        seconds: Time booked so far under each name.
    """

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._between = between
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Books the time since the last lap under ``name``, on top of what is there."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        if self._between is not None:
            self._between()
            now = time.perf_counter()
        self._last = now
