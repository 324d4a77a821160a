"""Records of finished episodes: lines of JSON, written as they come, by any number of workers.

Each worker appends to a file of its own, so that none waits for another and a lost one takes nothing with
it; the records of a run are the lines of all its files, whoever wrote them. A line torn by a crash is passed
over, and its episode is done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from softmatch_jax._checks import InputError

FOLDER = "records"
_MOST_FILES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """What is kept of one episode.

    Attributes:
        seed: Of the draw.
        index: Place in the set.
        class_name: The class that was asked for.
        target: Name of the target.
        references: Names of the references.
        counts: The fields of :class:`~softmatch_jax.evaluation.counting.Counts`; empty where the episode
            failed.
        boundary: Those of :class:`~softmatch_jax.evaluation.boundaries.BoundaryCounts`.
        absent: Whether the method called the class absent.
        reason: Why.
        seconds: What the method took.
        error: Why the episode failed, or ``None``.
    """

    seed: int
    index: int
    class_name: str
    target: str
    references: tuple[str, ...]
    counts: tuple[int, ...] = ()
    boundary: tuple[int, ...] = ()
    absent: bool = False
    reason: str | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def place(self) -> tuple[int, int]:
        """``(seed, index)``."""
        return self.seed, self.index


class RecordWriter:
    """Appends records to a new file; each is on its way to the disk when :meth:`write` returns."""

    def __init__(self, root: Path) -> None:
        """Opens a file that no other worker has.

        Raises:
            InputError: The folder cannot be written.
        """
        self._file = _new_file(root / FOLDER)

    def write(self, record: EpisodeRecord) -> None:
        """Appends one record.

        Raises:
            InputError: The disk is full or gone.
        """
        try:
            self._file.write(json.dumps(asdict(record)) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self._file.name} cannot be written ({error.strerror}); check the disk's free space, then "
                "give the same command with --resume."
            ) from None

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What write had not brought to the disk has raised there; closing would try once more, and raise.
        with suppress(OSError):
            self._file.close()


def _new_file(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # From the number of files on, so that the first try mostly succeeds; "x" settles who was first.
        start = sum(1 for _ in folder.glob("part-*.jsonl"))
        for number in range(start, _MOST_FILES):
            try:
                return (folder / f"part-{number:04d}.jsonl").open("x", encoding="utf-8")
            except FileExistsError:
                continue
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); check the folder's permissions and free space."
        ) from None
    raise InputError(f"{folder} holds {_MOST_FILES} files; expected fewer (use another output folder).")


def read_records(root: Path) -> Iterator[EpisodeRecord]:
    """All records of a run, one at a time; an episode done twice comes twice.

    Raises:
        InputError: A file cannot be read.
    """
    for path in sorted((root / FOLDER).glob("part-*.jsonl")):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    record = _parse(line)
                    if record is not None:
                        yield record
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); check the file's permissions."
            ) from None


def _parse(line: str) -> EpisodeRecord | None:
    """A record, or ``None`` for a line that is torn."""
    if not line.endswith("\n"):
        return None
    try:
        fields: dict[str, Any] = json.loads(line)
        fields["references"] = tuple(fields["references"])
        fields["counts"], fields["boundary"] = tuple(fields["counts"]), tuple(fields["boundary"])
        return EpisodeRecord(**fields)
    except (ValueError, TypeError, KeyError):
        return None


def finished(root: Path) -> set[tuple[int, int]]:
    """``(seed, index)`` of the episodes that were done and did not fail."""
    return {record.place for record in read_records(root) if record.error is None}
