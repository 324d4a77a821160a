from __future__ import annotations

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats
from scipy.optimize import minimize_scalar
from slow_params import mostly_slow

from softmatch_jax._checks import InputError
from softmatch_jax.matching import random_features as rf

KINDS = get_args(rf.Kind)
DIM = 4
FREQUENCIES = 2 * DIM
ORIGIN = (np.zeros(DIM), np.zeros(DIM))


kernel_estimate, log_kernel = jax.jit(rf.kernel_estimate), jax.jit(rf.log_kernel)


@functools.partial(jax.jit, static_argnames="kind")
def both(fmap, x, y, kind):
    return rf.reference_features(fmap, x, kind=kind), rf.target_features(fmap, y, kind=kind)


def map_of(kind, dim, frequencies, temperature, anchors=(0.0, 0.0), dtype=jnp.float64):
    """Without the cost of compiling a draw."""
    w = np.random.default_rng(7).normal(size=(frequencies, dim))
    mu, nu = (jnp.broadcast_to(jnp.asarray(a, dtype), dim) for a in anchors)
    A = -0.2 if kind == "optimal" else 0.0
    return rf.FeatureMap(jnp.asarray(w, dtype), mu, nu, *jnp.asarray([temperature, A], dtype))


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def vectors(x64):
    """Of unit length, and one of each side of another length."""
    rng = np.random.default_rng(0)
    x, y = unit(rng, 5, DIM), unit(rng, 5, DIM)
    x[0] *= 0.3
    y[0] *= 1.4
    return jnp.asarray(x), jnp.asarray(y)


