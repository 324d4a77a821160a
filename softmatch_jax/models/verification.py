"""Whether a checkpoint is whole: every file parses, every tensor is finite, every known checksum agrees.

Checksums come from where the files do: huggingface_hub names what it stores by the content, and a
``.pth`` file of Segment Anything ends in the first digits of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoint_files import (
    CONFIG,
    Checkpoint,
    read_config,
    read_safetensors,
    read_tensors,
    weight_files,
)
from softmatch_jax.models.downloading import file_md5
from softmatch_jax.models.optional import require

_CHUNK = 1 << 20  # bytes
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MD5_IN_NAME = re.compile(r".*_([0-9a-f]{6})\.pth")
_AGAIN = "fetch it again"


@dataclass(frozen=True)
class Finding:
    """What one check of one file found.

    Attributes:
        path: The file.
        check: ``"checksum"``, ``"config"`` (it parses), ``"weights"`` (all files are there),
            ``"tensors"`` (readable and finite) or ``"names"`` (those of the architecture and no others).
        problem: One sentence, or ``None`` where all is well.
    """

    path: Path
    check: str
    problem: str | None = None


_Check: TypeAlias = tuple[Path, str, Callable[[], Any]]


def verify(checkpoint: Checkpoint) -> list[Finding]:
    """Reads a checkpoint from end to end.

    Args:
        checkpoint: From :func:`softmatch_jax.models.checkpoints.locate`.

    Returns:
        A finding for every check of every file, passed or not. There is none on the checksum of a file
        for which nobody has recorded one.

    Raises:
        InputError: A package that reads the files is not installed.
    """
    require("torch")
    findings: list[Finding] = []
    for path, check, run in _checks(checkpoint):
        try:
            run()
        except InputError as error:
            findings.append(Finding(path, check, str(error)))
        else:
            findings.append(Finding(path, check))
    if all(finding.problem is None for finding in findings) and _is_sam(checkpoint):
        findings.append(Finding(checkpoint.path, "names", _misnamed(checkpoint)))
    return findings


def _checks(checkpoint: Checkpoint) -> Iterator[_Check]:
    path = checkpoint.path
    if checkpoint.kind == "segment_anything":
        md5 = published_md5(path.name)
        if md5 is not None:
            yield path, "checksum", partial(_check_md5, path, md5)
        yield path, "tensors", lambda: _check_finite(path, read_tensors(checkpoint))
        return
    for file in sorted(path.iterdir()):
        blob = Path(os.path.realpath(file))
        if blob.parent.name == "blobs" and _BLOB.fullmatch(blob.name):
            yield file, "checksum", partial(_check_blob, file, blob)
    yield path / CONFIG, "config", lambda: read_config(checkpoint)
    yield path, "weights", lambda: weight_files(path)
    for file in sorted(path.glob("model*.safetensors")):
        yield file, "tensors", partial(_check_safetensors, file)


def published_md5(name: str) -> str | None:
    """The checksum of a ``.pth`` file or its beginning, by the file's name; ``None`` where it tells none."""
    if name in CATALOGUE:
        return CATALOGUE[name].md5
    digits = _MD5_IN_NAME.fullmatch(name)
    return digits[1] if digits else None


def _check_md5(path: Path, expected: str) -> None:
    found = file_md5(path)
    if not found.startswith(expected):
        raise InputError(f"{path} has the md5 checksum {found}; expected {expected} ({_AGAIN}).")


def _check_blob(path: Path, blob: Path) -> None:
    """Compares a file of the hub's cache with its name there: SHA-256, or git's SHA-1 for small files."""
    try:
        if len(blob.name) == 64:
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
        with open(blob, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {_AGAIN}.") from None
    if digest.hexdigest() != blob.name:
        raise InputError(
            f"{path} is damaged: its checksum is {digest.hexdigest()}, expected {blob.name} (remove "
            f"{blob} and {_AGAIN})."
        )


def _check_safetensors(path: Path) -> None:
    _check_finite(path, read_safetensors(path))


def _check_finite(path: Path, tensors: dict[str, Any]) -> None:
    torch = require("torch")
    for name, tensor in tensors.items():
        finite = torch.isfinite(tensor)
        if not finite.all():
            bad = tensor.numel() - int(finite.sum())
            raise InputError(
                f"{path} holds {bad} values that are NaN or infinite in {name}; expected finite weights "
                f"({_AGAIN}, or resume training from an earlier checkpoint)."
            )


def _is_sam(checkpoint: Checkpoint) -> bool:
    return checkpoint.kind == "segment_anything" or read_config(checkpoint).get("model_type") == "sam"


def _misnamed(checkpoint: Checkpoint) -> str | None:
    """What is wrong with the names and shapes of a SAM checkpoint's tensors."""
    from softmatch_jax.models.sam.convert import check_keys, config_of

    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in read_tensors(checkpoint).items()}
        misfits = check_keys(shapes, checkpoint.kind, config=config_of(checkpoint))
    except InputError as error:
        return str(error)
    if not misfits:
        return None
    more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
    return f"{checkpoint.path} does not hold SAM as a whole: {'; '.join(misfits[:3])}{more}; {_AGAIN}."
