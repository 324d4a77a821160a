"""The output folder: which files lie where, and what must hold before anything is written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import name_classes

CONFIDENCE, UNCERTAINTY = "confidence", "uncertainty"
"""The folders that are made only when asked for."""

FOLDERS = ("masks", "overlays", "maps", CONFIDENCE, UNCERTAINTY, "records")
RESULTS = "results.json"
SHEET = "contact_sheet.png"
MARK = "records/.softmatch"
"""An empty file that says the folder's results are ours, even if a run ended before its first record."""

_SHARD_RESULTS = re.compile(r"results\.shard-([1-9]\d*)-of-([1-9]\d*)\.json")


@dataclass(frozen=True, kw_only=True)
class TargetFiles:
    """Files of one target, relative to the output folder with ``/`` between the parts.

    Attributes:
        mask: Class indices.
        overlay: The picture with the classes tinted.
        maps: Match probability, one file for each class.
        record: Written last: the mark of a finished target.
        confidence: Confidence, one file for each class where it is wanted.
        uncertainty: Disagreement of sampled masks, likewise.
    """

    mask: str
    overlay: str
    maps: tuple[str, ...]
    record: str
    confidence: tuple[str, ...] = ()
    uncertainty: tuple[str, ...] = ()

    @property
    def pictures(self) -> tuple[str, ...]:
        """All but the record."""
        return (self.mask, self.overlay, *self.maps, *self.confidence, *self.uncertainty)


def results_file(number: int, of: int) -> str:
    """The results of a shard, relative to the output folder; those of the whole, shard 1 of 1."""
    return RESULTS if of == 1 else f"results.shard-{number}-of-{of}.json"


def results_files(root: Path) -> dict[tuple[int, int], Path]:
    """The results in an output folder by shard and number of shards, in this order; (1, 1) is the whole."""
    found = {(1, 1): root / RESULTS} if (root / RESULTS).is_file() else {}
    for path in root.glob("results.shard-*.json"):
        if match := _SHARD_RESULTS.fullmatch(path.name):
            found[int(match[1]), int(match[2])] = path
    return dict(sorted(found.items(), key=lambda item: item[0][::-1]))


def target_files(
    name: str, classes: Sequence[str], *, confidence: bool = False, uncertainty: bool = False
) -> TargetFiles:
    """The files of a target for a run with these classes, with or without two sorts of maps."""
    slugs = name_classes(classes)
    maps = (f"{name}.png",) if len(slugs) == 1 else tuple(f"{name}.{slug}.png" for slug in slugs)
    return TargetFiles(
        mask=f"masks/{name}.png",
        overlay=f"overlays/{name}.jpg",
        maps=tuple(f"maps/{file}" for file in maps),
        record=f"records/{name}.json",
        confidence=tuple(f"{CONFIDENCE}/{file}" for file in maps) if confidence else (),
        uncertainty=tuple(f"{UNCERTAINTY}/{file}" for file in maps) if uncertainty else (),
    )


def check_output(
    root: Path,
    planned: Sequence[TargetFiles],
    inputs: Iterable[Path],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Checks that results can be written to ``root`` and harm nothing.

    Args:
        root: The output folder; it need not exist.
        planned: Files that will be written.
        inputs: All files that the run reads.
        resume: Whether results of an earlier run may stay, or others may be at work there (shards).
        overwrite: Whether they may be replaced.

    Raises:
        InputError: It is no folder, is not writable, holds results that may neither stay nor be
            replaced, holds files in their places that are not ours, or holds an input among them.
    """
    if resume and overwrite:
        raise InputError(
            "--resume and --overwrite are given together; expected one of them (--resume keeps finished "
            "targets, --overwrite replaces them)."
        )
    _check_writable(root)
    _check_inputs(root, inputs)
    if (resume or overwrite) and (root / MARK).exists():
        return
    files = [file for target in planned for file in (*target.pictures, target.record)]
    records = root.glob("records/*.json")
    shards = (path.name for path in results_files(root).values())
    present = next(
        (path for path in (root / file for file in (RESULTS, SHEET, *shards, *files)) if path.exists()), None
    )
    present = present or next(iter(sorted(records)), None)
    ours = (root / MARK).exists()  # looked for last: another shard makes it before its first file
    if ours and resume:
        return
    if present is not None and not ours:
        raise InputError(
            f"{present} is in the way and was not made by softmatch; expected another output folder (-o)."
        )
    if present is not None:
        raise InputError(
            f"The output folder {root} already holds results, such as {present.name}; expected --resume to "
            "go on with them, --overwrite to replace them, or another folder (-o)."
        )


def _check_inputs(root: Path, inputs: Iterable[Path]) -> None:
    own = [Path(os.path.realpath(root / folder)) for folder in FOLDERS]
    for path in inputs:
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(folder) for folder in own):
            raise InputError(
                f"The input {path} lies among the results in {root}, which this run would replace; expected "
                "another output folder (-o)."
            )


def _check_writable(root: Path) -> None:
    existing = Path(os.path.abspath(root))
    try:
        root.exists()
    except OSError as error:
        raise InputError(
            f"The output folder {str(root)[:80]} cannot be made ({error.strerror}); choose another (-o)."
        ) from None
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(
            f"The output folder {root} cannot be made: {existing} is not a folder; expected another -o."
        )
    for folder in (existing, *(root / name for name in FOLDERS if (root / name).exists())):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"The output folder {root} cannot be written: {folder} does not allow it; change its "
                "permissions, or choose another folder (-o)."
            )


def make_folders(root: Path, *, confidence: bool = False, uncertainty: bool = False) -> None:
    """Makes the output folder and the folders in it; those for two sorts of maps only where they are wanted.

    Raises:
        InputError: The system refuses.
    """
    wanted = {CONFIDENCE: confidence, UNCERTAINTY: uncertainty}
    try:
        for folder in FOLDERS:
            if wanted.get(folder, True):
                (root / folder).mkdir(parents=True, exist_ok=True)
        (root / MARK).touch()
    except OSError as error:
        raise InputError(
            f"The output folder {root} cannot be made ({error.strerror}); choose another folder (-o)."
        ) from None


def remove_files(root: Path, files: Iterable[str]) -> None:
    """Removes files of ours; names that lead out of our folders are passed over.

    Args:
        root: The output folder.
        files: Relative names, as records give them.

    Raises:
        InputError: A file cannot be removed.
    """
    for file in files:
        parts = PurePosixPath(file).parts
        if len(parts) > 2 or (len(parts) == 2 and parts[0] not in FOLDERS) or ".." in parts:
            continue
        if len(parts) == 1 and file not in (RESULTS, SHEET) and not _SHARD_RESULTS.fullmatch(file):
            continue
        try:
            (root / file).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{root / file} cannot be removed ({error.strerror}); check the folder's permissions."
            ) from None
