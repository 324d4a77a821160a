r"""Attention on a grid of patches with decomposed relative positions; what SAM's image encoder is made of.

A patch at ``(i, j)`` looks at one at ``(k, l)`` with the logit

.. math:: s\, q_{ij} \cdot k_{kl} + q_{ij} \cdot R^h_{i-k} + q_{ij} \cdot R^w_{j-l}

(Li et al. 2022, MViTv2, 4.1; the scale ``s`` is on the first term alone). The two other terms need but
``h + w`` numbers for each query. On small grids they join the product as columns of the queries, with
indicators of row and column as those of the keys. On large grids they are added to the logits, which are
made for some queries at a time, so that all of them never exist at once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax.models.sam.layers import PRECISION

LARGE = 1024
"""Patches of a grid above which logits are made a tile at a time."""

TILE = {"cpu": (1, 512)}
"""Heads and queries of a tile by platform: one that stays in the cache of a CPU, and a few for all others."""
LARGE_TILE = (16, 1024)


def offsets(table: Float[Array, "2*side-1 d"], length: int) -> Float[Array, "length length d"]:
    """The rows of a table for every query (first axis) and key along one axis of a grid.

    Args:
        table: A row for each offset, query minus key, from ``-(side - 1)`` on.
        length: Of the axis, at most ``side``; a shorter one uses the middle of the table.
    """
    middle = (len(table) - 1) // 2
    places = np.arange(length)
    return table[middle + places[:, None] - places[None, :]]


def attend(
    q: Float[Array, "b n d"],
    k: Float[Array, "b n d"],
    v: Float[Array, "b n d"],
    rows: Float[Array, "h h d"],
    columns: Float[Array, "w w d"],
) -> Float[Array, "b n d"]:
    """Softmax attention of ``b`` grids, each one head of a picture or window.

    Args:
        q: Queries, not scaled, patches of ``h x w`` in row-major order.
        k: Keys.
        v: Values.
        rows: :func:`offsets` between rows.
        columns: :func:`offsets` between columns.

    Returns:
        What each patch read, in the type of ``v``; softmax is float32.
    """
    grid = (len(rows), len(columns))
    by_row, by_column = _positions(q, rows, columns)
    q = q * q.shape[-1] ** -0.5
    if q.shape[1] > LARGE:
        return _attend_by_tiles(q, k, v, by_row, by_column)
    q = jnp.concatenate([q, by_row.astype(q.dtype), by_column.astype(q.dtype)], axis=-1)
    indicators = jnp.asarray(_indicators(grid), k.dtype)
    k = jnp.concatenate([k, jnp.broadcast_to(indicators, (len(k), *indicators.shape))], axis=-1)
    return _read(jnp.einsum("bqd,bkd->bqk", q, k, **_float32()), v)


def _positions(q: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """The terms of the logits that depend on the row of the key ``[b, n, h]``, and on its column."""
    batch, count, dim = q.shape
    grid = q.reshape(batch, len(rows), len(columns), dim)
    by_row = jnp.einsum("bijd,ikd->bijk", grid, rows, **_float32())
    by_column = jnp.einsum("bijd,jkd->bijk", grid, columns, **_float32())
    return by_row.reshape(batch, count, -1), by_column.reshape(batch, count, -1)


def _indicators(grid: tuple[int, int]) -> np.ndarray:
    """For every patch the indicator of its row, then of its column: ``[h * w, h + w]``."""
    height, width = grid
    rows = np.repeat(np.eye(height), width, axis=0)
    return np.concatenate([rows, np.tile(np.eye(width), (height, 1))], axis=1)


def _read(logits: Array, v: Array) -> Array:
    """Softmax of float32 logits, then the values; divided last, where there is least to divide."""
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    read = jnp.einsum("...qk,...kd->...qd", weights.astype(v.dtype), v, **_float32())
    return (read / total).astype(v.dtype)


def _attend_by_tiles(q: Array, k: Array, v: Array, by_row: Array, by_column: Array) -> Array:
    """Attention of scaled queries, some of them at a time."""
    batch, count, _ = q.shape
    heads, tile = TILE.get(jax.default_backend(), LARGE_TILE)
    heads, tile = min(heads, batch), min(tile, count)
    tiles = -(-count // tile)

    def split(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (0, tiles * tile - count), (0, 0)))
        return padded.reshape(batch, tiles, tile, -1)

    def read_head(head: tuple[Array, ...]) -> Array:
        keys, values, *queries = head

        def read_tile(queries: tuple[Array, ...]) -> Array:
            part, row, column = queries
            logits = jnp.einsum("qd,kd->qk", part, keys, **_float32())
            placed = row[:, :, None] + column[:, None, :]
            return _read(logits + placed.reshape(logits.shape), values)

        return jax.lax.map(read_tile, tuple(queries))

    inputs = (k, v, split(q), split(by_row), split(by_column))
    # One head is not a batch of one: products of matrices run faster than those of stacks.
    read = jax.lax.map(read_head, inputs, batch_size=heads if heads > 1 else None)
    return read.reshape(batch, tiles * tile, -1)[:, :count]


def _float32() -> dict[str, Any]:
    """Products are summed up in float32, whatever they are of."""
    return {"precision": PRECISION, "preferred_element_type": jnp.float32}
