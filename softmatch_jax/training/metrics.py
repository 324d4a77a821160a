"""What a training says of itself: a line of JSON each few steps, means over the steps since the last."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import atomic_write_text
from softmatch_jax.training.step import Outcome
from softmatch_jax.training.task import Weighted

FILE = "metrics.jsonl"
"""Name of the file in the folder of a training."""

Record: TypeAlias = dict[str, float | None]
"""A line: numbers by name, ``None`` for what was not finite."""

RESERVED = frozenset(
    {"step", "seconds", "loss", "grad_norm", "learning_rate", "skipped"}
    | {"pictures_per_second", "waiting", "stepping", "other", "compiling"}
)
"""Names that a task's metrics may not have."""


class Window:
    """Means over the steps since the last line. Steps that were skipped do not count.

    The scalars stay on the device until they are asked for.

    Args:
        kept: What a checkpoint kept of a window, see :meth:`kept`.
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        self._pending: list[Outcome] = []
        # By name, because a metric may be told at some steps only.
        self._weights: dict[str, float] = dict(kept["weights"]) if kept else {}
        self._sums: dict[str, float] = dict(kept["sums"]) if kept else {}
        self.skipped = 0
        self._rate = math.nan

    def add(self, outcome: Outcome) -> None:
        """Takes in a step."""
        self._pending.append(outcome)

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps, to go on with the same numbers. Waits for the device."""
        self._fetch()
        return {"weights": dict(self._weights), "sums": dict(self._sums)}

    def close(self) -> Record:
        """The means, the last learning rate and the steps skipped so far. Waits for the device."""
        self._fetch()
        means = {name: _ratio(total, self._weights[name]) for name, total in self._sums.items()}
        self._weights, self._sums = {}, {}
        return {"loss": None, **means, "learning_rate": self._rate, "skipped": self.skipped}

    def _fetch(self) -> None:
        # One by one in their order, in double precision: the sums do not depend on when they are fetched.
        for outcome in jax.device_get(self._pending):
            self._rate, self.skipped = float(outcome.learning_rate), int(outcome.skipped)
            if outcome.finite:
                for name, value in outcome.values.items():
                    total, weight = value if isinstance(value, Weighted) else (value, 1)
                    self._weights[name] = self._weights.get(name, 0.0) + float(weight)
                    self._sums[name] = self._sums.get(name, 0.0) + float(total)
        self._pending.clear()


def check_names(metrics: Mapping[str, Any]) -> None:
    """Raises ``InputError`` if a metric of a task has one of our names or is no scalar."""
    for name, value in metrics.items():
        if name in RESERVED - {"loss", "grad_norm"}:
            raise InputError(f"The task has a metric {name!r}, which is a name of the loop; rename it.")
        for part in jax.tree.leaves(value):
            if part.shape:
                raise InputError(
                    f"The task's metric {name!r} has shape {list(part.shape)}; expected a scalar."
                )


class MetricsFile:
    """The lines in the folder of a training.

    Args:
        folder: Of the training.
        steps: Steps that are done: later lines, of a run that went on past its last checkpoint, are cut.

    Raises:
        InputError: The file cannot be read or written.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = Path(folder) / FILE
        self.history = [record for record in read_metrics(self._path) if (record["step"] or 0) <= steps]
        atomic_write_text(self._path, "".join(_line(record) for record in self.history))

    def append(self, record: Record) -> None:
        """Adds a line.

        Raises:
            InputError: The file cannot be written.
        """
        self.history.append(record)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be written ({error.strerror}); make room on the disk, then resume."
            ) from None


def read_metrics(path: Path) -> list[Record]:
    """The lines of a file of metrics; none if it is not there. A last line that was cut short is left out.

    Raises:
        InputError: Another line is no record.
    """
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines()
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            float(record["step"])
        except (ValueError, TypeError, KeyError):
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number}, is no record with a step; remove the line or the file."
            ) from None
        records.append(record)
    return records


def _ratio(total: float, weight: float) -> float | None:
    """The mean, or ``None`` where there is none that JSON has a number for."""
    mean = total / weight if weight else math.nan
    return mean if math.isfinite(mean) else None


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
