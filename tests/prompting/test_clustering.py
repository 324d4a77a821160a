from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from softmatch_jax._checks import InputError
from softmatch_jax._clustering import _lloyd, _plus_plus
from softmatch_jax.prompting import kmeans

jitted = jax.jit(kmeans, static_argnames=("k", "max_iterations", "restarts"))


def fast_kmeans(points, k, *, key, valid=None, weights=None, max_iterations=50, restarts=4):
    """Compiles once for each shape: what is not given is given as ones."""
    valid = np.ones(len(points), bool) if valid is None else valid
    weights = np.ones(len(points), np.float32) if weights is None else weights
    options = {"max_iterations": max_iterations, "restarts": restarts}
    return jitted(points, k, key=key, valid=valid, weights=weights, **options)


def cloud(seed, n=12, d=2):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def three_groups():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 1, (20, 2)) for c in [(0, 0), (50, 0), (0, 50)]]).astype(np.float32)


def best_inertia(points, k, weights):
    """The optimum, over all assignments."""
    best = np.inf
    for labels in itertools.product(range(k), repeat=len(points)):
        labels = np.array(labels)
        total = 0.0
        for j in set(labels.tolist()):
            x, w = points[labels == j], weights[labels == j]
            total += (w[:, None] * (x - np.average(x, axis=0, weights=w)) ** 2).sum()
        best = min(best, total)
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_the_optimum_of_tiny_sets(seed):
    points = cloud(seed, 7).astype(np.float64)
    weights = np.random.default_rng(seed).uniform(0.5, 2, 7)
    got = fast_kmeans(
        points.astype(np.float32), 3, key=jax.random.key(0), weights=weights.astype(np.float32), restarts=32
    )
    assert float(got.inertia) == pytest.approx(best_inertia(points, 3, weights), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_result_is_consistent_and_a_fixed_point(seed):
    points = cloud(seed)
    got = jax.tree.map(np.asarray, fast_kmeans(points, 3, key=jax.random.key(seed)))
    assert got.converged and got.valid.any()
    distance = ((points[:, None] - got.centres[None]) ** 2).sum(-1) + np.where(got.valid, 0, np.inf)[None, :]
    np.testing.assert_array_equal(distance.argmin(1), got.assignment)
    np.testing.assert_allclose(distance.min(1).sum(), got.inertia, rtol=1e-5)
    np.testing.assert_array_equal(np.bincount(got.assignment, minlength=3), got.counts)
    # SciPy's Lloyd iteration from here moves nothing.
    centres, labels = kmeans2(points, got.centres[got.valid], iter=3, minit="matrix")
    np.testing.assert_allclose(centres, got.centres[got.valid], atol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(got.valid)[labels], got.assignment)


def test_separated_groups_are_found_in_any_order():
    points = three_groups()
    shuffle = np.random.default_rng(1).permutation(60)
    for order in (np.arange(60), shuffle):
        got = fast_kmeans(points[order], 3, key=jax.random.key(0))
        groups = {frozenset(order[np.asarray(got.assignment) == j].tolist()) for j in range(3)}
        assert groups == {frozenset(range(i, i + 20)) for i in (0, 20, 40)}
        assert got.valid.all() and (got.counts == 20).all()


def test_inertia_never_increases():
    points, key = cloud(5, 200), jax.random.key(1)
    runs = [fast_kmeans(points, 8, key=key, max_iterations=m, restarts=1) for m in (1, 3, 8)]
    inertia = [float(run.inertia) for run in runs]
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(inertia)) and inertia[-1] < inertia[0]
    assert int(runs[1].iterations) == 3 and not runs[1].converged


@pytest.mark.slow
def test_restarts_keep_the_best():
    points, key = cloud(6, 60), jax.random.key(2)
    single = [fast_kmeans(points, 6, key=key, restarts=r) for r in (1, 9)]
    inertia = [float(run.inertia) for run in single]
    assert inertia[0] > inertia[1]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_points_left_out_change_nothing(seed):
    points, key = cloud(seed), jax.random.key(seed)
    alone = fast_kmeans(points, 3, key=key)
    padding = np.full((5, 2), np.nan, np.float32)
    padded = fast_kmeans(np.concatenate([points, padding]), 3, key=key, valid=jnp.arange(17) < 12)
    np.testing.assert_array_equal(padded.assignment[:12], alone.assignment)
    np.testing.assert_allclose(padded.centres, alone.centres, atol=1e-6)
    np.testing.assert_allclose(padded.inertia, alone.inertia, rtol=1e-5)
    assert (padded.assignment[12:] == -1).all()

    holes = np.arange(12) % 3 != 1
    moved = np.where(holes[:, None], points, np.float32(1e6))
    results = [fast_kmeans(x, 3, key=key, valid=jnp.asarray(holes)) for x in (points, moved)]
    results.append(fast_kmeans(points, 3, key=key, weights=jnp.asarray(holes, jnp.float32)))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)


