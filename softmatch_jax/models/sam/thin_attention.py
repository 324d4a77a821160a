r"""Attention between a handful of tokens and thousands of image rows, both ways.

What :class:`~softmatch_jax.models.sam.transformer.Attention` computes, in the order that costs least.
``fast_decoder`` tells the idea.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from softmatch_jax.models.sam.layers import PRECISION
from softmatch_jax.models.sam.transformer import Attention


def look(attention: Attention, queries: Array, keys: Array, values: Array, *, projected: bool) -> Array:
    """What the tokens read from the image.

    Args:
        attention: The weights.
        queries: ``[T, dim]``, tokens.
        keys: ``[N, inner]`` when they are projected already, else ``[N, dim]``.
        values: Likewise.
        projected: Which of the two.
    """
    key_kernel, value_kernel = attention.k_proj.kernel[...], attention.v_proj.kernel[...]
    heads, asked = attention.heads, attention.q_proj(queries) / _root(attention)
    if _thin(attention, len(queries)):
        asked = _spread(asked, heads)
        if projected:
            mixed = _mix(asked, keys, values)
        else:
            mixed = product(_mix(product(asked, key_kernel.T), keys, values), value_kernel)
        mixed = _gather(mixed, heads)
    else:
        if not projected:
            keys, values = product(keys, key_kernel), product(values, value_kernel)
        mixed = jnp.concatenate([_mix(*parts) for parts in _by_head(heads, asked, keys, values)], axis=1)
    # The weights of a softmax sum to one, and so the bias of the values comes through as it is.
    return attention.out_proj(mixed + bias_of(attention.v_proj)[None])


def _mix(asked: Array, keys: Array, values: Array) -> Array:
    """What every row of ``asked`` reads."""
    logits = product_transposed(asked, keys)
    numerators = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True)))
    # Divided after the product, where there are fewer columns than N.
    return product(numerators, values) / jnp.sum(numerators, axis=1, keepdims=True)


def write(
    attention: Attention, queries: Array, tokens: Array, positions: Array, valid: Array, *, projected: bool
) -> Array:
    """What the image takes over from the tokens, ``[N, dim]``; arguments as in :func:`look`."""
    heads, count = attention.heads, len(tokens)
    keys = product(tokens + positions, attention.k_proj.kernel[...]) / _root(attention)
    values = attention.v_proj(tokens)
    if _thin(attention, count):
        offered = _spread(keys, heads)
        offset = _offset(product(offered, bias_of(attention.q_proj)), jnp.tile(valid, heads))
        if not projected:
            offered = product(offered, attention.q_proj.kernel[...].T)
        logits = (product_transposed(offered, queries) + offset).reshape(heads, count, -1)
        shares = jax.nn.softmax(logits, axis=1).reshape(heads * count, -1)
        update = transposed_product(shares, product(_spread(values, heads), attention.out_proj.kernel[...]))
    else:
        update = _update_by_head(attention, queries, keys, values, valid, projected=projected)
    return update + bias_of(attention.out_proj)[None]


def _update_by_head(
    attention: Attention, queries: Array, keys: Array, values: Array, valid: Array, *, projected: bool
) -> Array:
    """What the image takes over when there are many tokens, without the bias."""
    heads, bias = attention.heads, bias_of(attention.q_proj)
    # The rows of the image as columns, so that a head's channels lie together.
    columns = queries.T if projected else transposed_product(attention.q_proj.kernel[...], queries.T)
    taken = []
    for asked, (offered, given, part) in zip(
        jnp.split(columns, heads), _by_head(heads, keys, values, bias[None]), strict=True
    ):
        logits = product(offered, asked) + _offset(product(offered, part[0]), valid)
        numerators = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=0, keepdims=True)))
        # Their sum is one channel more of what is taken.
        summed = jnp.concatenate([given, jnp.ones_like(given[:, :1])], axis=1)
        mixed = transposed_product(summed, numerators)
        taken.append(mixed[:-1] / mixed[-1:])
    return transposed_product(jnp.concatenate(taken), attention.out_proj.kernel[...])


def _offset(logits: Float[Array, " T"], valid: Bool[Array, " T"]) -> Float[Array, "T 1"]:
    """Shifts a token that is not valid out of every softmax.

    Added, because a selection would part the product from the softmax, which compile into one.
    """
    return jnp.where(valid, logits, -jnp.inf)[:, None]


def _by_head(heads: int, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The channels of each head in turn."""
    return zip(*(jnp.split(array, heads, axis=1) for array in arrays), strict=True)


def _thin(attention: Attention, count: int) -> bool:
    """Whether so few tokens are cheaper with the projections on their side than on the image's."""
    dim, inner = attention.k_proj.kernel.shape
    return attention.heads * count * (dim - inner) < dim * inner


def _root(attention: Attention) -> float:
    return math.sqrt(attention.k_proj.kernel.shape[1] // attention.heads)


def bias_of(layer: nnx.Linear) -> Array:
    """The bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias[...]


def _spread(x: Float[Array, "T inner"], heads: int) -> Float[Array, "HT inner"]:
    """Row ``(h, t)`` holds head ``h``'s channels of token ``t``, and zero elsewhere."""
    count, inner = x.shape
    parts = x.reshape(count, heads, inner // heads)
    eye = jnp.eye(heads, dtype=x.dtype)
    return jnp.einsum("thc,hg->htgc", parts, eye, precision=PRECISION).reshape(heads * count, inner)


def _gather(x: Float[Array, "HT inner"], heads: int) -> Float[Array, "T inner"]:
    """Takes head ``h``'s channels out of row ``(h, t)``; the opposite of :func:`_spread`."""
    count, inner = len(x) // heads, x.shape[1]
    parts = x.reshape(heads, count, heads, inner // heads)
    eye = jnp.eye(heads, dtype=x.dtype)
    return jnp.einsum("htgc,hg->thc", parts, eye, precision=PRECISION).reshape(count, inner)


product = partial(jnp.matmul, precision=PRECISION)


def product_transposed(a: Float[Array, "m k"], b: Float[Array, "n k"]) -> Float[Array, "m n"]:
    """``a b^T``."""
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision=PRECISION)


def transposed_product(a: Float[Array, "k m"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """``a^T b``."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=PRECISION)
