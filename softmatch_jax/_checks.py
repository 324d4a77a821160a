"""Checks of what callers hand in; every failure is one sentence: what, where, expected, cure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class InputError(ValueError):
    """Input from outside the package that cannot be used; the message says how to mend it.

    The command line prints the message and exits with a non-zero status; anything that is not
    an ``InputError`` is a fault of ours and keeps its traceback.
    """


def check_rank(name: str, array: Any, rank: int, axes: str) -> None:
    """Raises ``InputError`` unless ``array`` has ``rank`` axes, named by ``axes`` in the message."""
    if np.ndim(array) != rank:
        raise InputError(f"{name} has shape {tuple(np.shape(array))}; expected {rank} axes {axes}.")


def check_shape(name: str, array: Any, expected: Sequence[int | None], axes: str) -> None:
    """Raises ``InputError`` unless ``array`` has the ``expected`` shape; ``None`` matches any length."""
    shape = tuple(np.shape(array))
    fits = len(shape) == len(expected) and all(
        e is None or e == s for e, s in zip(expected, shape, strict=True)
    )
    if not fits:
        want = "[" + ", ".join("any" if e is None else str(e) for e in expected) + "]"
        raise InputError(f"{name} has shape {list(shape)}; expected {want} ({axes}).")


def check_positive(name: str, value: float) -> None:
    """Raises ``InputError`` unless ``value`` is finite and greater than zero."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value}; expected a finite number greater than 0.")


def check_finite(name: str, array: Any, cure: str) -> None:
    """Raises ``InputError`` when a concrete array holds NaN or infinity; ``cure`` ends the sentence."""
    values = np.asarray(array)
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise InputError(f"{name} holds {bad} values that are NaN or infinite of {values.size}; {cure}")


def check_image(name: str, image: Any) -> None:
    """Raises ``InputError`` unless ``image`` is ``uint8 [H, W, 3]`` with at least one pixel."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InputError(
            f"{name} is {array.dtype} {list(array.shape)}; expected a non-empty uint8 [H, W, 3] RGB array "
            "(softmatch_jax.imaging.read_image makes one from a file)."
        )


def check_mask(name: str, mask: Any, size: tuple[int, int] | None = None) -> None:
    """Raises ``InputError`` unless ``mask`` is ``bool [H, W]``, of ``size`` when one is given."""
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype != np.bool_:
        raise InputError(
            f"{name} is {array.dtype} {list(array.shape)}; expected a bool [H, W] array "
            "(compare with a threshold, for instance mask > 0)."
        )
    if size is not None and array.shape != tuple(size):
        raise InputError(
            f"{name} is {array.shape[1]}x{array.shape[0]} pixels but its image is {size[1]}x{size[0]}; "
            "expected the same size (export the mask at the size of the image)."
        )
