"""From the masks of sampled prompts to one mask (ProSAM, Table 7), and how far they disagree."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_shape

Strategy: TypeAlias = Literal["mean", "max_logits", "mean_logits", "max_binary", "mean_binary", "majority"]


class MergedSamples(NamedTuple):
    """One mask of several.

    Attributes:
        logits: Above 0 on the object; a map that may be enlarged before it is cut.
        mask: Where they are.
    """

    logits: Float[Array, "h w"]
    mask: Bool[Array, "h w"]


class Disagreement(NamedTuple):
    """How far sampled masks are from saying the same.

    Attributes:
        map: ``4 p (1 - p)`` of the share ``p`` of samples that have a pixel on the object: 0 where all say
            the same, 1 where half of them say otherwise.
        value: 1 less the mean IoU of two different samples, in 0..1; 0 of one alone. Two empty masks agree.
    """

    map: Float[Array, "h w"]
    value: Float[Array, ""]


def check_samples(samples: int) -> None:
    """Raises ``InputError`` unless there is a sample at least."""
    if samples < 1:
        raise InputError(f"samples (K) is {samples}; expected at least 1.")


def merge_samples(logits: Float[Array, "K h w"], strategy: Strategy) -> MergedSamples:
    r"""Merges the masks of ``K`` sampled prompts; pure and traceable.

    Strategies on logits take their greatest value or their mean. Those on binary masks count the votes ``v``
    of each pixel and ask for ``m`` of them: 1 (``max_binary``), half (``mean_binary``, a mean of at least
    0.5) or more than half (``majority``); an even ``K`` tells the last two apart by its ties. As logits they
    return

    .. math:: (2 v - 2 m + 1) / K,

    which is 0 half-way between the votes that suffice and those that do not.

    Args:
        logits: Cut at 0; those of the mean prompt alone for ``mean``.
        strategy: Which.

    Raises:
        InputError: There are no samples, more than one for ``mean``, or there is no such strategy.
    """
    count = len(logits)
    check_samples(count)
    if strategy not in get_args(Strategy):
        raise InputError(f"strategy is {strategy!r}; expected {', '.join(map(repr, get_args(Strategy)))}.")
    if strategy == "mean" and count > 1:
        raise InputError(
            f"The strategy 'mean' got {count} samples; expected the logits of the mean prompt alone "
            "('mean_logits' averages samples)."
        )
    if strategy == "max_logits":
        merged = jnp.max(logits, axis=0)
    elif strategy in ("mean", "mean_logits"):
        merged = jnp.mean(logits, axis=0)
    else:
        least = {"max_binary": 1, "mean_binary": (count + 1) // 2, "majority": count // 2 + 1}[strategy]
        votes = jnp.sum(logits > 0, axis=0)
        merged = (2 * votes - 2 * least + 1) / count
    return MergedSamples(merged, merged > 0)


def disagreement(logits: Float[Array, "K h w"], inside: Bool[Array, "h w"] | None = None) -> Disagreement:
    r"""How far the masks of ``K`` sampled prompts disagree; pure and traceable.

    With ``A_k`` the pixels of mask ``k`` the number is

    .. math:: 1 - \frac{2}{K (K - 1)} \sum_{j < k} \frac{|A_j \cap A_k|}{|A_j \cup A_k|},

    all intersections coming from one matrix product.

    Args:
        logits: Cut at 0.
        inside: False on cells that do not count, whose map is 0.

    Raises:
        InputError: There are no samples, or the shapes differ.
    """
    count = len(logits)
    check_samples(count)
    if inside is None:
        inside = jnp.ones(logits.shape[1:], bool)
    check_shape("inside", inside, logits.shape[1:], "that of a mask")
    masks = ((logits > 0) & inside).astype(jnp.float32)
    votes = masks.sum(axis=0)
    rows = masks.reshape(count, -1)
    common = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
    areas = jnp.diagonal(common)
    union = areas[:, None] + areas[None] - common
    overlap = jnp.where(union > 0, common / jnp.maximum(union, 1), 1.0)
    pairs = count * (count - 1)
    # The diagonal is 1 everywhere, empty masks included.
    value = 1 - (overlap.sum() - count) / pairs if pairs else jnp.zeros(())
    # Of counts: rounded shares would leave [0, 1].
    return Disagreement(4 * votes * (count - votes) / count**2, jnp.clip(value, 0, 1))
