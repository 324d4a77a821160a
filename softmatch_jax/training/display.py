"""Progress of a training: a line for each record of metrics, in a terminal with a bar beneath."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_HIDDEN = ("step", "seconds", "stepping", "other", "grad_norm", "learning_rate")


class Display:
    """Shows how far a training is.

    Args:
        stream: Where to; ``None`` shows nothing.
        steps: Number of steps in all.
        done: Steps done before.
    """

    def __init__(self, stream: TextIO | None, steps: int, done: int) -> None:
        self._stream, self._steps = stream, steps
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if stream is not None and stream.isatty():
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps, left"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(file=stream))
            self._task = self._bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int) -> None:
        """Moves the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def record(self, record: Mapping[str, float | None]) -> None:
        """A line with a record of metrics."""
        self.say(f"[{record['step']:g}/{self._steps}] {summary(record)}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(escape(text), highlight=False, soft_wrap=True)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)


def summary(record: Mapping[str, float | None]) -> str:
    """What matters of a record of metrics, on a line."""
    parts = []
    for name, value in record.items():
        if name in _HIDDEN or (name in ("skipped", "compiling") and not value):
            continue
        if value is None:
            parts.append(f"{name} not finite")
        elif name == "pictures_per_second":
            parts.append(f"{value:.1f} pictures/s")
        elif name == "waiting":
            parts.append(f"{100 * value:.1f} % waiting for data")
        elif name == "skipped":
            parts.append(f"{value:g} steps skipped")
        elif name == "compiling":
            parts.append(f"{value:.0f} s compiling")
        else:
            parts.append(f"{name} {value:.4f}")
    return ", ".join(parts)
