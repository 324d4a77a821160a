from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax._checks import InputError
from softmatch_jax.matching import Moments

moments, whiten = jax.jit(matching.moments), jax.jit(matching.whiten)
whitening = jax.jit(matching.whitening, static_argnames="shrinkage")

RNG = np.random.default_rng(3)
MIXED = RNG.normal(size=(60, 6)) @ RNG.normal(size=(6, 6)) + 0.5
WEIGHTS = RNG.uniform(0.1, 1, 60)


def cosines(features, weights, shrinkage):
    features, weights = jnp.asarray(features), jnp.asarray(weights)
    unit = whiten(whitening(moments(features, weights), shrinkage=shrinkage), features)
    return np.asarray(unit @ unit.T)


def test_moments_are_sums():
    m = moments(jnp.asarray(MIXED, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32))
    np.testing.assert_allclose(m.weight, WEIGHTS.sum(), rtol=1e-6)
    np.testing.assert_allclose(m.total, WEIGHTS @ MIXED, rtol=1e-5)
    np.testing.assert_allclose(m.outer, (MIXED * WEIGHTS[:, None]).T @ MIXED, rtol=1e-5, atol=1e-4)


def test_moments_add_and_subtract(x64):
    def part(rows):
        return moments(jnp.asarray(MIXED[rows]), jnp.asarray(WEIGHTS[rows]))

    whole, first, second = part(slice(None)), part(slice(25)), part(slice(25, None))
    for a, b, c in zip(whole, first, second, strict=True):
        np.testing.assert_allclose(a, b + c, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a - b, c, rtol=1e-12, atol=1e-12)


def test_patches_of_weight_zero_are_left_out():
    features, weights = jnp.asarray(MIXED, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32)
    padded = moments(
        jnp.concatenate([features, jnp.full((9, 6), 50.0)]), jnp.concatenate([weights, jnp.zeros(9)])
    )
    for a, b in zip(padded, moments(features, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for nothing in moments(features, jnp.zeros(60)):
        assert not np.any(nothing)


def test_pooled_covariance_becomes_the_identity(x64):
    features, weights = jnp.asarray(MIXED), jnp.asarray(WEIGHTS)
    transform = whitening(moments(features, weights), shrinkage=1e-12)
    white = np.linalg.solve(transform.factor, (MIXED - np.asarray(transform.mean)).T)
    np.testing.assert_allclose((white * WEIGHTS) @ white.T / WEIGHTS.sum(), np.eye(6), atol=1e-6)
    np.testing.assert_allclose(white @ WEIGHTS / WEIGHTS.sum(), 0, atol=1e-9)
    unit = white / np.linalg.norm(white, axis=0)
    np.testing.assert_allclose(whiten(transform, features), unit.T, atol=1e-9)


def test_cosines_do_not_see_an_affine_change_of_channels(x64):
    mixing = np.random.default_rng(4).normal(size=(6, 6))
    assert np.linalg.cond(mixing) < 100
    changed = MIXED @ mixing + np.arange(6)
    np.testing.assert_allclose(
        cosines(changed, WEIGHTS, 1e-12), cosines(MIXED, WEIGHTS, 1e-12), atol=1e-5
    )  # of the order of shrinkage times the square of the condition number


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_cosines_do_not_see_channels_rescaled(x64, shrinkage):
    rescaled = MIXED * np.array([1e-3, 1, 50, -2, 0.1, 7]) + np.arange(6)
    np.testing.assert_allclose(
        cosines(rescaled, WEIGHTS, shrinkage), cosines(MIXED, WEIGHTS, shrinkage), atol=1e-6
    )


def test_full_shrinkage_only_rescales(x64):
    features, weights = jnp.asarray(MIXED), jnp.asarray(WEIGHTS)
    factor = whitening(moments(features, weights), shrinkage=1.0).factor
    mean = WEIGHTS @ MIXED / WEIGHTS.sum()
    deviation = np.sqrt(WEIGHTS @ (MIXED - mean) ** 2 / WEIGHTS.sum())
    np.testing.assert_allclose(factor, np.diag(deviation), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("count", mostly_slow([1, 200, 12544], 1))
@pytest.mark.parametrize("varying", [0, 4])
def test_constant_channels_are_harmless(count, varying):
    """A blank picture: in float32 the variance of a constant is rounding, and may be negative."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        constant = np.tile(rng.uniform(-2, 2, (1, 30)), (count, 1))
        features = np.concatenate(
            [np.zeros((count, 2)), constant, rng.normal(size=(count, varying)) * 0.03], 1
        )
        features = jnp.asarray(features, jnp.float32)
        first = moments(features, jnp.asarray(rng.random(count) + 0.01, jnp.float32))
        second = moments(features, jnp.full(count, 1 / count))
        transform = whitening(jax.tree.map(jnp.add, first, second), shrinkage=0.1)
        assert np.isfinite(transform.factor).all() and np.isfinite(whiten(transform, features)).all()


def test_constant_channels_have_no_say():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(300, 4)).astype(np.float32)
    wider = np.concatenate([features, np.tile(rng.uniform(1, 2, (1, 3)), (300, 1))], 1).astype(np.float32)
    weights = np.ones(300, np.float32)
    # A constant is known to an ulp, 1e-7, and is divided by the floor's root, 1e-3.
    np.testing.assert_allclose(cosines(wider, weights, 0.1), cosines(features, weights, 0.1), atol=1e-3)


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, 1.1, float("nan")])
def test_shrinkage_out_of_range(shrinkage):
    statistics = Moments(jnp.ones(()), jnp.ones(2), jnp.eye(2))
    with pytest.raises(InputError, match=r"shrinkage is .*; expected a number in \(0, 1\]"):
        whitening(statistics, shrinkage=shrinkage)


def test_moments_of_what_does_not_fit():
    with pytest.raises(InputError, match=r"features has shape \(2, 3, 4\); expected 2 axes"):
        moments(jnp.ones((2, 3, 4)), jnp.ones(2))
    with pytest.raises(InputError, match=r"weights has shape \[1\]; expected \[3\], one per patch"):
        moments(jnp.ones((3, 4)), jnp.ones(1))
