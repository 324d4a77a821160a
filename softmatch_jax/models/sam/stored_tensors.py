"""Tensors of a SAM checkpoint that are read when their values are asked for; safetensors without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (teaches NumPy the name bfloat16)
import numpy as np
import safetensors

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoint_files import Checkpoint, check_head, read_tensors, weight_files


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file, which must not change while this lives; ``np.asarray`` reads it.

    Attributes:
        path: The file.
        name: Its name there.
        shape: Its shape.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    file: Any = field(repr=False, compare=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values, in the type of the file unless another is asked for.

        Raises:
            InputError: The file is damaged, or its type is not one of NumPy's.
        """
        try:
            values: np.ndarray = self.file.get_tensor(self.name)
        except (safetensors.SafetensorError, OSError, TypeError) as error:
            raise InputError(_damaged(self.path, error)) from error
        return values if dtype is None else values.astype(dtype, copy=False)


def stored_tensors(checkpoint: Checkpoint, *, prefix: str | tuple[str, ...] = "") -> dict[str, Any]:
    """The tensors of a checkpoint by name: :class:`StoredTensor` of safetensors, torch's of a ``.pth`` file.

    Args:
        checkpoint: From ``checkpoints.locate``.
        prefix: Only names that begin with it, or with one of several; names keep it.

    Raises:
        InputError: A file is damaged, cut short, empty, of another format, or holds code.
    """
    if checkpoint.kind == "segment_anything":
        return read_tensors(checkpoint, prefix=prefix)
    tensors: dict[str, Any] = {}
    for path in weight_files(checkpoint.path):
        tensors |= _open(path, prefix)
    return tensors


def _open(path: Path, prefix: str | tuple[str, ...]) -> dict[str, StoredTensor]:
    check_head(path)
    try:
        file: Any = safetensors.safe_open(path, framework="numpy")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(_damaged(path, error)) from error
    return {n: StoredTensor(path, n, s, file) for n, s in shapes.items() if n.startswith(prefix)}


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged or cut short ({error}); fetch or copy it again."
