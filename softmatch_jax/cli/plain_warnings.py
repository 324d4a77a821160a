"""Warnings of ours, as one line for the user."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_CACHE = "Features cannot be stored"


@contextmanager
def plain_warnings(
    stream: TextIO | None, *, ours: type[Warning] = RuntimeWarning, begins: str = _CACHE
) -> Iterator[None]:
    """Shows warnings of one kind as one line, every time and without the place in the code.

    Args:
        stream: Where to; by default standard error as it then is.
        ours: Their category.
        begins: What they begin with; by default what the feature cache warns of.
    """
    show = warnings.showwarning

    def show_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        there = stream or sys.stderr
        if not (issubclass(category, ours) and str(message).startswith(begins)):
            show(message, category, filename, lineno, file, line)
        elif there is not None:
            print(f"softmatch: warning: {message}", file=there, flush=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=begins, category=ours)
        warnings.showwarning = show_line
        yield
