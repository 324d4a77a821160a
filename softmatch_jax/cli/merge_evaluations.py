"""Merging what shards of ``softmatch evaluate`` wrote: runs of the same name become one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.cli.merge import Told, copy_files, whole_folder
from softmatch_jax.cli.names import printable
from softmatch_jax.evaluation.markdown import write_table
from softmatch_jax.evaluation.records import FOLDER
from softmatch_jax.evaluation.report import collect, results, write_results
from softmatch_jax.evaluation.run_file import MASKS, RUN, first_difference, read_run


def find_runs(folder: Path) -> dict[str, Path]:
    """The runs in a folder by name: one for each method, or the folder itself."""
    if (folder / RUN).is_file():
        return {folder.resolve().name: folder}
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{RUN}"))}


def merge_evaluations(folders: Sequence[Path], output: Path) -> Told:
    """Merges evaluations: records and masks are copied, numbers and the table are made anew.

    Contact sheets need the data, and are left to ``softmatch evaluate --resume``. Of an episode that was done
    in several folders, the first counts.

    Raises:
        InputError: Runs of one name were made differently, or a file cannot be read or written.
    """
    runs = _gathered(folders)
    for roots in runs.values():
        _check_same(roots)
    documents = {}
    with whole_folder(output) as staged:
        for name, roots in runs.items():
            documents[name] = _merge_run(roots, staged / name)
        table = write_table(staged, list(documents.values()))
    lines = [_missing(name, document, runs[name][0]) for name, document in documents.items()]
    text = "\n".join(
        [
            table,
            *filter(None, lines),
            f"The whole is in {printable(output)}; softmatch evaluate with --resume -o {printable(output)} "
            "draws the contact sheets, and does what is missing.",
        ]
    )
    return text + "\n", int(any(document["episodes"]["failed"] for document in documents.values()))


def _gathered(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The runs of all folders by name; folders that are runs themselves may be named as one likes."""
    found = [find_runs(folder) for folder in folders]
    single = [(folder / RUN).is_file() for folder in folders]
    if all(single):
        name = next(iter(found[0]))
        return {name: list(folders)}
    if any(single):
        one, other = folders[single.index(True)], folders[single.index(False)]
        raise InputError(
            f"{one} is the run of one method, and {other} holds such runs; expected folders of one level."
        )
    names = dict.fromkeys(name for runs in found for name in runs)
    return {name: [runs[name] for runs in found if name in runs] for name in names}


def _check_same(roots: Sequence[Path]) -> None:
    first = read_run(roots[0])
    for root in roots[1:]:
        difference = first_difference(first, read_run(root))
        if difference is not None:
            raise InputError(
                f"The runs in {roots[0]} and {root} were made differently: {difference}; expected shards of "
                "the same run."
            )


def _merge_run(roots: Sequence[Path], goal: Path) -> dict[str, Any]:
    copy_files(roots[0], [RUN], goal)
    (goal / FOLDER).mkdir()
    parts = (path for root in roots for path in sorted((root / FOLDER).glob("part-*.jsonl")))
    for number, path in enumerate(parts):
        shutil.copyfile(path, goal / FOLDER / f"part-{number:04d}.jsonl")
    for root in roots:
        copy_files(root, _relative(root, root.glob(f"{MASKS}/seed*/*.png")), goal)
    document = results(goal, collect(goal))
    write_results(goal, document)
    return document


def _relative(root: Path, paths: Iterable[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def _missing(name: str, document: Mapping[str, Any], root: Path) -> str | None:
    """A line about the episodes without a record, if there are any for the seeds that were seen."""
    total = int(read_run(root)["set_size"]) * max(1, len(document["seeds"]))
    left = total - int(document["episodes"]["asked"])
    if left <= 0:
        return None
    return f"{name}: {left} of {total} episodes have no record (unless --episodes asked for fewer)."
