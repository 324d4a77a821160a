"""Which masks of single points stay, group by group (GF-SAM, arXiv 2410.06964)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


def grow(
    shares: Float[np.ndarray, "n T"], gain: Float[np.ndarray, " T"], groups: Int[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Keeps a mask if most of what it adds to the better ones of its group is more object than not.

    Args:
        shares: How much of each patch each mask covers.
        gain: Positive on patches that are more object than not; its mean over a mask says how good that is.
        groups: Which masks belong together.

    Returns:
        ``bool [n]``, those that stay; and ``[n]``, what each added, in patches.
    """
    stays, added = np.zeros(len(shares), bool), np.zeros(len(shares))
    worth = shares @ gain / (shares.sum(axis=1) + 1e-6)
    sign = np.where(gain > 0, 1.0, -1.0)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        taken = np.zeros(shares.shape[1])
        for index in members[np.argsort(-worth[members], kind="stable")]:
            new = shares[index] * (1 - taken)
            added[index] = new @ sign
            if added[index] > 0:
                taken += new
                stays[index] = True
    return stays, added


def consistent(
    shares: Float[np.ndarray, "n T"],
    places: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    features: Float[np.ndarray, "T d"],
    cells: Int[np.ndarray, "T 2"],
) -> Bool[np.ndarray, " n"]:
    """Which points look most like the masks of their own group, those of nearer groups preferred.

    The likeness to a group is the mean cosine to what its masks cover, over the distance to its nearest
    point (no less than one patch). A group of which most points are more like another is dropped whole.

    Args:
        shares: How much of each patch the mask of each point covers.
        places: The patch of each point.
        groups: Which points belong together, numbered from 0.
        features: Of the target's patches, of unit norm.
        cells: Row and column of each patch.
    """
    count = int(groups.max()) + 1
    at = cells[places].astype(np.float64)
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
    likeness = np.empty((count, len(places)))
    for group in range(count):
        union = shares[groups == group].max(axis=0)
        mean = union @ features / max(float(union.sum()), 1e-6)
        nearest = apart[:, groups == group].min(axis=1)
        likeness[group] = features[places] @ mean / np.where(nearest == 0, 1, nearest)
    own = np.argmax(likeness, axis=0) == groups
    held = np.bincount(groups, weights=own, minlength=count) / np.bincount(groups, minlength=count)
    return own & (held[groups] >= 0.5)
