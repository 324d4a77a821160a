"""Stopping between two steps when the system, the user or the time limit asks for it."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopper:
    """While entered, takes SIGTERM and SIGINT as a wish to stop; a second one acts as it always does.

    Outside the main thread, where Python has no signals, the time limit alone counts.

    Args:
        max_minutes: The time limit from now, or ``None``.
    """

    def __init__(self, max_minutes: float | None) -> None:
        self._end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._minutes = max_minutes
        self._signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def reason(self) -> str | None:
        """Why to stop now, or ``None`` to go on."""
        if self._signal is not None:
            return self._signal
        if self._end is not None and time.monotonic() >= self._end:
            return f"the {self._minutes:g} minutes are over"
        return None

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._signal = f"{signal.Signals(number).name} was received"
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # A handler that was not set from Python reads as None and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
