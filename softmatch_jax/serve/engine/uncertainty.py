r"""How unsure a find is, in ``[0, 1]``.

The decision whether a class is there hangs on the resemblance :math:`r` of the find to the references and its
bar :math:`b`. With :math:`H` the entropy in bits of a probability, :math:`\sigma` the logistic and :math:`s`
the width in which resemblances of right and wrong finds mix,

.. math:: u_r = H\big(\sigma((r - b) / s)\big),

which is 1 at the bar and 0 far from it on either side. Where something was found its extent may be doubtful,
too: the mean entropy of the match map :math:`p` over the find :math:`m`,

.. math:: u_m = \frac{1}{|m|} \sum_{x \in m} H(p(x)).

Both together are :math:`1 - (1 - u_r)(1 - u_m)`: as doubtful as the more doubtful of the two, at least. Of an
absent class there is no extent. A target is as uncertain as the most uncertain of its classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from softmatch_jax._types import Map, Mask

WIDTH = 0.05
"""The width :math:`s`, in resemblance."""


def entropy(probability: ArrayLike) -> np.ndarray:
    """Entropy in bits of a yes or no that has this probability."""
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    made: np.ndarray = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return made


def class_uncertainty(resemblance: float, bar: float, probability: Map | None, mask: Mask | None) -> float:
    """How unsure it is that a class is there, and where it ends.

    Args:
        resemblance: Of what was found.
        bar: Below which it counts as absent.
        probability: The match map.
        mask: The find on the same raster; None where the class is absent.
    """
    margin = np.clip((resemblance - bar) / WIDTH, -700, 700)
    there = float(entropy(1 / (1 + np.exp(-margin))))
    extent = 0.0
    if mask is not None and probability is not None and mask.any():
        extent = float(entropy(probability[mask]).mean())
    return 1 - (1 - there) * (1 - extent)


def target_uncertainty(classes: Iterable[float]) -> float:
    """That of the most uncertain class."""
    return max(classes, default=0.0)
