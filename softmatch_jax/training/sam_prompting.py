"""Simulated prompts: which marks the model is shown of a region, and where it is corrected."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from softmatch_jax.models.sam.prompt_encoder import BOTTOM_RIGHT, NEGATIVE, NOT_A_POINT, POSITIVE, TOP_LEFT

KINDS: dict[str, tuple[int, int, int, int]] = {
    "box": (NOT_A_POINT, NOT_A_POINT, TOP_LEFT, BOTTOM_RIGHT),
    "centre": (POSITIVE, NOT_A_POINT, NOT_A_POINT, NOT_A_POINT),
    "point": (NOT_A_POINT, POSITIVE, NOT_A_POINT, NOT_A_POINT),
    "two points": (POSITIVE, POSITIVE, NOT_A_POINT, NOT_A_POINT),
    "box and point": (NOT_A_POINT, POSITIVE, TOP_LEFT, BOTTOM_RIGHT),
}
"""What a prompt of each kind marks: labels of its slots, which are the region's centre, a random pixel of it,
and the corners of the box."""

AMBIGUOUS = ("centre", "point")
"""The kinds that may mean several regions."""


class Marks(NamedTuple):
    """Prompts of one picture.

    Attributes:
        xy: ``[K, n, 2]`` in pixels of the square, pixel centres at ``+0.5``.
        labels: ``[K, n]``, see :meth:`~softmatch_jax.models.sam.prompt_encoder.PromptEncoder.encode_points`.
        kinds: ``[K]``, position of its kind in :data:`KINDS`.
        dense: ``[K]``, whether the maps of the prompt reach the decoder.
        pooled: ``[K]``, whether what lies under the marks becomes tokens.
    """

    xy: Float[Array, "K n 2"]
    labels: Int[Array, "K n"]
    kinds: Int[Array, " K"]
    dense: Bool[Array, " K"]
    pooled: Bool[Array, " K"]


def draw_marks(
    key: jax.Array,
    centres: Float[Array, "K 2"],
    points: Float[Array, "K 2"],
    boxes: Float[Array, "K 4"],
    *,
    shares: tuple[float, ...],
    sparse: float,
    bare: float,
) -> Marks:
    """Chooses what is shown of every region.

    Args:
        key: Random key.
        centres: Of the regions.
        points: One of each region.
        boxes: ``x0, y0, x1, y1`` about the regions.
        shares: How often each kind of :data:`KINDS` is chosen.
        sparse: How often the decoder gets tokens alone.
        bare: How often these are positions alone, without what lies under the marks.
    """
    kind_key, sparse_key, bare_key = jax.random.split(key, 3)
    count = len(centres)
    logits = jnp.log(jnp.maximum(jnp.asarray(shares), 1e-30))
    kinds = jax.random.categorical(kind_key, logits, shape=(count,))
    tokens_only = jax.random.bernoulli(sparse_key, float(sparse), (count,))
    positions_only = tokens_only & jax.random.bernoulli(bare_key, float(bare), (count,))
    return Marks(
        xy=jnp.stack([centres, points, boxes[:, :2], boxes[:, 2:]], axis=1),
        labels=jnp.asarray(tuple(KINDS.values()), jnp.int32)[kinds],
        kinds=kinds,
        dense=~tokens_only,
        pooled=~positions_only,
    )


def correct(
    key: jax.Array,
    marks: Marks,
    logits: Float[Array, "K h w"],
    truth: Float[Array, "K h w"],
    inside: Float[Array, "h w"],
    stride: int,
) -> Marks:
    """Adds one point to every prompt, drawn uniformly from where mask and truth differ.

    It is positive where the object was missed. Where nothing is wrong the new slot holds no point. The maps
    always reach the decoder, since the earlier mask is among them.

    Args:
        key: Random key.
        marks: The prompts so far.
        logits: What the model made of them.
        truth: The regions, on the same raster.
        inside: 1 on cells of the picture, 0 on padding.
        stride: Pixels along the side of a cell; points are anywhere in their cells.
    """
    cell_key, place_key = jax.random.split(key)
    true = truth > 0.5
    wrong = ((logits > 0) != true) & (inside > 0)
    flat = jnp.where(wrong, 0.0, -jnp.inf).reshape(len(wrong), -1)
    # Where nothing is wrong all is equally likely, and the point does not count.
    some = wrong.any(axis=(1, 2))
    cells = jax.random.categorical(cell_key, jnp.where(some[:, None], flat, 0.0), axis=-1)
    width = logits.shape[-1]
    places = jax.random.uniform(place_key, (len(cells), 2))
    xy = (jnp.stack([cells % width, cells // width], axis=-1) + places) * stride
    missed = jnp.take_along_axis(true.reshape(len(true), -1), cells[:, None], axis=1)[:, 0]
    labels = jnp.where(some, jnp.where(missed, POSITIVE, NEGATIVE), NOT_A_POINT)
    return marks._replace(
        xy=jnp.concatenate([marks.xy, xy[:, None].astype(marks.xy.dtype)], axis=1),
        labels=jnp.concatenate([marks.labels, labels[:, None].astype(marks.labels.dtype)], axis=1),
        dense=jnp.ones_like(marks.dense),
        pooled=jnp.ones_like(marks.pooled),
    )
