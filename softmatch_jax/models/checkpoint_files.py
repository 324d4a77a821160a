"""Checkpoints on the disk: what one is, which files hold its weights, and the tensors in them.

Two kinds are read: a folder as transformers writes it (``config.json`` and safetensors, in one file
or in shards), and a ``.pth`` file of plain tensors as the authors of Segment Anything publish it.
No code that a file may hold is ever run. Files that are damaged, cut short or something else in
disguise raise ``InputError`` with their path and the cure.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import warnings
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from softmatch_jax._checks import InputError
from softmatch_jax.models.optional import require

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".pth", ".pt")
"""Endings of files that ``torch.save`` wrote."""

_CHUNK = 1 << 20  # bytes
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_WRAPPERS = ("model", "state_dict")
_AGAIN = "fetch or copy it again"
_CODE = ("GLOBAL", "call reduce", "TorchScript")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights that have been found on this machine.

    Attributes:
        name: As the user gave it: a hub id, a folder or a file.
        path: A folder with ``config.json`` and safetensors, or a ``.pth`` file.
        revision: What identifies the content: the hub's commit hash; for local files ``sha256:`` and
            the first 16 hexadecimal digits of the checksum of ``config.json`` and the weight files, or
            of the ``.pth`` file. The latter is computed when it is first asked for, which takes about a
            second per 1.5 GB, and is remembered as long as the process lives and the files do not
            change. Comparing and printing do not ask for it: a snapshot's path ends in its commit.
        kind: Who wrote it, and so how it is read.
    """

    name: str
    path: Path
    revision: str = field(repr=False, compare=False)
    kind: Literal["transformers", "segment_anything"]


class LocalCheckpoint(Checkpoint):
    """A checkpoint without a commit hash, identified by its content when that is asked for."""

    def __init__(self, *, name: str, path: Path, kind: Literal["transformers", "segment_anything"]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "kind", kind)

    @cached_property
    def revision(self) -> str:
        """``sha256:`` and 16 hexadecimal digits."""
        # The config decides as much as the weights do: their shapes allow any number of heads.
        files = (self.path / CONFIG, *weight_files(self.path)) if self.path.is_dir() else (self.path,)
        try:
            status = [(str(file), os.stat(file)) for file in files]
            digest = _sha256(tuple((file, one.st_size, one.st_mtime_ns) for file, one in status))
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}); check its permissions."
            ) from None
        return f"sha256:{digest[:16]}"


@lru_cache(maxsize=64)
def _sha256(files: tuple[tuple[str, int, int], ...]) -> str:
    """Checksum of the contents one after another; size and time only tell when to compute it anew."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder: the one of the usual name, or all shards of the index.

    Raises:
        InputError: There are none, some are missing, or they are of another format or name.
    """
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        shards = _shards(folder / INDEX)
        missing = [path.name for path in shards if not path.is_file()]
        if missing:
            raise InputError(
                f"{folder / INDEX} names {missing[0]}, which is not there ({len(missing)} of {len(shards)} "
                "files are missing); fetch or copy all of them."
            )
        return shards
    raise InputError(_without_weights(folder))


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    usable = isinstance(names, dict) and all(
        isinstance(name, str) and name == os.path.basename(name) and name.endswith(".safetensors")
        for name in names.values()
    )
    if not usable or not names:
        raise InputError(f"{index} names no safetensors files under weight_map; {_AGAIN}.")
    return tuple(index.with_name(name) for name in sorted(set(names.values())))


