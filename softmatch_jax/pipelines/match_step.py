"""The pipeline's jit boundary: features in; scores, cuts, points and resemblance out.

Shapes are bucketed before they reach it. The feature grid has one shape for all picture sizes, the
references are padded to a power of two, and so a run compiles once for its reference set whatever
the targets are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax import matching
from softmatch_jax.matching import Cut, MatchMap, Moments
from softmatch_jax.pipelines.config import MatchingConfig, PromptingConfig
from softmatch_jax.prompting import Clusters, SampledPoints, kmeans, sample_multinomial, sample_top_k

RESEMBLANCE_SAMPLES = 512
"""Most patches that stand for each set in the resemblance, whose cost grows with their square."""

RESEMBLANCE_SHARE = 4
"""Patches of the target for each of them: an object seldom covers more."""

BLANK = 1e-4
"""Scores that deviate by less than this share of the largest are called equal."""


class ReferenceArrays(NamedTuple):
    """A reference set as arrays; ``N`` patches of all references together, ``C`` classes.

    Attributes:
        features: ``[N, d]``; rows of padding are zero and have no weight anywhere.
        foreground: ``[C, N]``, weight of each patch for each class.
        background: ``[C, N]``, likewise for its surroundings.
        moments: Mean of the references' moments, where features are whitened.
        area: ``[C]``, mean fraction of the picture that the object covers.
    """

    features: Float[Array, "N d"]
    foreground: Float[Array, "C N"]
    background: Float[Array, "C N"]
    moments: Moments | None
    area: Float[Array, " C"]


@jax.jit
def picture_moments(features: Float[Array, "T d"], valid: Bool[Array, " T"]) -> Moments:
    """Moments of one picture, scaled to total weight one so that every picture counts the same."""
    weights = valid.astype(features.dtype)
    return matching.moments(features, weights / jnp.sum(weights))


def _common_ground(
    references: ReferenceArrays,
    target: Float[Array, "T d"],
    valid: Bool[Array, " T"],
    *,
    white: bool,
    shrinkage: float,
) -> Callable[[Float[Array, "n d"]], Float[Array, "n d"]]:
    """Brings features of either side to unit norm, whitened together where the settings ask for it."""
    if not white or references.moments is None:
        return matching.unit_norm
    both = jax.tree.map(jnp.add, references.moments, picture_moments(target, valid))
    return partial(matching.whiten, matching.whitening(both, shrinkage=shrinkage))


@partial(jax.jit, static_argnames="config")
def contrast_step(
    references: ReferenceArrays,
    target: Float[Array, "T d"],
    valid: Bool[Array, " T"],
    *,
    config: MatchingConfig,
) -> MatchMap:
    """Matches every class against one target on features whitened together.

    Returns:
        A match map with a leading axis of ``C`` classes.
    """
    level = _common_ground(references, target, valid, white=config.whiten, shrinkage=config.shrinkage)
    source, goal = level(references.features), level(target)
    contrast = matching.geometric_contrast if config.method == "geometric" else matching.arithmetic_contrast

    def one_class(foreground: Float[Array, " N"], background: Float[Array, " N"]) -> MatchMap:
        return contrast(
            source,
            goal,
            temperature=config.temperature,
            foreground=foreground,
            background=background,
            target_share=config.target_share,
            valid=valid,
        )

    return jax.vmap(one_class)(references.foreground, references.background)


@jax.jit
def text_step(
    found: MatchMap,
    text: Float[Array, "C T"],
    weight: Float[Array, " C"],
    valid: Bool[Array, " T"],
) -> MatchMap:
    r"""Takes the map of a text prompt into the geometric mean, :math:`p \propto p_m^{1-w} p_t^w`.

    Args:
        found: Match map of every class.
        text: Logits of the text prompt's map: similarity over temperature.
        weight: The text's weight ``w`` for every class, 0 for those without a text.
        valid: False on padding.
    """
    share = weight[:, None]
    # Nothing times infinity is no number: a class without a text keeps its scores, -inf among them.
    mixed = jnp.where(share > 0, (1 - share) * found.score + share * text, found.score)
    made = jax.vmap(lambda score, ran: matching.match_map(score, valid, ran))(mixed, found.diagnostics)
    # A method's own evidence stays where nothing was mixed in; elsewhere it is that of the mixed scores.
    evidence = jnp.where(weight > 0, made.log_evidence, found.log_evidence)
    return made._replace(log_evidence=evidence)


@jax.jit
def cut_step(
    found: MatchMap,
    valid: Bool[Array, " T"],
    area: Float[Array, " C"],
    size_factor: Float[Array, ""],
) -> tuple[MatchMap, Cut]:
    """Finds where to cut the score map of every class into object and rest.

    Args:
        found: Match map of every class.
        valid: False on padding.
        area: The fraction of the picture that the object covers on the references.
        size_factor: How many times smaller or larger it may be.

    Returns:
        The map, its scores finite, and the cut, both with a leading axis of ``C`` classes.
    """

    def one_class(found: MatchMap, area: Float[Array, ""]) -> tuple[MatchMap, Cut]:
        score = _finite_score(found.score, valid)
        bounds = (area / size_factor, jnp.minimum(area * size_factor, 1.0))
        cut = matching.otsu_threshold(score, valid=valid, area=bounds)
        # On a blank picture scores differ by rounding alone; then nothing is above the cut.
        highest = jnp.max(jnp.where(valid, score, -jnp.inf))
        blank = cut.deviation <= BLANK * jnp.max(jnp.where(valid, jnp.abs(score), 0))
        return found._replace(score=score), cut._replace(threshold=jnp.where(blank, highest, cut.threshold))

    return jax.vmap(one_class)(found, area)


def _finite_score(score: Float[Array, " T"], valid: Bool[Array, " T"]) -> Array:
    """Scores with those of probability zero (an assignment leaves patches out) set below all others."""
    known = valid & jnp.isfinite(score)
    lowest = jnp.min(jnp.where(known, score, jnp.inf))
    highest = jnp.max(jnp.where(known, score, -jnp.inf))
    below = lowest - jnp.maximum(highest - lowest, 1.0)
    below = jnp.where(jnp.any(known), below, 0.0)
    return jnp.where(valid & ~known, below, score)


def _spread(weights: Float[Array, " n"], count: int) -> Array:
    """Indices of ``count`` patches drawn evenly along the cumulative weight: systematic sampling."""
    cumulative = jnp.cumsum(weights)
    places = (jnp.arange(count, dtype=weights.dtype) + 0.5) / count * cumulative[-1]
    return jnp.clip(jnp.searchsorted(cumulative, places), 0, weights.shape[0] - 1)


@partial(jax.jit, static_argnames="config")
def resemblance_step(
    references: ReferenceArrays,
    target: Float[Array, "T d"],
    valid: Bool[Array, " T"],
    found: Float[Array, "C T"],
    *,
    config: MatchingConfig,
) -> Float[Array, " C"]:
    """How much what was found looks like each class: :func:`softmatch_jax.matching.resemblance`.

    Zero where nothing was found.

    Each set of patches is thinned to a fixed number, and then whitened, so cost does not grow with the
    references.

    Args:
        references: The reference set.
        target: ``[T, d]``, target features.
        valid: ``[T]``, false on padding.
        found: ``[C, T]``, the share of each patch that the class's mask covers.
        config: Settings.
    """
    level = _common_ground(references, target, valid, white=config.whiten, shrinkage=config.verify_shrinkage)

    def one_class(
        foreground: Float[Array, " N"], background: Float[Array, " N"], share: Float[Array, " T"]
    ) -> Float[Array, ""]:
        rest = jnp.where(valid & (share <= 0), 1.0, 0.0)
        count = max(1, min(RESEMBLANCE_SAMPLES, target.shape[0] // RESEMBLANCE_SHARE))
        source = references.features
        beside = jnp.concatenate([source[_spread(background, count)], target[_spread(rest, count)]])
        weights = jnp.repeat(
            jnp.stack([jnp.any(background > 0), jnp.any(rest > 0)]).astype(rest.dtype), count
        )
        alike = matching.resemblance(
            level(source[_spread(foreground, count)]),
            level(target[_spread(share, count)]),
            level(beside),
            surroundings_weights=weights,
        )
        return jnp.where(jnp.any(share > 0), alike, 0.0)

    return jax.vmap(one_class)(references.foreground, references.background, found)


@partial(jax.jit, static_argnames=("shape", "config"))
def sample_step(
    found: MatchMap,
    above: Bool[Array, " T"],
    centres: Float[Array, "T 2"],
    key: jax.Array,
    *,
    shape: tuple[int, int],
    config: PromptingConfig,
) -> tuple[SampledPoints, Clusters]:
    """Draws points above the cut and groups them by where they are in the picture."""
    draw_key, cluster_key = jax.random.split(key)
    if config.sampler == "top_k":
        points = sample_top_k(
            found.log_probability.reshape(shape),
            config.points,
            radius=config.radius,
            valid=above.reshape(shape),
        )
    else:
        points = sample_multinomial(found.log_probability, config.points, key=draw_key, valid=above)
    clusters = kmeans(centres[points.indices], config.clusters, key=cluster_key, valid=points.valid)
    return points, clusters
