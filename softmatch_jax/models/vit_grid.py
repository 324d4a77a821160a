"""The grid of a vision transformer: which patches a picture gets, and positions for any number of them."""

from __future__ import annotations

import math
from typing import Any, Literal

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.imaging import fit_longest
from softmatch_jax.models.optional import require
from softmatch_jax.prompting import PatchGrid

Fit = Literal["stretch", "aspect"]


def check_patch_multiple(owner: str, size: int, patch: int) -> None:
    """Raises ``InputError`` unless ``size`` holds a whole number of patches; names the nearest that do."""
    if size % patch:
        lower = size // patch * patch
        near = [str(n) for n in (lower, lower + patch) if n]
        raise InputError(
            f"{owner}.size is {size}; expected a multiple of the model's patch of {patch} pixels "
            f"(the nearest: {' or '.join(near)})."
        )


def vit_grid(image_size: Size, *, size: int, patch: int, fit: Fit) -> PatchGrid:
    """The patches of a picture, on a grid of ``size / patch`` squared whatever its shape.

    Args:
        image_size: ``(H, W)`` of the picture.
        size: Side of the square that the grid covers, in input pixels; a multiple of ``patch``.
        patch: Side of a patch in input pixels.
        fit: ``"stretch"`` resizes the picture to the whole square. ``"aspect"`` resizes its longer side
            to ``size`` and the other in proportion, rounded to whole patches and at least one; the rest
            of the grid is padding.
    """
    count = size // patch
    rows, columns = fit_longest(image_size, count) if fit == "aspect" else (count, count)
    return PatchGrid(
        image_size=image_size,
        input_size=(rows * patch, columns * patch),
        stride=patch,
        offset=patch / 2,
        shape=(count, count),
    )


def resize_positions(table: Any, rows: int, columns: int, *, offset: float, antialias: bool) -> Any:
    """Position embeddings for a grid of ``rows x columns``, bicubic from the trained square.

    The trained grid is returned as it is. The interpolation is done in float32 whatever the dtype.

    Args:
        table: torch ``[1, 1 + M * M, d]``, the class token's embedding first.
        rows: Patches from top to bottom.
        columns: Patches from left to right.
        offset: When not zero, the sampling steps are ``M / (rows + offset)`` and ``M / (columns + offset)``
            in place of ``M / rows`` and ``M / columns``, as DINOv2 was trained; it moves the samples
            slightly to the top left.
        antialias: Whether a shrinking table is averaged rather than sampled.

    Returns:
        torch ``[1, 1 + rows * columns, d]`` of the table's dtype.
    """
    torch = require("torch")
    _, tokens, dim = table.shape
    side = math.isqrt(tokens - 1)
    if (rows, columns) == (side, side):
        return table
    square = table[:, 1:].float().reshape(1, side, side, dim).permute(0, 3, 1, 2)
    wanted = (
        {"scale_factor": ((rows + offset) / side, (columns + offset) / side)}
        if offset
        else {"size": (rows, columns)}
    )
    resized = torch.nn.functional.interpolate(square, mode="bicubic", antialias=antialias, **wanted)
    patches = resized.permute(0, 2, 3, 1).reshape(1, rows * columns, dim).to(table.dtype)
    return torch.cat((table[:, :1], patches), dim=1)