def test_whole_weights_count_as_copies():
    points, key = cloud(3, 7), jax.random.key(0)
    weights = np.array([1, 2, 3, 1, 2, 2, 1], np.float32)
    heavy = fast_kmeans(points, 3, key=key, weights=weights, restarts=32)
    copies = fast_kmeans(np.repeat(points, weights.astype(int), axis=0), 3, key=key, restarts=32)
    np.testing.assert_allclose(heavy.inertia, copies.inertia, rtol=1e-5)


def test_fewer_distinct_points_than_clusters():
    points = np.repeat(np.array([[1, 2], [1e3, 5]], np.float32), 6, axis=0)
    got = fast_kmeans(points, 3, key=jax.random.key(0))
    assert int(got.valid.sum()) == 2 and got.converged
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
    # Means are sums over counts in float32: one rounding of 1000 is 6e-5.
    centres = np.sort(np.asarray(got.centres)[np.asarray(got.valid)], axis=0)
    np.testing.assert_allclose(centres, [(1, 2), (1000, 5)], rtol=2e-7)
    assert float(got.inertia) < 12 * (1000 * 2e-7) ** 2
    assert (got.centres[~got.valid] == 0).all()


def test_nothing_to_group():
    got = fast_kmeans(cloud(0), 3, key=jax.random.key(0), valid=jnp.zeros(12, bool))
    assert not got.valid.any() and (got.assignment == -1).all() and float(got.inertia) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))


def test_an_emptied_cluster_is_given_up():
    points = jnp.array([[0.0], [1.0], [10.0], [11.0]])
    centres = jnp.array([[0.0], [100.0], [11.0]])
    got = _lloyd(points, jnp.ones(4), centres, jnp.ones(3, bool), 10)
    np.testing.assert_array_equal(got.valid, [True, False, True])
    np.testing.assert_allclose(got.centres, [[0.5], [0.0], [10.5]])
    np.testing.assert_array_equal(got.counts, [2, 0, 2])


def test_seeds_follow_squared_distance():
    points = jnp.array([[0.0], [1.0], [3.0]])
    weights = jnp.array([1e6, 1.0, 2.0])  # the first seed is the first point, almost surely
    keys = jax.random.split(jax.random.key(0), 20_000)
    centres, _ = jax.vmap(lambda key: _plus_plus(points, weights, 2, key=key))(keys)
    share = float(jnp.mean(centres[:, 1, 0] == 3.0))
    assert share == pytest.approx(2 * 9 / (1 + 2 * 9), abs=0.007)  # four standard deviations


def test_vmap_equals_loop_and_defaults_are_ones():
    points = np.stack([cloud(s) for s in range(3)])
    keys = jax.random.split(jax.random.key(7), 3)
    batch = jax.jit(jax.vmap(lambda x, key: kmeans(x, 3, key=key)))(points, keys)
    for index in range(3):
        one = fast_kmeans(points[index], 3, key=keys[index])
        np.testing.assert_array_equal(batch.assignment[index], one.assignment)
        np.testing.assert_allclose(batch.centres[index], one.centres, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"points": np.zeros((0, 2), np.float32)}, "n is 0"),
        ({"points": np.zeros(3, np.float32)}, "axes"),
        ({"points": np.zeros((3, 2), np.int32)}, "floating-point"),
        ({"valid": np.ones(5, bool)}, "valid has shape"),
        ({"weights": np.ones(5, np.float32)}, "weights has shape"),
    ],
)
def test_errors(change, message):
    arguments = {"points": cloud(0), "k": 2, "key": jax.random.key(0)} | change
    with pytest.raises(InputError, match=message):
        kmeans(arguments.pop("points"), arguments.pop("k"), **arguments)
