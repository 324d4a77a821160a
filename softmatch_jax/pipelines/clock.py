"""Where the time of a target goes."""

from __future__ import annotations

import time


class Clock:
    """Wall-clock seconds by stage.

    Attributes:
        seconds: Time booked so far under each name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Books the time since the last lap under ``name``, on top of what is there."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
