"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["waiting", "stepping", "compiling"]
"""For the data; for the device; for XLA, when a variant of the batch comes for the first time."""


class Clock:
    """Adds up the parts since the last reading, and the pictures.

    Waiting is counted while the device may still be busy with an earlier step: it is an upper bound of what
    the data cost.

    Args:
        before: Seconds that earlier runs took.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._born = time.perf_counter() - before
        self._restart()

    @property
    def seconds(self) -> float:
        """Seconds of training in all."""
        return time.perf_counter() - self._born

    @contextmanager
    def of(self, part: Part) -> Iterator[None]:
        """Counts the block's time for ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._parts[part] += time.perf_counter() - start

    def count(self, pictures: int) -> None:
        """Adds the pictures of a step."""
        self._pictures += pictures

    def read(self) -> dict[str, float | None]:
        """The record of the time since the last reading, compilation apart; then starts from nothing.

        Returns:
            ``seconds`` of training in all, ``pictures_per_second``, the shares ``waiting``, ``stepping`` and
            ``other`` (metrics, checkpoints), which make 1, and the seconds of ``compiling``.
        """
        compiling = self._parts["compiling"]
        running = max(time.perf_counter() - self._start - compiling, 1e-9)
        waiting, stepping = self._parts["waiting"] / running, self._parts["stepping"] / running
        record = {
            "seconds": round(self.seconds, 3),
            "pictures_per_second": round(self._pictures / running, 3),
            "waiting": round(waiting, 5),
            "stepping": round(stepping, 5),
            "other": round(max(1 - waiting - stepping, 0), 5),
            "compiling": round(compiling, 3),
        }
        self._restart()
        return dict(record)

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._pictures = 0
        self._parts: dict[Part, float] = {"waiting": 0.0, "stepping": 0.0, "compiling": 0.0}