@pytest.fixture
def clusters(x64):
    """Unit vectors about two means, and the means."""
    rng = np.random.default_rng(1)
    x, y = (m[None] + 0.3 * rng.normal(size=(5, DIM)) for m in unit(rng, 2, DIM))
    x, y = (jnp.asarray(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in (x, y))
    return x, y, (x.mean(0), y.mean(0))


@functools.partial(jax.jit, static_argnames=("frequencies", "keys", "orthogonal"))
def _ratios(x, y, tau, mu, nu, frequencies, keys, orthogonal):
    def one(key, kind):
        count = frequencies * (2 if kind in ("trigonometric", "hyperbolic") else 1)
        anchors = {"reference_anchor": mu, "target_anchor": nu}
        how = {"temperature": tau, "orthogonal": orthogonal, "dtype": x.dtype} | anchors
        fmap = rf.make_feature_map(key, x.shape[1], count, kind=kind, **how)
        return rf.kernel_estimate(*both(fmap, x, y, kind)) / jnp.exp(x @ y.T / tau)

    split = jax.random.split(jax.random.key(0), keys)
    return {kind: jax.vmap(functools.partial(one, kind=kind))(split) for kind in KINDS}


def ratios(x, y, tau=1.0, anchors=ORIGIN, *, frequencies=FREQUENCIES, keys=40_000, orthogonal=True):
    """Estimates over the exact kernel, ``[keys, n, p]`` for each kind; one program for most of the tests."""
    found = _ratios(x, y, tau, *map(jnp.asarray, anchors), frequencies, keys, orthogonal)
    return jax.tree.map(np.asarray, found)


def assert_mean(samples, expected):
    """Within five standard errors: 1 chance in 10^6, for each of the few hundred means of this file."""
    error = np.std(samples, axis=0) / len(samples) ** 0.5
    np.testing.assert_array_less(np.abs(np.mean(samples, axis=0) - expected), 5 * error + 1e-12)


@pytest.mark.parametrize("orthogonal", mostly_slow([False, True], True))
def test_unbiased(vectors, orthogonal):
    for ratio in ratios(*vectors, orthogonal=orthogonal).values():
        assert_mean(ratio, 1)


def test_centring_does_not_bias_and_reduces_the_error_of_clusters(clusters):
    x, y, anchors = clusters
    plain, centred = ratios(x, y), ratios(x, y, 1.0, anchors)
    for kind in KINDS:
        assert_mean(centred[kind], 1)
        # By the closed forms, 5 times and more here.
        assert np.mean((centred[kind] - 1) ** 2) < np.mean((plain[kind] - 1) ** 2) / 3, kind


def test_exact_at_the_anchors(x64):
    """No residuals, no randomness; the optimal kind knows from the anchors and takes A = 0."""
    mu, nu = (jnp.asarray(v) for v in unit(np.random.default_rng(2), 2, DIM))
    for ratio in ratios(*(jnp.tile(v[None], (5, 1)) for v in (mu, nu)), 0.01, (mu, nu)).values():
        np.testing.assert_allclose(ratio, 1, rtol=1e-12)


def relative_variance(kind, x, y, tau, A):
    """The closed forms for independent frequencies."""
    apart, joint = (((x[:, None] + sign * y[None]) ** 2).sum(-1) / tau for sign in (-1, 1))
    u = 1 - 8 * A
    return {
        "trigonometric": 2 * np.sinh(apart / 2) ** 2,
        "positive": np.expm1(joint),
        "hyperbolic": 2 * np.sinh(joint / 2) ** 2,
        "optimal": ((1 - 4 * A) ** 2 / u) ** (DIM / 2) * np.exp(joint / u) - 1,
    }[kind] / FREQUENCIES


@pytest.mark.parametrize("centred", [False, True])
def test_variance_is_the_closed_form(clusters, centred):
    x, y, anchors = clusters
    tau = 2.0  # hot: the variance of a variance is a fourth moment, of e^z again
    anchors = anchors if centred else ORIGIN
    residuals = [np.asarray(v) - np.asarray(a) for v, a in zip((x, y), anchors, strict=True)]
    mean_square = (2 - sum(float(a @ a) for a in anchors)) / tau
    A = float(rf.optimal_shape(jnp.asarray(mean_square), DIM))
    for kind, ratio in ratios(x, y, tau, anchors, orthogonal=False).items():
        assert_mean((ratio - 1) ** 2, relative_variance(kind, *residuals, tau, A))


def test_orthogonal_frequencies_reduce_the_variance_of_positive_features(clusters):
    (x, y, _), tau = clusters, 2.0
    closed = relative_variance("positive", np.asarray(x), np.asarray(y), tau, 0.0)
    # Pairs of one draw share its frequencies: one number a draw.
    shares = ((ratios(x, y, tau)["positive"] - 1) ** 2 / closed[None]).mean((1, 2))
    assert shares.mean() < 1 - 5 * shares.std() / len(shares) ** 0.5


def test_error_falls_with_the_root_of_the_count(vectors):
    # Whole blocks of orthogonal frequencies, which are independent of each other.
    few, many = ratios(*vectors, 2.0), ratios(*vectors, 2.0, frequencies=16 * FREQUENCIES, keys=1000)
    for kind in KINDS:
        slope = np.log(np.mean((many[kind] - 1) ** 2) / np.mean((few[kind] - 1) ** 2)) / 2 / np.log(16)
        # 1000 draws give an error to some 5 %, as neighbouring pairs err alike: 0.02 of slope.
        np.testing.assert_allclose(slope, -0.5, atol=0.06, err_msg=kind)


@pytest.mark.parametrize("count", [3, 3 * DIM - 1])
def test_blocks_are_orthogonal(count):
    w = np.asarray(rf.draw_frequencies(jax.random.key(0), count, DIM))
    assert w.shape == (count, DIM)
    for block in (w[i : i + DIM] for i in range(0, count, DIM)):
        gram = block @ block.T
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-5)
    assert len(np.unique(w)) == w.size


@pytest.mark.parametrize("orthogonal", [False, True])
def test_every_frequency_is_gaussian(orthogonal):
    draw = functools.partial(rf.draw_frequencies, count_frequencies=5, dim=DIM, orthogonal=orthogonal)
    w = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(1), 5000)))
    lengths = np.linalg.norm(w, axis=-1)
    for row in range(5):
        assert stats.kstest(lengths[:, row], stats.chi(DIM).cdf).pvalue > 1e-4
        for entry in range(DIM):
            assert stats.kstest(w[:, row, entry], "norm").pvalue > 1e-4
    # Lengths within a block are independent of one another.
    np.testing.assert_allclose(np.corrcoef(lengths.T), np.eye(5), atol=5 / 5000**0.5)


