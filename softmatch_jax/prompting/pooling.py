"""From pixels to patches and back.

Footprints are axis-aligned rectangles, so both directions separate into a matrix for the rows and
one for the columns: ``rows @ picture @ columns.T``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from softmatch_jax._checks import check_mask, check_shape
from softmatch_jax._types import Map, Mask
from softmatch_jax.prompting.grid import PatchGrid
from softmatch_jax.prompting.rasterise import window_about


def pool_mask(mask: Mask, grid: PatchGrid) -> Float[np.ndarray, "rows columns"]:
    """Measures how much of each patch a mask covers.

    The value is the area of the mask within the footprint over the area of the footprint, where the
    footprints of the outermost valid patches reach to the edge of the picture; pixels that straddle an
    edge count in proportion. It is exact up to float32 rounding.

    Args:
        mask: ``bool [H, W]`` in the original picture.
        grid: the patches; the footprints of the valid ones tile the picture.

    Returns:
        Fractions from 0 to 1, ``float32 [rows, columns]``; 0 for invalid patches.

    Raises:
        InputError: if the mask is not ``bool`` of the grid's image size.
    """
    check_mask("mask", mask, grid.image_size)
    # What is not there weighs nothing, and most masks are small.
    y, x = window_about(mask)
    rows, columns = _overlaps(grid, 0)[:, y], _overlaps(grid, 1)[:, x]
    return np.clip(rows @ mask[y, x].astype(np.float32) @ columns.T, 0.0, 1.0)


def unpool_map(values: ArrayLike, grid: PatchGrid) -> Map:
    """Interpolates patch values to the pixels of the original picture.

    Bilinear between patch centres and constant beyond the outermost valid ones; invalid patches
    have no influence, whatever they hold. The largest value is never exceeded.

    Args:
        values: ``[rows, columns]``, finite on the valid patches.
        grid: the patches.

    Returns:
        The map, ``float32 [H, W]``.

    Raises:
        InputError: if the shape is not the grid's.
    """
    check_shape("values", values, grid.shape, "rows, columns")
    rows, columns = grid.valid_slices()
    valid = np.asarray(values, dtype=np.float32)[rows, columns]
    return _hats(grid, 0) @ valid @ _hats(grid, 1).T


@lru_cache(maxsize=64)
def _overlaps(grid: PatchGrid, axis: int) -> Float[np.ndarray, "patches pixels"]:
    """Returns the share that each pixel has in the clipped footprint of each valid patch."""
    length = grid.image_size[axis]
    scale = length / grid.input_size[axis]
    valid = grid.valid_slices()[axis]
    edges = grid.offset + grid.stride * (np.arange(valid.start, valid.stop + 1) - 0.5)
    edges = np.clip(edges * scale, 0, length)
    # The outermost patches take the strips that footprints in the padding would have covered.
    edges[0], edges[-1] = 0, length
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(length)[None, :]
    shares = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / (high - low)
    weights = np.zeros((grid.shape[axis], length), dtype=np.float32)
    weights[valid] = shares
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=64)
def _hats(grid: PatchGrid, axis: int) -> Float[np.ndarray, "pixels patches"]:
    """Returns the weight of each valid patch at each pixel centre: linear interpolation."""
    length, valid = grid.image_size[axis], grid.valid_slices()[axis]
    position = (np.arange(length) + 0.5) * (grid.input_size[axis] / length)
    patch = np.clip((position - grid.offset) / grid.stride, valid.start, valid.stop - 1)
    distance = np.abs(patch[:, None] - np.arange(valid.start, valid.stop)[None, :])
    weights = np.maximum(1.0 - distance, 0.0).astype(np.float32)
    weights.flags.writeable = False
    return weights
