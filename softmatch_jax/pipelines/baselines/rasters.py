"""Proposals held against patches and points, on the raster they were decoded on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from softmatch_jax._types import Mask
from softmatch_jax.models import Proposals
from softmatch_jax.prompting import PatchGrid, pool_mask


def patch_shares(proposals: Proposals, grid: PatchGrid) -> Float[np.ndarray, "n T"]:
    """The share of each patch in the picture that each mask covers.

    Args:
        proposals: Masks, ``n`` of them.
        grid: The patches, of which ``T`` are in the picture.
    """
    rows, columns = (max(1, -(-length // proposals.scale)) for length in proposals.content)
    # The part of the raster with the picture on it, taken for the picture itself.
    own, valid = replace(grid, image_size=(rows, columns)), grid.valid()
    masks = proposals.small_masks[:, :rows, :columns]
    shares = [pool_mask(mask, own)[valid] for mask in masks]
    return np.array(shares, np.float32).reshape(len(masks), np.count_nonzero(valid))


def holds(proposals: Proposals, xy: Float[np.ndarray, "p 2"]) -> Bool[np.ndarray, "n p"]:
    """Which masks hold which points ``(x, y)`` of the picture."""
    masks = proposals.small_masks
    ratio = np.divide(proposals.content, proposals.image_size)[::-1] / proposals.scale
    x, y = (xy * ratio).T.astype(int)
    height, width = masks.shape[1:]
    held: np.ndarray = masks[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return held


def union(proposals: Proposals, chosen: Int[np.ndarray, " k"]) -> Mask:
    """The union of some masks at the size of the picture; empty of none."""
    result = np.zeros(proposals.image_size, bool)
    for logits in proposals.logits[chosen]:
        result |= proposals.enlarge(logits) > proposals.threshold
    return result