def _without_weights(folder: Path) -> str:
    """The sentence about a folder that has no weights where they are expected."""
    if any(folder.glob("pytorch_model*.bin")):
        return (
            f"{folder} has its weights in pytorch_model.bin, a format that can hold code; expected {WEIGHTS} "
            f"({conversion(str(folder))})."
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        return f"{folder} has {others[0]} but no {WEIGHTS} and no {INDEX}; rename it, or add the index."
    return f"{folder} has no {WEIGHTS}; expected it beside {CONFIG}, as transformers' save_pretrained writes."


def conversion(source: str) -> str:
    """How to make safetensors of what has none."""
    code = (
        "import sys; from transformers import AutoModel as m; "
        'm.from_pretrained(sys.argv[1]).save_pretrained("converted")'
    )
    return (
        f"convert it with python -c {shlex.quote(code)} {shlex.quote(source)} and give the folder converted, "
        "for CLIP with the tokenizer's files (tokenizer.json, or vocab.json and merges.txt) copied into it"
    )


def check_folder(folder: Path) -> None:
    """Checks that a folder has all files of a checkpoint, without a look into the weights.

    Raises:
        InputError: Something is missing; the message says what.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder} has no {CONFIG}; expected a folder with {CONFIG} and {WEIGHTS}, as transformers' "
            "save_pretrained writes them."
        )
    weight_files(folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: The file cannot be read, or is not a JSON object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it is there.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); {_AGAIN}.") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} holds {type(document).__name__}; expected a JSON object ({_AGAIN}).")
    return document


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The parsed ``config.json`` of a checkpoint.

    Raises:
        InputError: The checkpoint is a ``.pth`` file, which has none; or the config is damaged.
    """
    if checkpoint.kind != "transformers":
        raise InputError(f"{checkpoint.path} has no {CONFIG}; expected a folder as transformers writes it.")
    return read_json(checkpoint.path / CONFIG)


def read_tensors(checkpoint: Checkpoint, *, prefix: str | tuple[str, ...] = "") -> dict[str, Any]:
    """The tensors of a checkpoint, by name.

    Safetensors of other names are not touched; a ``.pth`` file is mapped into memory, so that what is
    not used is not read either. A state dict within ``model`` or ``state_dict`` is taken out, and
    ``module.``, which data-parallel training puts before every name, is dropped.

    Args:
        checkpoint: From :func:`softmatch_jax.models.checkpoints.locate`.
        prefix: Read only names that begin with it, or with one of several; names keep it.

    Returns:
        ``torch.Tensor`` on the CPU, in the types of the file. They may be backed by the file, which
        must not change while they live.

    Raises:
        InputError: A file is damaged, cut short, empty, of another format, or holds code.
    """
    if checkpoint.kind == "segment_anything":
        return _read_pickled(checkpoint.path, prefix)
    tensors: dict[str, Any] = {}
    for path in weight_files(checkpoint.path):
        tensors |= read_safetensors(path, prefix)
    return tensors


def read_safetensors(path: Path, prefix: str | tuple[str, ...] = "") -> dict[str, Any]:
    """The tensors of one safetensors file; see :func:`read_tensors`."""
    require("torch")
    import safetensors  # here, since what is only listed does not need it

    check_head(path)
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  (no mapping)
            return {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or cut short ({error}); {_AGAIN}.") from error


def _read_pickled(path: Path, prefix: str | tuple[str, ...]) -> dict[str, Any]:
    torch = require("torch")
    head = check_head(path)
    if not head.startswith((_ZIP, _PICKLE)):
        raise InputError(f"{path} was not written by torch.save; expected a .pth file of tensors ({_AGAIN}).")
    try:
        # Old files are no zip archives and cannot be mapped. The warnings tell of what is refused anyway.
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(_ZIP))
    except Exception as error:
        # Damaged bytes end in nearly any exception: RuntimeError, EOFError, KeyError, struct.error.
        raise InputError(_unreadable(path, str(error) or type(error).__name__)) from error
    tensors = {name: value for name, value in _state_dict(loaded).items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no tensors by name; expected the state dict of a model.")
    return {name: value for name, value in tensors.items() if name.startswith(prefix)}


def _unreadable(path: Path, reason: str) -> str:
    """The sentence about what ``torch.load`` refused; only its message tells code from damage."""
    if any(mark in reason for mark in _CODE):
        return (
            f"{path} holds code, which is refused because loading it would run it; expected plain tensors "
            "(save the model's state_dict() with torch.save)."
        )
    first = reason.rpartition("WeightsUnpickler error: ")[2].splitlines()[0].partition(". ")[0].rstrip(". ")
    return f"{path} is damaged, cut short or not of torch.save ({first}); {_AGAIN}."


def _state_dict(loaded: Any) -> dict[str, Any]:
    """The state dict itself, with the names of the model."""
    while isinstance(loaded, dict):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, dict):
        return {}
    named = {name: value for name, value in loaded.items() if isinstance(name, str)}
    if named and all(name.startswith("module.") for name in named):
        return {name.removeprefix("module."): value for name, value in named.items()}
    return named


def check_head(path: Path) -> bytes:
    """The first bytes of a weight file.

    Raises:
        InputError: The file cannot be read, is empty, or is what downloads leave in place of weights.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    if not head:
        raise InputError(f"{path} is empty (0 bytes); {_AGAIN}.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the weights; run git lfs pull in its folder.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{path} is a web page, not weights; the download went wrong, {_AGAIN}.")
    return head
