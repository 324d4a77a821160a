r"""Geometric-mean matching in its exact linear-time form (Softmatcher §3).

The paper's match map is the normalised geometric mean, over reference patches, of the softmaxed
cosine maps. Each softmax is its logits less a constant of the target patch's choosing, so the
constants drop out of the normalised product and the mean moves onto the features:

.. math::
    \prod_r \operatorname{softmax}_t(s_{rt}/\tau)^{a_r} \propto
    \exp\Big(\sum_r a_r \langle f_r, g_t\rangle / \tau\Big)
    = \exp\big(\langle \bar f, g_t\rangle / \tau\big),
    \qquad \bar f = \sum_r a_r f_r .

That is ``O((R + T) d)`` time and no ``[R, T]`` array, with no approximation. The mean is not
brought back to unit length: its length, less than one, is how much the references agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax.matching._features import (
    Patches,
    as_patches,
    check_pair,
    check_share,
    check_weights,
    cosines,
    normalised_weights,
    project,
    unit_norm,
)
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import Mean, Rows, mask_of, mean_of, nothing_shared, rows_of


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """Softmatcher's normalised geometric mean, exactly and in ``O((R + T) d)``.

    The statistics of a reference set are its mean, so sets add and subtract. With a background the
    score is the log-ratio of the two geometric means, again one inner product.
    """

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = False

    share = staticmethod(nothing_shared)

    def summarise(self, patches: Patches, weights: Array, valid: Array, *, shared: None, key: Any) -> Mean:
        """Weighted sum of the unit-norm patches."""
        return mean_of(patches, weights)

    def match(
        self,
        foreground: Mean,
        background: Mean | None,
        target: Patches,
        *,
        shared: None,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """One product of the target features with a vector."""
        direction = foreground.mean if background is None else foreground.mean - background.mean
        return match_map(project(target, direction / temperature), valid)


@dataclass(frozen=True, kw_only=True)
class GeometricDense:
    """The paper's literal form of the same: every softmaxed cosine map, then their geometric mean.

    ``O(R T d)`` time and an ``[R, T]`` array. It is here to be compared with.
    """

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = False

    share = staticmethod(nothing_shared)
    summarise = staticmethod(rows_of)

    def match(
        self,
        foreground: Rows,
        background: Rows | None,
        target: Patches,
        *,
        shared: None,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """Log-softmaxes of the whole similarity matrix, averaged over its rows."""
        mask = mask_of(target, valid)

        def mean_log_softmax(rows: Rows) -> tuple[Float[Array, " T"], Float[Array, ""]]:
            logits = cosines(rows.patches, target) / temperature
            normaliser = jax.nn.logsumexp(jnp.where(mask[None, :], logits, -jnp.inf), axis=1)
            return rows.share @ (logits - normaliser[:, None]), rows.share @ normaliser

        score, normaliser = mean_log_softmax(foreground)
        if background is not None:
            outside, subtracted = mean_log_softmax(background)
            score, normaliser = score - outside, normaliser - subtracted
        found = match_map(score, valid)
        return found._replace(log_evidence=found.log_evidence + normaliser)


def weighted_mean(
    reference: Float[Array, "R d"], weights: Float[Array, " R"] | None = None
) -> Float[Array, " d"]:
    r"""Mean of the unit-normed references, :math:`\sum_r a_r f_r / |f_r|`; zero when all weights are."""
    check_weights("weights", weights, reference)
    return normalised_weights(weights, reference) @ unit_norm(reference)


def geometric_mean(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    weights: Float[Array, " R"] | None = None,
    valid: Bool[Array, " T"] | None = None,
) -> MatchMap:
    r"""Matches by the normalised geometric mean of softmaxed cosine maps, exactly and in linear time.

    :math:`p_t = \operatorname{softmax}_t(\langle \bar f, g_t\rangle / \tau)` (Softmatcher §3; derivation
    at the top of this module).

    Args:
        reference: ``[R, d]``, features of the reference patches; any length, unit-normed here.
        target: ``[T, d]``, features of the target patches, likewise.
        temperature: :math:`\tau > 0`. It changes how sharp the map is, never its ranking.
        weights: ``[R]``, non-negative, for instance the share of each patch that the mask covers;
            uniform when ``None``.
        valid: ``[T]``, false on padding.

    Returns:
        The match map, ``score`` being :math:`\langle \bar f, g_t\rangle / \tau`.

    Raises:
        InputError: Shapes disagree or the temperature is not positive.
    """
    check_pair(reference, target, temperature)
    check_weights("valid", valid, target)
    mean = weighted_mean(reference, weights)
    return match_map(project(as_patches(target), mean / temperature), valid)


def geometric_contrast(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    foreground: Float[Array, " R"],
    background: Float[Array, " R"],
    target_share: float | Float[Array, ""] = 0.0,
    valid: Bool[Array, " T"] | None = None,
) -> MatchMap:
    r"""Matches by the geometric mean of the object over that of its surroundings.

    .. math::
        \text{score}_t = \langle \bar f_{fg} - (1-\beta)\,\bar f_{bg} - \beta\,\bar g,\; g_t\rangle/\tau

    The log-ratio of two geometric means is again one inner product. The reference's own unmasked
    patches say what the object is *not*; the mean of the target, :math:`\bar g`, does so for
    surroundings that the reference never showed. On whitened features this is Fisher's linear
    discriminant (the total covariance in place of the within-class one).

    Args:
        reference: ``[R, d]``, features of all patches of the reference images.
        target: ``[T, d]``, features of the target patches.
        temperature: :math:`\tau > 0`.
        foreground: ``[R]``, non-negative weights of the patches on the object.
        background: ``[R]``, non-negative weights of the patches beside it; all zero for a mask that
            covers the picture, and the term falls away.
        target_share: :math:`\beta \in [0, 1]`, the share of the target's mean in the background.
        valid: ``[T]``, false on padding.

    Raises:
        InputError: Shapes disagree, the temperature is not positive or the share not in ``[0, 1]``.
    """
    check_pair(reference, target, temperature)
    check_weights("foreground", foreground, reference)
    check_weights("background", background, reference)
    check_share(target_share)
    check_weights("valid", valid, target)
    unit = unit_norm(target)
    counted = None if valid is None else valid.astype(unit.dtype)
    direction = (
        weighted_mean(reference, foreground)
        - (1 - target_share) * weighted_mean(reference, background)
        - target_share * weighted_mean(unit, counted)
    )
    return match_map(unit @ direction / temperature, valid)


def geometric_mean_dense(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    weights: Float[Array, " R"] | None = None,
) -> Float[Array, " T"]:
    r"""The paper's literal form, in ``O(R T d)``: weigh log-softmaxed cosine maps, then normalise.

    Kept as the oracle of :func:`geometric_mean` and for timing the two.

    Returns:
        ``[T]``, log-probabilities.
    """
    check_pair(reference, target, temperature)
    check_weights("weights", weights, reference)
    similarity = unit_norm(reference) @ unit_norm(target).T / temperature
    log_softmax = jax.nn.log_softmax(similarity, axis=1)
    return match_map(normalised_weights(weights, reference) @ log_softmax).log_probability
