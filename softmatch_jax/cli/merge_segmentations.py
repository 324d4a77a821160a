"""Merging what shards of ``softmatch segment`` wrote: the records are the truth, the rest follows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.cli.layout import CONFIDENCE, RESULTS, UNCERTAINTY, make_folders, results_files
from softmatch_jax.cli.merge import Told, copy_files, whole_folder
from softmatch_jax.cli.pictures import write_sheet
from softmatch_jax.cli.records import Record, count_entries, difference_in_making, read_records, to_json
from softmatch_jax.cli.summary import summary
from softmatch_jax.evaluation.run_file import first_difference
from softmatch_jax.imaging import atomic_write_text

Document = Mapping[str, Any]

_SAME = ("softmatch", "seed", "settings", "models", "classes")
"""What the results of all shards have in common."""

_SUMMED = ("references", "total")


@dataclass(frozen=True)
class _Part:
    """What one of the folders holds.

    Attributes:
        root: The folder.
        records: Its records by their relative name.
        documents: Its results by shard and number of shards.
    """

    root: Path
    records: dict[str, Record]
    documents: dict[tuple[int, int], Document]


def merge_segmentations(folders: Sequence[Path], output: Path) -> Told:
    """Merges segmentations: records and their pictures are copied, results and sheet are made from them.

    The results are those of the whole run, in its order where all shards are of one number; timings are
    sums. The sheet shows the targets alone.

    Raises:
        InputError: The folders were made differently, disagree on a target, lack pictures or all results, or
            a file cannot be read or written.
    """
    parts = [_read(folder) for folder in folders]
    _check_same(parts)
    records = _records(parts)
    entries = _entries(parts, records)
    document = _document(parts, entries)
    with whole_folder(output) as staged:
        extra = {
            name: any((part.root / name).is_dir() for part in parts) for name in (CONFIDENCE, UNCERTAINTY)
        }
        make_folders(staged, **extra)
        for name, (root, record) in records.items():
            copy_files(root, [*record.files(), name], staged)
        shown = [found for entry in entries if (found := _record_of(entry, records)) is not None]
        if shown:
            write_sheet(staged, [], shown)
        atomic_write_text(staged / RESULTS, to_json(document))
    missing = _missing_shards(parts)
    return summary(document, output) + missing, int(bool(document["summary"]["failed"] or missing))


def _read(root: Path) -> _Part:
    documents: dict[tuple[int, int], Document] = {}
    for shard, path in results_files(root).items():
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or not {"targets", "summary", "timings"} <= document.keys():
                raise ValueError
        except (OSError, ValueError):
            raise InputError(
                f"{path} cannot be read as results; expected what softmatch segment wrote (give its command "
                "again with --resume)."
            ) from None
        documents[shard] = document
    records = read_records(root)
    for name, record in records.items():
        lost = next((file for file in record.files() if not (root / file).is_file()), None)
        if lost is not None:
            raise InputError(
                f"{root / lost} does not exist, and {root / name} says it does; expected all pictures (give "
                "the command that made the folder again with --resume)."
            )
    return _Part(root, records, documents)


def _check_same(parts: Sequence[_Part]) -> None:
    """Checks that all records, and all results, were made in one way."""
    made = [(part.root / name, record.made_with) for part in parts for name, record in part.records.items()]
    said = [
        (part.root, {key: value for key, value in document.items() if key in _SAME})
        for part in parts
        for document in part.documents.values()
    ]
    if not said:
        raise InputError(
            f"{parts[0].root} and the other folders hold no results; expected those of at least one shard "
            "that came to its end (give its command again with --resume)."
        )
    for group in (made, said):
        for where, how in group[1:]:
            difference = difference_in_making(group[0][1], how)
            if difference is not None:
                raise InputError(
                    f"{group[0][0]} and {where} were made differently: {difference}; expected shards of the "
                    "same run."
                )


def _records(parts: Sequence[_Part]) -> dict[str, tuple[Path, Record]]:
    """All records by name, each with the folder it is taken from."""
    found: dict[str, tuple[Path, Record]] = {}
    for part in parts:
        for name, record in part.records.items():
            root, first = found.setdefault(name, (part.root, record))
            difference = first_difference(_lasting(first.entry), _lasting(record.entry))
            if difference is not None:
                raise InputError(
                    f"{root / name} and {part.root / name} are different results: {difference}; expected one "
                    "result for a target (leave one of the folders out, or remove one of the files)."
                )
    return found


def _lasting(entry: Document) -> Document:
    """An entry without what may differ between machines: the path as typed there, and the time."""
    return {key: value for key, value in entry.items() if key not in ("target", "timings")}


def _entries(parts: Sequence[_Part], records: Mapping[str, tuple[Path, Record]]) -> list[Document]:
    """One entry for each target: those of the results in their order, then records that no results name.

    A target that failed in one folder and is done in another is done.

    Raises:
        InputError: A target was done, and its record has gone.
    """
    found: dict[str, Document] = {}
    failed = {entry["target"] for entry in _in_order(parts) if entry["status"] == "failed"}
    for entry in _in_order(parts):
        name = _record_name(entry)
        if name is not None and name not in records and entry["target"] not in failed:
            raise InputError(
                f"{name} of {entry['target']} is in none of the folders, and results name it; expected all "
                "records (give the command that made the folder again with --resume)."
            )
        if name is None:
            found.setdefault(f"failed: {entry['target']}", entry)
        elif name in records:
            found.setdefault(name, records[name][1].entry | {"target": entry["target"]})
    for name in sorted(records):
        found.setdefault(name, records[name][1].entry)
    done = {entry["target"] for entry in found.values() if entry["status"] == "ok"}
    return [entry for entry in found.values() if entry["status"] == "ok" or entry["target"] not in done]


def _in_order(parts: Sequence[_Part]) -> Iterator[Document]:
    """The entries of all results; those of shards take turns, as the shards took targets."""
    placed = [
        (of, number - 1 + position * of, entry)
        for part in parts
        for (number, of), document in part.documents.items()
        for position, entry in enumerate(document["targets"])
    ]
    for _, _, entry in sorted(placed, key=lambda item: item[:2]):
        yield entry


def _record_name(entry: Document) -> str | None:
    """The record of a target that was done: it bears the name of the mask."""
    mask = entry.get("mask")
    return f"records/{Path(mask).stem}.json" if isinstance(mask, str) else None


def _record_of(entry: Document, records: Mapping[str, tuple[Path, Record]]) -> Record | None:
    name = _record_name(entry)
    return None if name is None else records[name][1]


def _document(parts: Sequence[_Part], entries: Sequence[Document]) -> dict[str, Any]:
    documents = [document for part in parts for document in part.documents.values()]
    timings = {key: sum(document["timings"].get(key, 0.0) for document in documents) for key in _SUMMED}
    return {
        **documents[0],
        "targets": list(entries),
        "timings": {**timings, "skipped": 0},
        "summary": count_entries(entries),
    }


def _missing_shards(parts: Sequence[_Part]) -> str:
    """A line about shards without results, where there are any."""
    shards = {shard for part in parts for shard in part.documents}
    counts = {of for _, of in shards}
    if 1 in counts or any(all((i, of) in shards for i in range(1, of + 1)) for of in counts):
        return ""
    of = max(counts)
    missing = ", ".join(str(i) for i in range(1, of + 1) if (i, of) not in shards)
    return f"Of {of} shards these have no results: {missing}; their targets without a record are not here.\n"
