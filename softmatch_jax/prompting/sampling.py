"""Drawing points from a probability map over patches (Softmatcher §3, end of step 2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from softmatch_jax._checks import InputError, check_rank, check_shape


class SampledPoints(NamedTuple):
    """Patches drawn from a map; the shape is fixed, and ``valid`` tells which entries exist.

    Attributes:
        indices: ``int32 [n]`` row-major patch indices; 0 where not valid, so gathering is safe.
        valid: ``bool [n]``; valid entries come first.
        log_probability: ``[n]`` the value of the map at each patch; -inf where not valid.
    """

    indices: Int32[Array, " n"]
    valid: Bool[Array, " n"]
    log_probability: Float[Array, " n"]


def sample_multinomial(
    log_probability: Float[Array, " patches"],
    n: int,
    *,
    key: jax.Array,
    replace: bool = False,
    valid: Bool[Array, " patches"] | None = None,
) -> SampledPoints:
    """Draws patches with probability proportional to ``exp(log_probability)``.

    Without replacement the patches are those with the ``n`` largest ``log p_i + G_i``, where the
    ``G_i`` are independent standard Gumbel variables; in this order they are distributed as
    sequential draws, each from the patches that remain. Patches of probability 0 are never drawn.

    Args:
        log_probability: ``[patches]``, up to an additive constant; -inf is probability 0.
        n: number of draws.
        key: random key.
        replace: draw each time from all patches instead.
        valid: patches that may be drawn; all by default.

    Returns:
        The draws. Fewer than ``n`` are valid if fewer than ``n`` patches can be drawn.

    Raises:
        InputError: if ``n`` is less than 1 or the shapes do not fit.
    """
    check_rank("log_probability", log_probability, 1, "[patches]")
    _check_count(n)
    log_probability = _masked(log_probability, valid)
    if replace:
        indices = jax.random.categorical(key, log_probability, shape=(n,))
    else:
        gumbel = jax.random.gumbel(key, log_probability.shape, log_probability.dtype)
        indices = jax.lax.top_k(log_probability + gumbel, min(n, log_probability.size))[1]
        indices = jnp.pad(indices, (0, n - indices.size))
    drawn = jnp.arange(n) < (n if replace else log_probability.size)
    values = jnp.where(drawn, log_probability[indices], -jnp.inf)
    return _points(indices, values)


def sample_top_k(
    log_probability: Float[Array, "rows columns"],
    n: int,
    *,
    radius: float,
    log_drop: float = math.inf,
    valid: Bool[Array, "rows columns"] | None = None,
) -> SampledPoints:
    """Takes the most probable patches that keep a distance from one another.

    Greedy: takes the largest value left (of equals the one with the lowest index), discards all
    patches whose centres are within ``radius`` of it, and so on.

    Args:
        log_probability: ``[rows, columns]``, up to an additive constant; -inf is probability 0.
        n: number of patches to take.
        radius: Euclidean distance in patches; 0 discards the taken patch only.
        log_drop: patches more than this below the largest value are never taken.
        valid: patches that may be taken; all by default.

    Returns:
        The patches, most probable first. Fewer than ``n`` are valid if nothing more is left.

    Raises:
        InputError: if ``n`` is less than 1, ``radius`` or ``log_drop`` is negative, or the shapes
            do not fit.
    """
    check_rank("log_probability", log_probability, 2, "[rows, columns]")
    _check_count(n)
    for name, value in (("radius", radius), ("log_drop", log_drop)):
        if not value >= 0:
            raise InputError(f"{name} is {value}; expected a number of at least 0.")
    rows, columns = log_probability.shape
    values = _masked(log_probability, valid).ravel()
    values = jnp.where(values >= jnp.max(values) - log_drop, values, -jnp.inf)
    index = jnp.arange(rows * columns)
    row, column = index // columns, index % columns
    # Squared distances are whole numbers; the margin undoes the rounding of a radius such as 13 ** 0.5.
    reach = math.floor(min(radius, rows + columns) ** 2 + 1e-6)

    def take(left: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        best = jnp.argmax(left)
        squared = (row - row[best]) ** 2 + (column - column[best]) ** 2
        return jnp.where(squared <= reach, -jnp.inf, left), (best, left[best])

    _, (indices, taken) = jax.lax.scan(take, values, length=n)
    return _points(indices, taken)


def _masked(log_probability: Array, valid: Array | None) -> Array:
    log_probability = jnp.asarray(log_probability)
    if valid is None:
        return log_probability
    check_shape("valid", valid, log_probability.shape, "as log_probability")
    return jnp.where(valid, log_probability, -jnp.inf)


def _points(indices: Array, log_probability: Array) -> SampledPoints:
    exists = log_probability > -jnp.inf
    return SampledPoints(jnp.where(exists, indices, 0).astype(jnp.int32), exists, log_probability)


def _check_count(n: int) -> None:
    if n < 1:
        raise InputError(f"n is {n}; expected at least one draw.")
