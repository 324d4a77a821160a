from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.matching import (
    arithmetic_contrast,
    arithmetic_mean,
    geometric_contrast,
    geometric_mean,
    geometric_mean_dense,
    log_density,
    squared_mmd,
    unit_norm,
    weighted_mean,
)

NINE, ONE_SHORT = jnp.ones(9), jnp.ones(8)
MEANS = [geometric_mean, arithmetic_mean, geometric_mean_dense, log_density]
CONTRASTS = [geometric_contrast, arithmetic_contrast]


def test_unit_norm_has_length_one_and_keeps_direction(pair):
    unit = np.asarray(unit_norm(pair[0]))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(pair[0], axis=1, keepdims=True), pair[0], rtol=1e-5)


def test_zero_vector_stays_zero_with_finite_gradient():
    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(unit_norm(zero), zero)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(unit_norm(x)))(zero), zero + 1)


def test_weighted_mean_ignores_the_scale_of_weights(pair):
    weights = jnp.arange(9.0)
    np.testing.assert_allclose(
        weighted_mean(pair[0], weights), weighted_mean(pair[0], 7 * weights), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(weighted_mean(pair[0], jnp.zeros(9)), np.zeros(5))


@pytest.mark.parametrize("match", [*MEANS, squared_mmd])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), jnp.float32(-1)])
def test_temperature_not_positive(match, temperature, pair):
    with pytest.raises(InputError, match=r"temperature is .*; expected a finite number greater than 0"):
        match(*pair, temperature=temperature)


@pytest.mark.parametrize("match", [*MEANS, squared_mmd])
def test_features_that_do_not_fit(match, pair):
    reference, target = pair
    with pytest.raises(InputError, match=r"features have 5 dimensions and .* features 4; expected the same"):
        match(reference, target[:, :4], temperature=1.0)
    with pytest.raises(InputError, match=r"shape \(5,\); expected 2 axes \[patches, d\]"):
        match(reference[0], target, temperature=1.0)
    with pytest.raises(InputError, match=r"shape \(1, 13, 5\); expected 2 axes"):
        match(reference, target[None], temperature=1.0)
    with pytest.raises(InputError, match="has no patches"):
        match(reference[:0], target, temperature=1.0)


@pytest.mark.parametrize("match", MEANS)
def test_weights_of_another_length(match, pair):
    with pytest.raises(InputError, match=r"weights has shape \[8\]; expected \[9\], one per patch"):
        match(*pair, temperature=1.0, weights=ONE_SHORT)
    # Length one would broadcast without a word.
    with pytest.raises(InputError, match=r"weights has shape \[1\]; expected \[9\]"):
        match(*pair, temperature=1.0, weights=jnp.ones(1))


@pytest.mark.parametrize("match", CONTRASTS)
def test_contrast_weights_and_share(match, pair):
    with pytest.raises(InputError, match=r"foreground has shape \[8\]"):
        match(*pair, temperature=1.0, foreground=ONE_SHORT, background=NINE)
    with pytest.raises(InputError, match=r"background has shape \[8\]"):
        match(*pair, temperature=1.0, foreground=NINE, background=ONE_SHORT)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"target_share is .*; expected a number in \[0, 1\]"):
            match(*pair, temperature=1.0, foreground=NINE, background=NINE, target_share=share)


@pytest.mark.parametrize("match", [geometric_mean, arithmetic_mean])
def test_valid_of_another_length(match, pair):
    with pytest.raises(InputError, match=r"valid has shape \[1\]; expected \[13\]"):
        match(*pair, temperature=1.0, valid=jnp.ones(1, bool))


def test_traced_temperature_is_accepted(pair):
    warm = jax.jit(lambda tau: geometric_mean(*pair, temperature=tau).score)
    np.testing.assert_allclose(warm(0.5), geometric_mean(*pair, temperature=0.5).score, rtol=1e-5, atol=1e-6)
