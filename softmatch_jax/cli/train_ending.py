"""What every ``softmatch train`` says at its end, and how it exits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from softmatch_jax.cli.names import printable
from softmatch_jax.training.curves import FILE as CURVES
from softmatch_jax.training.display import summary
from softmatch_jax.training.loop import TrainResult

_STATUS = {"SIGINT": 130, "SIGTERM": 143}


def say_end(
    result: TrainResult,
    steps: int,
    folder: Path,
    next_steps: Sequence[str],
    *,
    quiet: bool,
    stdout: TextIO,
    stderr: TextIO,
    found: Sequence[str] = (),
) -> int:
    """Prints the last lines: where it is, how good it is, what to do next.

    Args:
        result: Of the training.
        steps: That it was to have.
        folder: Of the training.
        next_steps: Lines that say how to use what came of it.
        quiet: Whether no progress was shown, which would have said why it stopped.
        stdout: Gets the lines.
        stderr: Gets the reason where it was not shown.
        found: Lines about how good it is, besides the last metrics.

    Returns:
        The exit status: 130 or 143 where a signal stopped the training, else 0.
    """
    run = printable(folder)
    if result.stopped and quiet:
        print(f"softmatch: stopped after step {result.step} of {steps}: {result.stopped}.", file=stderr)
    last = {name: value for record in result.history for name, value in record.items()}
    lines = [
        f"{result.step} of {steps} steps are done; checkpoints, metrics and {CURVES} are in {run}.",
        f"Last metrics: {summary(last)}." if last else "There are no metrics yet.",
        *found,
    ]
    if result.stopped:
        lines += ["To go on: the same command with --resume."]
    print("\n".join([*lines, *next_steps]), file=stdout, flush=True)
    return _STATUS.get((result.stopped or "").partition(" ")[0], 0)
