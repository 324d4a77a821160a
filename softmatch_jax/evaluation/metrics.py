"""Agreement of a mask with the truth."""

from __future__ import annotations

import numpy as np

from softmatch_jax._checks import check_mask
from softmatch_jax._types import Mask


def intersection_over_union(found: Mask, truth: Mask) -> float:
    """Intersection over union of two ``bool [H, W]`` masks; 1 when both are empty.

    Raises:
        InputError: The masks differ in size or are not bool.
    """
    check_mask("truth", truth)
    check_mask("found", found, truth.shape)
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 1.0
