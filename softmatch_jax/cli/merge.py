"""``softmatch merge``: makes one folder of those that shards wrote on machines without a common disk.

Everything is checked and copied beside the output folder first, which then appears in one step.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro
from tyro import conf

from softmatch_jax._checks import InputError

Told: TypeAlias = tuple[str, int]
"""What a person is told, and the exit status."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Merges the output folders of shards that ran on different machines. Needs no models.

    Attributes:
        folders: Output folders of softmatch segment, or of softmatch evaluate, all of the same run.
        output: Folder for the whole; it must not exist yet, or be empty.
    """

    folders: Annotated[
        tuple[Path, ...], conf.Positional, conf.arg(metavar="FOLDER...", help_behavior_hint="(required)")
    ]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]


def run_merge(words: Sequence[str]) -> int:
    """Merges the folders that follow ``softmatch merge``.

    Returns:
        0, or 1 if a target or episode failed, or a shard's results are missing.

    Raises:
        InputError: The folders do not make one run, or the output cannot be written.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    config = tyro.cli(MergeConfig, prog="softmatch merge", args=list(words))
    text, status = merge(config)
    print(text, end="", flush=True)
    return status


def merge(config: MergeConfig) -> Told:
    """Merges, and says what there is in the output folder.

    Raises:
        InputError: See :func:`run_merge`.
    """
    _check(config)
    return _merger(config.folders)(config.folders, config.output)


def _check(config: MergeConfig) -> None:
    if not config.folders:
        raise InputError("No folder was given; expected the output folders of shards.")
    real = [os.path.realpath(folder) for folder in config.folders]
    for folder, path in zip(config.folders, real, strict=True):
        if not os.path.isdir(path):
            raise InputError(f"{folder} is not a folder; expected the output folder of a shard.")
        if real.count(path) > 1:
            raise InputError(f"The folder {folder} is given twice; expected each once.")
    output = config.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"The output {output} is not an empty folder; expected another folder (-o).")


def _merger(folders: Sequence[Path]) -> Callable[[Sequence[Path], Path], Told]:
    """What merges such folders.

    Raises:
        InputError: They are of different kinds, or of none.
    """
    from softmatch_jax.cli.layout import MARK
    from softmatch_jax.cli.merge_evaluations import find_runs, merge_evaluations
    from softmatch_jax.cli.merge_segmentations import merge_segmentations

    kinds = {}
    for folder in folders:
        if (folder / MARK).is_file():
            kinds[folder] = merge_segmentations
        elif find_runs(folder):
            kinds[folder] = merge_evaluations
        else:
            raise InputError(
                f"{folder} holds no results; expected an output folder of softmatch segment or evaluate."
            )
    first = folders[0]
    other = next((folder for folder in folders if kinds[folder] is not kinds[first]), None)
    if other is not None:
        commands = {merge_segmentations: "segment", merge_evaluations: "evaluate"}
        raise InputError(
            f"{first} is of softmatch {commands[kinds[first]]} and {other} of softmatch "
            f"{commands[kinds[other]]}; expected folders of one kind."
        )
    return kinds[first]


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A new folder beside ``output``, which takes its place at the end of the block, or goes if that fails.

    Raises:
        InputError: A file in it cannot be written.
    """
    output = Path(os.path.realpath(output))
    staged = output.with_name(f".{output.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        staged.mkdir(parents=True)
        yield staged
        if output.exists():
            output.rmdir()  # empty, as was checked; not every system renames onto a folder
        os.replace(staged, output)
    except OSError as error:
        raise InputError(
            f"The output folder {output} cannot be written ({error.strerror}: {error.filename}); check its "
            "permissions and free space, and that all inputs can be read."
        ) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def copy_files(source: Path, names: Sequence[str], goal: Path) -> None:
    """Copies files with the folders they are in; those that are there stay."""
    for name in names:
        if not (goal / name).exists():
            (goal / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, goal / name)