@pytest.mark.parametrize("dim", [3, 768])
@pytest.mark.parametrize("mean_square", [1e-3, 2.0, 200.0])
def test_optimal_shape_is_the_minimum(dim, mean_square, x64):
    def objective(log_u):  # u = 1 - 8A
        A = (1 - np.exp(log_u)) / 8
        return dim / 2 * (2 * np.log1p(-4 * A) - log_u) + mean_square * np.exp(-log_u)

    best = minimize_scalar(objective, bounds=(-2, 8), method="bounded", options={"xatol": 1e-9})
    ours = rf.optimal_shape(jnp.asarray(mean_square), dim)
    # A search sees a minimum to the root of the precision only, here in log u.
    np.testing.assert_allclose(np.log1p(-8 * ours), best.x, atol=1e-6)


def test_optimal_shape_at_zero_and_beside_it():
    zero, slope = jax.value_and_grad(rf.optimal_shape)(jnp.zeros(()), 8)
    assert zero == 0
    np.testing.assert_allclose(slope, -1 / 16, rtol=1e-6)  # A = -z/(2d)


def test_optimal_shape_of_a_map():
    make = functools.partial(rf.make_feature_map, jax.random.key(3), DIM, 7, orthogonal=False)
    zero = make(kind="optimal", temperature=0.3, mean_square=0.0)
    jax.tree.map(np.testing.assert_array_equal, zero, make(kind="positive", temperature=0.3))
    default = make(kind="optimal", temperature=0.5)
    np.testing.assert_allclose(default.shape, rf.optimal_shape(jnp.asarray(4.0), DIM), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0])  # of the anchors
@pytest.mark.parametrize("kind", KINDS)
def test_no_overflow_at_low_temperature(kind, scale):
    rng = np.random.default_rng(4)
    x, y = (jnp.asarray(unit(rng, n, 64), jnp.float32) for n in (20, 30))
    y = y.at[0].set(x[0]).at[1].set(-x[0])
    fmap = map_of(kind, 64, 256, 0.01, (x.mean(0) * scale, y.mean(0) * scale), jnp.float32)
    features = both(fmap, x, y, kind)
    for side in features:
        assert side.log_amplitude.dtype == side.values.dtype == jnp.float32
        assert np.isfinite(side.log_amplitude).all() and np.isfinite(side.values).all()
        if kind == "trigonometric":
            np.testing.assert_allclose(np.linalg.norm(side.values, axis=1), 1, rtol=1e-6)
        else:
            assert np.min(side.values) >= 0
    assert (np.asarray(log_kernel(*features)) < np.inf).all()  # and none is NaN
    with jax.enable_x64(True):
        exact = both(fmap, np.asarray(x, np.float64), np.asarray(y, np.float64), kind)
    for a, b in zip(features, exact, strict=True):
        assert b.values.dtype == jnp.float64
        # Exponents reach 200 and are sums of rounded numbers of that size: some 1e-5 each, of 64 terms.
        np.testing.assert_allclose(a.log_amplitude, b.log_amplitude, rtol=1e-5, atol=2e-4)
        np.testing.assert_allclose(a.values, b.values, atol=2e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "trigonometric"])
