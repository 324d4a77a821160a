r"""Where to cut a score map into object and rest."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import check_rank, check_shape


class Cut(NamedTuple):
    """A threshold with what it rests on.

    Attributes:
        threshold: ``[]``, halfway between the two neighbouring scores it separates; the object is
            what lies above it.
        area: ``[]``, fraction of the valid patches above it.
        separation: ``[]``, share of the variance that the two classes explain, in ``[0, 1]``.
        deviation: ``[]``, standard deviation of the scores, the unit for "how far above".
    """

    threshold: Float[Array, ""]
    area: Float[Array, ""]
    separation: Float[Array, ""]
    deviation: Float[Array, ""]


def otsu_threshold(
    score: Float[Array, " T"],
    *,
    valid: Bool[Array, " T"] | None = None,
    area: tuple[float, float] | tuple[Float[Array, ""], Float[Array, ""]] = (0.0, 1.0),
) -> Cut:
    r"""Otsu's threshold over all splits of the sorted scores, exact (no histogram).

    Maximises :math:`\omega(1-\omega)(\mu_1-\mu_0)^2`, where :math:`\omega` is the fraction of patches
    above the cut (Otsu, 1979), among the cuts whose fraction lies in ``area``. Otsu's method expects
    two sizeable classes; the bounds make it usable for a blow-hole of one patch in a thousand.

    Args:
        score: ``[T]``, finite where valid.
        valid: ``[T]``, false on padding.
        area: Smallest and largest fraction of valid patches above the cut. Where no cut is within, the
            nearest is taken.

    Returns:
        The cut. Scores that are all equal have none: then the threshold is their value, and the area
        above it zero.

    Raises:
        InputError: Shapes disagree.
    """
    check_rank("score", score, 1, "[T]")
    if valid is None:
        valid = jnp.ones(score.shape, bool)
    check_shape("valid", valid, score.shape, "one flag per score")
    n = jnp.sum(valid, dtype=score.dtype)
    mean = jnp.sum(jnp.where(valid, score, jnp.zeros_like(score))) / n
    # Centred before the sums, so that float32 cancels little; invalid patches sort last.
    descending = -jnp.sort(jnp.where(valid, -score, jnp.inf))
    centred = jnp.where(jnp.isneginf(descending), jnp.zeros_like(descending), descending - mean)
    variance = jnp.sum(centred * centred) / n
    below = jnp.append(descending[1:], -jnp.inf)
    omega = jnp.arange(1, score.shape[0] + 1, dtype=score.dtype) / n
    between = jnp.cumsum(centred) / n
    rest = omega * (1 - omega)
    gain = between * between / jnp.where(rest > 0, rest, jnp.ones_like(rest))
    # Equal scores cannot be parted. Of the cuts there are, those within the bounds compete, or the
    # nearest when none is; the slack is for fractions such as 3/10 that have no exact float.
    cuts = (descending > below) & (below > -jnp.inf)
    low, high = (jnp.asarray(bound, score.dtype) for bound in area)
    outside = jnp.where(cuts, jnp.maximum(jnp.maximum(low - omega, omega - high), 0), jnp.inf)
    best = jnp.argmax(jnp.where(cuts & (outside <= jnp.min(outside) + 1e-6), gain, -jnp.inf))
    halfway = descending[best] + (below[best] - descending[best]) / 2
    # Between neighbouring floats there is no halfway.
    threshold = jnp.where(halfway < descending[best], halfway, below[best])
    separation = jnp.minimum(gain[best] / jnp.where(variance > 0, variance, 1), 1)
    cut = Cut(threshold, omega[best], separation, jnp.sqrt(variance))
    none = Cut(descending[0], *[jnp.zeros_like(n)] * 3)
    return jax.tree.map(lambda a, b: jnp.where(jnp.any(cuts), a, b), cut, none)
