r"""Matching under the quadratic cost, in closed form through two moments (Softmatcher §3).

The geometric mean of softmaxes of a cost :math:`(1-s)^2` collapses as that of the cosine does, since
the cost is a polynomial in :math:`s_{rt} = \langle f_r, g_t\rangle`:

.. math::
    \sum_r a_r (1 - s_{rt})^2 = 1 - 2\langle \bar f, g_t\rangle + g_t^\top M g_t, \qquad
    M = \sum_r a_r f_r f_r^\top .

First and second moments of the references are all it takes: ``O(R d^2)`` once and ``O(T d^2)`` per
target. The quadratic term counts against patches that vary along with the references.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax.matching._features import (
    Patches,
    as_patches,
    check_pair,
    check_weights,
    inner,
    normalised_weights,
    project,
    unit,
)
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import nothing_shared
from softmatch_jax.matching.whitening import Moments, moments


def _score(statistics: Moments, target: Patches) -> Float[Array, " T"]:
    """One less the mean cost; zero for an empty set."""
    weight = jnp.where(statistics.weight > 0, statistics.weight, jnp.ones_like(statistics.weight))
    folded = inner(target.features, statistics.outer / weight)
    second = (
        jnp.einsum("td,td->t", folded, target.features.astype(folded.dtype), precision="highest")
        * target.scale**2
    )
    return 2 * project(target, statistics.total / weight) - second


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """The geometric mean under the cost ``(1 - cosine)^2``, exactly and without an ``[R, T]`` array.

    The statistics of a reference set are its first two moments, so sets add and subtract.
    """

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = False

    share = staticmethod(nothing_shared)

    def summarise(self, patches: Patches, weights: Array, valid: Array, *, shared: None, key: Any) -> Moments:
        """Weighted sums of the unit-norm patches and of their outer products."""
        return moments(unit(patches), weights)

    def match(
        self,
        foreground: Moments,
        background: Moments | None,
        target: Patches,
        *,
        shared: None,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """Mean costs, that of the background less that of the object."""
        score = _score(foreground, target)
        if background is not None:
            score = score - _score(background, target)
        return match_map(score / temperature, valid)


def quadratic_mean(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    weights: Float[Array, " R"] | None = None,
    valid: Bool[Array, " T"] | None = None,
) -> MatchMap:
    r"""Matches by the normalised geometric mean under the cost :math:`(1-s)^2`.

    :math:`p_t = \operatorname{softmax}_t\big((2\langle\bar f, g_t\rangle - g_t^\top M g_t)/\tau\big)`
    (Softmatcher §3; derivation at the top of this module).

    Args:
        reference: ``[R, d]``, features of the reference patches; any length, unit-normed here.
        target: ``[T, d]``, features of the target patches, likewise.
        temperature: :math:`\tau > 0`.
        weights: ``[R]``, non-negative; uniform when ``None``.
        valid: ``[T]``, false on padding.

    Raises:
        InputError: Shapes disagree or the temperature is not positive.
    """
    check_pair(reference, target, temperature)
    check_weights("weights", weights, reference)
    check_weights("valid", valid, target)
    statistics = moments(unit(as_patches(reference)), normalised_weights(weights, reference))
    return match_map(_score(statistics, as_patches(target)) / temperature, valid)
