r"""Matching by random features: sums over references and over targets in place of sums over pairs.

With features :math:`\phi` of the kernel :math:`e^{\langle f, g\rangle/\tau}`
(:mod:`softmatch_jax.matching.random_features`), the *arithmetic* mean of softmaxes factors,

.. math::
    q_t \approx \phi(g_t)^\top \sum_r \frac{a_r\,\phi(f_r)}{\phi(f_r)^\top S}, \qquad S = \sum_u \phi(g_u) ,

in ``O((R + T) d m)``. Softmatcher §3 approximates its softmaxes so; it pays only while there are fewer
features than references, and 1 % accuracy takes more features than can be had below a temperature of
about 0.5.

The *geometric* mean needs no approximation under the cosine itself. Under another similarity
:math:`k(f, g) = e^{(\langle f, g\rangle - 1)/b}`, of bandwidth ``b``, it collapses onto the kernel mean
embedding, :math:`\operatorname{softmax}_t\big(\langle \sum_r a_r\phi(f_r), \phi(g_t)\rangle/\tau\big)`,
and that is what random features make linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.matching._features import Patches, inner, normalised, safe_log, unit
from softmatch_jax.matching._match_map import Diagnostics, MatchMap, match_map
from softmatch_jax.matching._statistics import count_valid, mask_of, mean_of
from softmatch_jax.matching.random_features import (
    FeatureMap,
    Kind,
    LogFeatures,
    make_feature_map,
    reference_features,
    target_features,
)

KINDS = ("trigonometric", "positive", "hyperbolic", "optimal")


class FeatureRows(NamedTuple):
    """Random features of a weighted set of patches.

    Attributes:
        weight: ``[N]``, not normalised; 0 on padding.
        valid: ``[N]``, false on padding.
        log_amplitude: ``[N]``.
        values: ``[N, m]``; the features are ``exp(log_amplitude) * values``.
    """

    weight: Float[Array, " N"]
    valid: Bool[Array, " N"]
    log_amplitude: Float[Array, " N"]
    values: Float[Array, "N m"]


class Embedding(NamedTuple):
    """Kernel mean embedding of a set of patches, times its weight.

    Attributes:
        weight: ``[]``, total weight.
        total: ``[m]``, weighted sum of the features.
    """

    weight: Float[Array, ""]
    total: Float[Array, " m"]


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Linear-time approximation by random features, with an estimate of its own error.

    ``diagnostics.error`` is half the total variation between the maps that the two halves of the
    features give: what the map is off by, to a factor of about two, up to the half that it cannot
    exceed. A negative estimate counts as probability zero (trigonometric features only).

    Attributes:
        kind: trigonometric (RFF), positive (FAVOR+), hyperbolic, or optimal (FAVOR++).
        count: Number of features.
        mean: Which mean of softmaxes; see the top of this module.
        orthogonal: Frequencies orthogonal in blocks, which lowers the variance.
        centred: Take features of what is left after subtracting the mean of the object's patches on
            both sides, exactly made up for. For other anchors pass a feature map as ``like``.
        bandwidth: Of the similarity whose geometric mean is taken; unused by the arithmetic one.
    """

    kind: Kind = "positive"
    count: int = 256
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    orthogonal: bool = True
    centred: bool = True
    bandwidth: float = 0.5

    needs_key: ClassVar[bool] = True
    needs_rest: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if self.mean not in ("arithmetic", "geometric"):
            raise InputError(f"mean is {self.mean!r}; expected 'arithmetic' or 'geometric'.")
        if self.count < 4 or self.count % 4:
            raise InputError(
                f"count is {self.count}; expected a multiple of 4 (features are compared in halves)."
            )
        check_positive("bandwidth", self.bandwidth)

    def share(self, patches: Patches, weights: Array, *, temperature: Any, key: Any) -> FeatureMap:
        """Draws the features; the anchors are the object's mean."""
        rows = unit(patches)
        share = normalised(weights)
        anchor = mean_of(patches, share).total if self.centred else jnp.zeros_like(rows[0])
        tau = jnp.asarray(self.bandwidth if self.mean == "geometric" else temperature, rows.dtype)
        # |x' + y'|^2 where both are drawn from the object, whose residuals have mean zero if centred.
        residual = share @ jnp.sum((rows - anchor[None, :]) ** 2, axis=1)
        mean = share @ (rows - anchor[None, :])
        return make_feature_map(
            key,
            rows.shape[1],
            self.count,
            kind=self.kind,
            temperature=tau,
            orthogonal=self.orthogonal,
            reference_anchor=anchor,
            target_anchor=anchor,
            mean_square=2 * (residual + mean @ mean) / tau,
            dtype=rows.dtype,
        )

    def summarise(
        self, patches: Patches, weights: Array, valid: Array, *, shared: FeatureMap, key: Any
    ) -> FeatureRows | Embedding:
        """Features of every patch, or their weighted sum."""
        features = reference_features(shared, unit(patches), kind=self.kind)
        if self.mean == "arithmetic":
            return FeatureRows(weights, valid, features.log_amplitude, features.values)
        amplitude = jnp.exp(features.log_amplitude - 0.5 / shared.temperature)
        return Embedding(jnp.sum(weights), inner(weights * amplitude, features.values))

    def match(
        self,
        foreground: Any,
        background: Any,
        target: Patches,
        *,
        shared: FeatureMap,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """The map of all features, and the distance of the maps of either half."""
        features = target_features(shared, unit(target), kind=self.kind)
        mask = mask_of(target, valid)

        def from_features(chosen: Array | None) -> tuple[Array, Array]:
            goal = _some(features, chosen)
            inside, outside = _some(foreground, chosen), _some(background, chosen)
            if self.mean == "geometric":
                return _geometric(inside, outside, goal, shared, temperature)
            return _arithmetic(inside, outside, goal, mask)

        score, evidence = from_features(None)
        first, second = (match_map(from_features(half)[0], valid).log_probability for half in self._halves())
        distance = 0.5 * jnp.sum(jnp.abs(jnp.exp(first) - jnp.exp(second)))
        diagnostics = Diagnostics(jnp.asarray(True), jnp.asarray(0, jnp.int32), 0.5 * distance)
        found = match_map(score, valid, diagnostics)
        if self.mean == "geometric" or background is not None:
            return found
        return found._replace(
            log_evidence=evidence - jnp.log(count_valid(mask.shape[0], valid, evidence.dtype))
        )

    def _halves(self) -> tuple[Array, Array]:
        """Indices of two halves of the features; pairs that share a frequency stay together."""
        paired = self.kind in ("trigonometric", "hyperbolic")
        places = jnp.arange(self.count).reshape(2 if paired else 1, -1)
        middle = places.shape[1] // 2
        return places[:, :middle].reshape(-1), places[:, middle:].reshape(-1)


def _some(side: Any, chosen: Array | None) -> Any:
    """A set restricted to some of the features, whose estimates count double then."""
    if side is None or chosen is None:
        return side
    if isinstance(side, Embedding):
        return side._replace(total=2 * side.total[chosen])
    return side._replace(values=side.values[:, chosen])


def _geometric(
    foreground: Embedding,
    background: Embedding | None,
    goal: LogFeatures,
    shared: FeatureMap,
    temperature: float | Array,
) -> tuple[Array, Array]:
    def mean(side: Embedding) -> Array:
        return side.total / jnp.where(side.weight > 0, side.weight, jnp.ones_like(side.weight))

    direction = mean(foreground) if background is None else mean(foreground) - mean(background)
    amplitude = jnp.exp(goal.log_amplitude - 0.5 / shared.temperature)
    return amplitude * inner(goal.values, direction / temperature), jnp.zeros((), direction.dtype)


def _arithmetic(
    foreground: FeatureRows, background: FeatureRows | None, goal: LogFeatures, mask: Array
) -> tuple[Array, Array]:
    """``[T]``, log of the mean of softmaxes or log-ratio of densities; and the log of the mean row sum."""
    if background is not None:
        outside = _log_density(background, goal)
        empty = jnp.sum(background.weight) <= 0
        return _log_density(foreground, goal) - jnp.where(empty, 0, outside), jnp.zeros((), outside.dtype)
    peak = jax.lax.stop_gradient(jnp.max(jnp.where(mask, goal.log_amplitude, -jnp.inf)))
    amplitude = jnp.where(mask, jnp.exp(jnp.where(mask, goal.log_amplitude, peak) - peak), 0)
    row_sums = inner(foreground.values, inner(amplitude, goal.values))
    counted = (foreground.weight > 0) & (row_sums > 0)
    share = foreground.weight / jnp.sum(foreground.weight)
    weight = jnp.where(counted, share / jnp.where(counted, row_sums, 1), 0)
    score = goal.log_amplitude - peak + safe_log(inner(goal.values, inner(weight, foreground.values)))
    log_sums = foreground.log_amplitude + safe_log(row_sums) + peak
    return score, jax.nn.logsumexp(jnp.where(counted, log_sums, -jnp.inf), b=share)


def _log_density(side: FeatureRows, goal: LogFeatures) -> Float[Array, " T"]:
    used = side.weight > 0
    peak = jax.lax.stop_gradient(jnp.max(jnp.where(used, side.log_amplitude, -jnp.inf)))
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    amplitude = jnp.where(
        used, normalised(side.weight) * jnp.exp(jnp.where(used, side.log_amplitude, peak) - peak), 0
    )
    return goal.log_amplitude + peak + safe_log(inner(goal.values, inner(amplitude, side.values)))