def test_the_largest_feature_is_one(kind, optimised):
    rng = np.random.default_rng(4)
    x, y = (jnp.asarray(unit(rng, n, 64), jnp.float32) for n in (20, 30))
    fmap = map_of(kind, 64, 256, 0.01, (x.mean(0), y.mean(0)), jnp.float32)
    for side in both(fmap, x, y, kind):
        assert (np.max(side.values, axis=1) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_log_kernel_is_the_log_of_the_estimate(vectors, kind):
    fmap = map_of(kind, DIM, 4, 0.3)
    features = (a, v), (b, u) = jax.tree.map(np.asarray, both(fmap, *vectors, kind))
    estimate, log = np.asarray(kernel_estimate(*features)), np.asarray(log_kernel(*features))
    np.testing.assert_allclose(estimate, (np.exp(a)[:, None] * v) @ (np.exp(b)[:, None] * u).T, rtol=1e-12)
    positive = estimate > 0
    assert positive.all() == (kind != "trigonometric")  # this draw shows both signs
    np.testing.assert_allclose(log[positive], np.log(estimate[positive]), rtol=1e-12, atol=1e-12)
    assert np.isneginf(log[~positive]).all()
    slope = jax.grad(lambda z: jnp.exp(rf.log_kernel(features[0], rf.LogFeatures(b, z))).sum())(0 * u)
    assert (np.asarray(slope) == 0).all()  # where nothing is left of the estimate


@pytest.mark.parametrize("kind", ["trigonometric", "hyperbolic"])
def test_the_sign_of_a_frequency_does_not_matter(vectors, kind):
    fmap = map_of(kind, DIM, 4, 0.5)
    turned = fmap._replace(frequencies=-fmap.frequencies)
    a, b = (kernel_estimate(*both(m, *vectors, kind)) for m in (fmap, turned))
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_gradient_agrees_with_differences(clusters):
    x, y, anchors = clusters
    maps = {kind: map_of(kind, DIM, 6, 1.5, anchors) for kind in KINDS}
    grades = jnp.arange(25.0).reshape(5, 5) / 25

    def loss(kind, fmap, x, y):
        features = both(fmap, x, y, kind)
        log = rf.log_kernel(*features)
        finite = jnp.where(jnp.isfinite(log), log, jnp.zeros_like(log))
        return jnp.sum(grades * (rf.kernel_estimate(*features) + finite))

    losses = jax.jit(lambda maps, x, y: jnp.stack([loss(k, m, x, y) for k, m in maps.items()]))
    check_grads(losses, (maps, x, y), order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_cast_before_the_exponentials(pair, dtype):
    fmap = map_of("hyperbolic", 5, 8, 1.0, dtype=jnp.float32)
    low = both(fmap, *(v.astype(dtype) for v in pair), "hyperbolic")
    wide = both(fmap, *(v.astype(dtype).astype(jnp.float32) for v in pair), "hyperbolic")
    assert low[0].values.dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, low, wide)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": 7}, "count is 7; expected an even number of hyperbolic features, at least 2"),
        ({"count": 0, "kind": "positive"}, "count is 0; expected a number of positive features, at least 1"),
        ({"kind": "rff"}, "kind is 'rff'; expected one of trigonometric, positive, hyperbolic, optimal"),
        ({"temperature": 0.0}, "temperature is 0.0; expected a finite number greater than 0"),
        ({"temperature": jnp.ones(2)}, r"temperature has shape \[2\]; expected \[\]"),
        ({"reference_anchor": jnp.ones(3)}, r"reference_anchor has shape \[3\]; expected \[4\]"),
        ({"target_anchor": jnp.ones((1, 4))}, r"target_anchor has shape \[1, 4\]; expected \[4\]"),
        ({"kind": "optimal", "mean_square": -1.0}, "mean_square is -1.0; expected a finite number"),
        ({"dtype": jnp.bfloat16}, "dtype is bfloat16; expected float32 or float64"),
        ({"dim": 0}, "4 frequencies of 0 dimensions asked for; expected at least 1 of each"),
    ],
)
def test_bad_maps(change, sentence):
    arguments = {"dim": 4, "count": 8, "kind": "hyperbolic", "temperature": 0.1} | change
    with pytest.raises(InputError, match=sentence):
        rf.make_feature_map(jax.random.key(0), **arguments)


@pytest.mark.parametrize(("side", "name"), [(rf.reference_features, "x"), (rf.target_features, "y")])
def test_bad_vectors(side, name):
    fmap = map_of("positive", 4, 8, 0.1, dtype=jnp.float32)
    with pytest.raises(InputError, match=rf"{name} has shape \[2, 3\]; expected \[any, 4\]"):
        side(fmap, jnp.ones((2, 3)), kind="positive")
    with pytest.raises(InputError, match="kind is 'favor'; expected one of trigonometric, positive"):
        side(fmap, jnp.ones((2, 4)), kind="favor")
