"""Which proposals are of one object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

from softmatch_jax.models import Proposals
from softmatch_jax.prompting import Prompt


def group_by_overlap(
    masks: Bool[np.ndarray, "n h w"], worth: Float[np.ndarray, " n"], *, max_overlap: float
) -> Int[np.ndarray, " n"]:
    """Takes the best mask and all that overlap with it, then the best of the rest, and so on.

    Two masks overlap by their intersection over the smaller of them, so that a part goes to its whole. A
    mask that holds most of the best ones of several groups is of none: it would fuse what they tell apart.

    Args:
        masks: On one raster.
        worth: Higher is better.
        max_overlap: Masks that overlap by more are of one object.

    Returns:
        ``int [n]``, the group of each mask, -1 for those of none; group 0 holds the best mask.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(axis=1)
    common = flat @ flat.T
    shared = common / np.maximum(np.minimum(area[:, None], area[None]), 1)
    groups = np.full(len(masks), -1)
    leaders: list[int] = []
    for index in np.argsort(-worth, kind="stable"):
        if groups[index] < 0:
            groups[(groups < 0) & (shared[index] > max_overlap)] = len(leaders)
            groups[index] = len(leaders)
            leaders.append(int(index))
    held = common[:, leaders] / np.maximum(area[leaders], 1)
    fusing = np.count_nonzero(held > max_overlap, axis=1) > 1
    fusing[leaders] = False
    return np.where(fusing, -1, groups)


def group_by_graph(
    proposals: Proposals, masks: Bool[np.ndarray, "n h w"], prompts: Sequence[Prompt]
) -> Int[np.ndarray, " n"]:
    """Connected components of the graph that leads from a mask to every prompt whose points lie in it.

    The direction of an edge does not matter (weakly connected components): after GF-SAM (Zhang et al.,
    NeurIPS 2024), where each prompt is one point.

    Args:
        proposals: One mask for each prompt that was answered.
        masks: The same on the raster.
        prompts: All prompts.

    Returns:
        ``int [n]``, the group of each mask, in the order of the first of each.
    """
    edges = np.zeros((len(masks), len(masks)), bool)
    ratio = np.divide(proposals.content, proposals.image_size)[::-1] / proposals.scale
    height, width = masks.shape[1:]
    for column, index in enumerate(proposals.prompts):
        prompt = prompts[index]
        x, y = (prompt.points[prompt.positive] * ratio).T.astype(int)
        held = masks[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        edges[:, column] = held.any(axis=1)
    _, groups = connected_components(scipy.sparse.csr_array(edges), directed=True, connection="weak")
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
