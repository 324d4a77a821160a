r"""Joint whitening of reference and target features.

Hand-made descriptors have channels of unlike scale that move together; cosines between them mostly
compare the few strongest. Whitening on the statistics of *both* pictures gives every independent
direction one vote, and takes a change of light between the two out of the comparison.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_rank
from softmatch_jax.matching._features import check_weights, unit_norm


class Moments(NamedTuple):
    """Additive statistics of a set of features: they sum over pictures, and subtract.

    Attributes:
        weight: ``[]``, total weight.
        total: ``[d]``, weighted sum of features.
        outer: ``[d, d]``, weighted sum of outer products.
    """

    weight: Float[Array, ""]
    total: Float[Array, " d"]
    outer: Float[Array, "d d"]


class Whitening(NamedTuple):
    r"""The affine map :math:`x \mapsto L^{-1}(x - \mu)`, with :math:`LL^\top` the shrunk covariance.

    Attributes:
        mean: ``[d]``, :math:`\mu`.
        factor: ``[d, d]``, lower Cholesky factor :math:`L`.
    """

    mean: Float[Array, " d"]
    factor: Float[Array, "d d"]


def moments(features: Float[Array, "n d"], weights: Float[Array, " n"]) -> Moments:
    """Weighted zeroth, first and second moments of ``features``.

    Raises:
        InputError: ``features`` is not ``[n, d]`` or ``weights`` not ``[n]``.
    """
    check_rank("features", features, 2, "[n, d]")
    check_weights("weights", weights, features)
    weight, total = jnp.sum(weights), jnp.matmul(weights, features, precision="highest")
    # Summed about the mean and moved back in one step: summed about zero, the rounding of n terms
    # would outweigh the variance of a channel that hardly varies.
    mean = total / jnp.where(weight > 0, weight, jnp.ones_like(weight))
    centred = features - mean[None, :]
    scatter = jnp.matmul((centred * weights[:, None]).T, centred, precision="highest")
    return Moments(weight, total, scatter + weight * jnp.outer(mean, mean))


def whitening(statistics: Moments, *, shrinkage: float = 0.1) -> Whitening:
    r"""The whitening of a set with the given moments.

    Args:
        statistics: Moments, for instance the sum of those of a reference set and of a target.
        shrinkage: :math:`\rho \in (0, 1]`; the covariance used is
            :math:`(1-\rho)\,\Sigma + \rho \operatorname{diag}\Sigma`. One only rescales channels.

    Raises:
        InputError: ``shrinkage`` is outside ``(0, 1]``.
    """
    if not 0 < shrinkage <= 1:
        raise InputError(f"shrinkage is {shrinkage}; expected a number in (0, 1].")
    mean = statistics.total / statistics.weight
    covariance = statistics.outer / statistics.weight - jnp.outer(mean, mean)
    variance = jnp.diagonal(covariance)
    # The rounding of d channels that never vary (a blank picture) must not pass for a negative
    # variance; 1e-12 is for channels that are zero throughout.
    second = jnp.diagonal(statistics.outer) / statistics.weight
    floor = 2 * second.shape[0] * np.finfo(second.dtype).eps * second + 1e-12
    shrunk = (1 - shrinkage) * covariance + jnp.diag(shrinkage * variance + floor)
    return Whitening(mean, jnp.linalg.cholesky(shrunk))


def whiten(transform: Whitening, features: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Whitened features, brought to unit norm."""
    centred = (features - transform.mean[None, :]).T
    return unit_norm(jsl.solve_triangular(transform.factor, centred, lower=True).T)
