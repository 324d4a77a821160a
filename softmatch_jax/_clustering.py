"""Weighted k-means: groups sampled points into prompts (Softmatcher §3, Fig. 1), and patches into parts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from softmatch_jax._checks import InputError, check_rank, check_shape

FEW_DIMENSIONS = 8
"""Up to here squared distances are sums of squared differences, which lose nothing to cancellation."""


class Clusters(NamedTuple):
    """The result of `kmeans`; the shapes are fixed, and ``valid`` tells which clusters exist.

    Attributes:
        centres: ``[k, d]`` means; 0 where not valid.
        assignment: ``int32 [n]`` the nearest centre of each point, -1 for points left out.
        counts: ``int32 [k]`` number of points of each cluster.
        valid: ``bool [k]`` clusters that have a point.
        inertia: weighted sum of squared distances to the nearest centre.
        iterations: ``int32`` updates of the centres in the run that was kept.
        converged: whether that run ended because the assignment no longer changed.
    """

    centres: Float[Array, "k d"]
    assignment: Int32[Array, " n"]
    counts: Int32[Array, " k"]
    valid: Bool[Array, " k"]
    inertia: Float[Array, ""]
    iterations: Int32[Array, ""]
    converged: Bool[Array, ""]


def kmeans(
    points: Float[Array, "n d"],
    k: int,
    *,
    key: jax.Array,
    valid: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    max_iterations: int = 50,
    restarts: int = 4,
) -> Clusters:
    """Groups points about ``k`` centres so as to make the inertia small.

    Minimises ``sum_i w_i min_j |x_i - c_j|^2`` by Lloyd's iteration from k-means++ seeds, several
    times, and keeps the run of the lowest inertia. Fewer than ``k`` clusters are valid if there
    are fewer distinct points, or if a cluster loses its last point: it is then given up, which
    changes no other cluster.

    A point that is not valid or has weight 0 is left out: its coordinates change nothing, and
    appending such points changes nothing but rounding, since every point draws its own random
    numbers from its index.

    Args:
        points: ``[n, d]``.
        k: greatest number of clusters.
        key: random key.
        valid: points to group; all by default.
        weights: non-negative weights; 1 by default.
        max_iterations: limit for Lloyd's iteration.
        restarts: number of independent runs.

    Returns:
        The clusters of the best run. Every point is assigned to the nearest of the returned
        centres; if ``converged``, each centre is the mean of its points as well.

    Raises:
        InputError: if a count is less than 1 or the shapes do not fit.
    """
    check_rank("points", points, 2, "[n, d]")
    points = jnp.asarray(points)
    if not jnp.issubdtype(points.dtype, jnp.floating):
        raise InputError(f"points is {points.dtype}; expected floating-point coordinates.")
    counts = (("k", k), ("max_iterations", max_iterations), ("restarts", restarts), ("n", len(points)))
    for name, count in counts:
        if count < 1:
            raise InputError(f"{name} is {count}; expected at least 1.")
    weights = _effective_weights(points, valid, weights)
    points = jnp.where(weights[:, None] > 0, points, 0.0)

    def run(index: Array) -> Clusters:
        centres, exists = _plus_plus(points, weights, k, key=jax.random.fold_in(key, index))
        return _lloyd(points, weights, centres, exists, max_iterations)

    runs = jax.vmap(run)(jnp.arange(restarts))
    best = jnp.argmin(runs.inertia)
    return jax.tree.map(lambda leaf: leaf[best], runs)


def _effective_weights(points: Array, valid: Array | None, weights: Array | None) -> Array:
    n = len(points)
    if weights is None:
        weights = jnp.ones(n, points.dtype)
    check_shape("weights", weights, (n,), "n, one for each point")
    weights = jnp.asarray(weights, points.dtype)
    if valid is not None:
        check_shape("valid", valid, (n,), "n, one for each point")
        weights = jnp.where(valid, weights, 0.0)
    return weights


def _plus_plus(points: Array, weights: Array, k: int, *, key: jax.Array) -> tuple[Array, Array]:
    """Draws k-means++ seeds: each next one with probability proportional to ``w_i D_i^2``.

    ``D_i`` is the distance to the nearest seed so far. The draw is a Gumbel argmax in log space, so
    that a point on a seed has probability 0 exactly; once no other is left, seeds do not exist.
    """

    def draw(nearest: Array, index: Array) -> tuple[Array, tuple[Array, Array]]:
        noise = jax.random.gumbel(jax.random.fold_in(key, index), nearest.shape, nearest.dtype)
        log_squared = jnp.where(index == 0, 0.0, jnp.log(nearest))
        score = jnp.where(weights > 0, jnp.log(weights) + log_squared + noise, -jnp.inf)
        pick = jnp.argmax(score)
        exists = score[pick] > -jnp.inf
        squared = jnp.sum((points - points[pick][None, :]) ** 2, axis=-1)
        nearest = jnp.where(exists, jnp.minimum(nearest, squared), nearest)
        return nearest, (points[pick], exists)

    unseen = jnp.full(len(points), jnp.inf, points.dtype)
    _, (centres, exists) = jax.lax.scan(draw, unseen, jnp.arange(k))
    return centres, exists


class _State(NamedTuple):
    centres: Array
    assignment: Array
    inertia: Array
    iterations: Array
    converged: Array


def _lloyd(points: Array, weights: Array, centres: Array, exists: Array, max_iterations: int) -> Clusters:
    """Alternates between means and nearest centres until the assignment repeats itself."""

    def unfinished(state: _State) -> Array:
        return ~state.converged & (state.iterations < max_iterations)

    def update(state: _State) -> _State:
        centres, exists = _means(points, weights, state.assignment, len(state.centres))
        assignment, inertia = _assign(points, weights, centres, exists)
        converged = jnp.all(assignment == state.assignment)
        return _State(centres, assignment, inertia, state.iterations + 1, converged)

    start = _State(centres, *_assign(points, weights, centres, exists), jnp.int32(0), jnp.bool_(False))
    end = jax.lax.while_loop(unfinished, update, start)
    counts = jnp.sum(_members(end.assignment, len(centres)), axis=0, dtype=jnp.int32)
    valid = counts > 0
    return Clusters(
        centres=jnp.where(valid[:, None], end.centres, 0.0),
        assignment=end.assignment,
        counts=counts,
        valid=valid,
        inertia=end.inertia,
        iterations=end.iterations,
        converged=end.converged,
    )


def _assign(points: Array, weights: Array, centres: Array, exists: Array) -> tuple[Array, Array]:
    """Returns the nearest existing centre of each point, and the inertia."""
    squared = jnp.where(exists[None, :], _squared_distances(points, centres), jnp.inf)
    counted = weights > 0
    nearest = jnp.where(counted, jnp.argmin(squared, axis=1).astype(jnp.int32), -1)
    inertia = jnp.sum(jnp.where(counted, weights * jnp.min(squared, axis=1), 0.0))
    return nearest, inertia


def _squared_distances(points: Array, centres: Array) -> Array:
    """``[n, k]``; by differences in few dimensions, as for pixels, and by one matrix product in many."""
    if points.shape[1] <= FEW_DIMENSIONS:
        return jnp.sum((points[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
    products = jnp.matmul(points, centres.T, precision=jax.lax.Precision.HIGHEST)
    lengths = [jnp.sum(side * side, axis=-1) for side in (points, centres)]
    return jnp.maximum(lengths[0][:, None] - 2 * products + lengths[1][None, :], 0)


def _means(points: Array, weights: Array, assignment: Array, k: int) -> tuple[Array, Array]:
    """Returns the weighted mean of each cluster, and whether it has a point."""
    share = jnp.where(_members(assignment, k), weights[:, None], 0.0)
    total = jnp.sum(share, axis=0)
    share = share / jnp.where(total > 0, total, 1.0)[None, :]
    # Pixel coordinates need all 24 bits; accelerators multiply with fewer by default.
    means = jnp.matmul(share.T, points, precision=jax.lax.Precision.HIGHEST)
    return means, total > 0


def _members(assignment: Array, k: int) -> Array:
    return assignment[:, None] == jnp.arange(k, dtype=assignment.dtype)[None, :]
