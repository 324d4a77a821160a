"""Checkpoints of a training: whole or not there, the newest kept, and only for the training they are of."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.training.arrays_on_disk import describe_leaves, digests, read_arrays, write_arrays

FOLDER = "checkpoints"
"""Where in the folder of a training they lie, as ``step_00001000``."""

_PREFIX, _ARRAYS, _ABOUT = "step_", "arrays", "about.json"

_KEYS = {"task", "settings", "config", "data", "progress", "leaves", "files"}

Tree = TypeVar("Tree")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint must share with the training that goes on from it; all as JSON can hold it.

    Attributes:
        task: Name of the task and its preset.
        settings: Of the task.
        config: Settings of the training that decide what is learned.
        data: Digest of the data.
    """

    task: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    data: str


class DamagedCheckpoint(UserWarning):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The checkpoints in the folder of a training.

    Args:
        folder: Of the training.
        identity: What is trained.
        keep: How many are kept, the newest.
    """

    def __init__(self, folder: Path, identity: Identity, keep: int) -> None:
        self._folder = Path(folder) / FOLDER
        self._identity = identity
        self._keep = keep

    def steps(self) -> list[int]:
        """The numbers of steps after which there is one, rising; damaged ones too."""
        return stored_steps(self._folder.parent)

    def save(self, step: int, state: Any, progress: Mapping[str, Any]) -> Path:
        """Writes the checkpoint after ``step`` steps, then removes those that are too many.

        Args:
            step: Number of steps done.
            state: A pytree of arrays.
            progress: What else there is to know, as JSON can hold it.

        Returns:
            Its folder.

        Raises:
            InputError: It cannot be written, for instance on a full disk. The earlier ones are as they were.
        """
        target = self._path(step)
        temporary = self._folder / f".{target.name}.{secrets.token_hex(4)}.tmp"
        try:
            self._sweep()
            temporary.mkdir(parents=True)
            files = write_arrays(temporary.absolute() / _ARRAYS, state)
            about = {"step": step, "progress": progress, "leaves": describe_leaves(state), "files": files}
            _write_about(temporary, {**asdict(self._identity), **about})
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            _sync(self._folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"The checkpoint {target} cannot be written ({error.strerror or error}); make room on the "
                "disk or mend the folder, then resume from the last one."
            ) from None
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._path(old), ignore_errors=True)
        return target

    def restore(self, like: Tree) -> tuple[Tree, int, dict[str, Any]] | None:
        """The newest checkpoint that is whole; a damaged one is passed over with a warning.

        Args:
            like: A state whose types, shapes and shardings are those to read.

        Returns:
            The state, the number of steps done and the progress; ``None`` if there is no checkpoint.

        Raises:
            InputError: The checkpoint is of another training, or all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self._path(step)
            try:
                about = read_about(path)
                self._check(path, about, describe_leaves(like))
                state = read_state(path, about, like)
            except OSError as error:
                warnings.warn(
                    f"The checkpoint {path} is damaged ({error}) and passed over for an earlier one.",
                    DamagedCheckpoint,
                    stacklevel=2,
                )
                continue
            return state, step, about["progress"]
        if steps:
            raise InputError(
                f"{self._folder} holds no checkpoint that can be read; start anew in an empty folder."
            )
        return None

    def _path(self, step: int) -> Path:
        return checkpoint_path(self._folder.parent, step)

    def _sweep(self) -> None:
        """Removes what an interrupted save left behind."""
        for path in self._folder.glob(f".{_PREFIX}*.tmp"):
            shutil.rmtree(path, ignore_errors=True)

    def _check(self, path: Path, about: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
        """Raises ``InputError`` if the checkpoint is of another training; the sentence says what differs."""
        mine = json.loads(json.dumps(asdict(self._identity)))
        for key, name in (("task", "the task"), ("data", "the digest of the data")):
            if about[key] != mine[key]:
                raise _differs(path, name, about[key], mine[key])
        for key, owner in (("settings", mine["task"]), ("config", "training")):
            for name in sorted({*about[key], *mine[key]}):
                was, now = about[key].get(name), mine[key].get(name)
                if was != now:
                    raise _differs(path, f"{owner}.{name}", was, now)
        for name in sorted({*about["leaves"], *leaves}):
            was, now = about["leaves"].get(name), leaves.get(name)
            if was != now:
                raise _differs(path, f"the array {name}", was, now)


def _differs(path: Path, what: str, was: Any, now: Any) -> InputError:
    return InputError(
        f"The checkpoint {path} is of another training: {what} is {_show(was)} there and {_show(now)} "
        "here; resume with the settings and data it was made with, or start anew in another folder."
    )


def _show(value: Any) -> str:
    return "missing" if value is None else repr(value)


def _write_about(path: Path, about: Mapping[str, Any]) -> None:
    """Writes what is to know of the arrays beside them."""
    text = json.dumps({**about, "softmatch": __version__, "jax": jax.__version__}, indent=1) + "\n"
    with (path / _ABOUT).open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps is in the folder of a training."""
    return folder / FOLDER / f"{_PREFIX}{step:08d}"


def stored_steps(folder: Path) -> list[int]:
    """The numbers of steps after which a training has a checkpoint, rising; damaged ones too."""
    names = [path.name.removeprefix(_PREFIX) for path in (folder / FOLDER).glob(f"{_PREFIX}*")]
    return sorted(int(name) for name in names if name.isdecimal())


def read_state(path: Path, about: Mapping[str, Any], like: Tree) -> Tree:
    """The arrays of a checkpoint.

    Args:
        path: Of the checkpoint.
        about: See :func:`read_about`.
        like: A state whose types, shapes and shardings are those to read.

    Raises:
        OSError: They are damaged.
    """
    if digests(path / _ARRAYS) != about["files"]:
        raise OSError("its files are not what was written")
    state: Tree = read_arrays(path.absolute() / _ARRAYS, like)
    return state


def read_about(path: Path) -> dict[str, Any]:
    """What is written beside the arrays of a checkpoint: identity, versions, shapes.

    Raises:
        OSError: It is damaged.
    """
    try:
        about = json.loads((path / _ABOUT).read_text("utf-8"))
    except ValueError as error:
        raise OSError(f"{_ABOUT} is not JSON") from error
    if not isinstance(about, dict) or not about.keys() >= _KEYS:
        raise OSError(f"{_ABOUT} is incomplete")
    return about


def _sync(folder: Path) -> None:
    """Makes a renaming in ``folder`` last, where folders can be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
