"""Progress on standard error: a bar in a terminal, a line for each target elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Step: TypeAlias = Callable[[str], None]
"""Says that one more target is through, and what became of it."""


@contextmanager
def progress(total: int, *, quiet: bool, stream: TextIO | None) -> Iterator[Step]:
    """Shows how far a batch is; yields the function to call after each target.

    Args:
        total: Number of targets.
        quiet: Show nothing.
        stream: Where to; a terminal gets a bar, and a closed one (``None``) nothing.
    """
    if quiet or stream is None:
        yield lambda text: None
    elif stream.isatty():
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(file=stream)) as bar:
            task = bar.add_task("", total=total)
            yield lambda text: bar.update(task, advance=1, description=escape(text))
    else:
        done = 0

        def line(text: str) -> None:
            nonlocal done
            done += 1
            print(f"[{done}/{total}] {text}", file=stream, flush=True)

        yield line
