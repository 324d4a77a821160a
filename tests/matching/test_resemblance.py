from __future__ import annotations

import jax
import jax.numpy as jnp
import matching_oracles as oracles
import numpy as np
import pytest
from jax.test_util import check_grads

from softmatch_jax import matching
from softmatch_jax._checks import InputError

resemblance, squared_mmd = jax.jit(matching.resemblance), jax.jit(matching.squared_mmd)

A = jnp.asarray([0.0, 1.0, 0.2, 0.0, 3.0, 0.5, 0.5, 2.0, 0.1])
B = jnp.arange(13.0)


def cone(seed, axis, count=40):
    """Directions about one axis."""
    directions = np.random.default_rng(seed).normal(size=(count, 4)) * 0.2 + 2 * np.eye(4)[axis]
    return jnp.asarray(directions, jnp.float32)


def expected_mmd(x, y, temperature, a, b):
    def mean_kernel(u, v, p, q):
        kernel = np.exp((oracles.cosines(u, v) - 1) / temperature)
        return oracles.shares_of(p, len(u)) @ kernel @ oracles.shares_of(q, len(v))

    return mean_kernel(x, x, a, a) + mean_kernel(y, y, b, b) - 2 * mean_kernel(x, y, a, b)


@pytest.mark.parametrize("weights", [(None, None), (A, B)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_mmd_is_its_definition_and_symmetric(pair, weights, temperature):
    x, y = pair
    a, b = weights
    actual = squared_mmd(x, y, temperature=temperature, x_weights=a, y_weights=b)
    np.testing.assert_allclose(actual, expected_mmd(x, y, temperature, a, b), rtol=1e-4)
    swapped = squared_mmd(y, x, temperature=temperature, x_weights=b, y_weights=a)
    np.testing.assert_allclose(actual, swapped, rtol=1e-5)
    assert actual > 0


def test_mmd_of_a_distribution_with_itself_is_zero(pair):
    x, _ = pair
    twice = jnp.concatenate([x, 3 * x])  # the same distribution in other words
    np.testing.assert_allclose(squared_mmd(x, twice, temperature=0.2), 0, atol=1e-6)
    halved = squared_mmd(x, twice, temperature=0.2, x_weights=A, y_weights=jnp.concatenate([A, A]))
    np.testing.assert_allclose(halved, 0, atol=1e-6)


def test_padding_of_weight_zero_changes_nothing(pair):
    x, y = pair
    plain = squared_mmd(x, y, temperature=0.2, x_weights=A, y_weights=B)
    padded = squared_mmd(
        jnp.concatenate([x, y]),
        jnp.concatenate([y, jnp.zeros((3, 5))]),
        temperature=0.2,
        x_weights=jnp.concatenate([A, jnp.zeros(13)]),
        y_weights=jnp.concatenate([B, jnp.zeros(3)]),
    )
    np.testing.assert_allclose(padded, plain, rtol=1e-5)


def test_one_when_the_object_is_found():
    assert resemblance(cone(0, 0), cone(0, 0), cone(1, 1)) == 1
    assert resemblance(cone(0, 0), cone(2, 0), cone(1, 1)) > 0.9


def test_zero_when_the_find_is_more_surroundings():
    np.testing.assert_allclose(resemblance(cone(0, 0), cone(1, 1), cone(1, 1)), 0, atol=1e-6)
    assert abs(resemblance(cone(0, 0), cone(2, 1), cone(1, 1))) < 0.1


def test_negative_when_the_find_is_farther_than_the_surroundings():
    near = cone(0, 0) + cone(1, 1)
    assert resemblance(cone(0, 0), -cone(2, 0), near) < -0.5


def test_falls_as_the_find_is_diluted():
    mixed = [
        resemblance(
            cone(0, 0),
            jnp.concatenate([cone(2, 0), cone(3, 1)]),
            cone(1, 1),
            found_weights=jnp.repeat(jnp.asarray([1 - share, share]), 40),
        )
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert np.all(np.diff(mixed) < 0)


def test_an_object_that_fills_its_picture_divides_no_rounding_by_rounding():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 30)), jnp.float32)
    for found in (jnp.concatenate([x, x]), x[::-1], jnp.roll(x, 7, axis=0)):
        same = resemblance(x, found, x[::-1])
        np.testing.assert_allclose(same, 1, atol=0.5)  # a few times 6e-8 over the floor of 1e-6


def test_weights_select_patches(pair):
    x, y = pair
    everything = jnp.concatenate([x, y])
    marked = jnp.concatenate([jnp.ones(9), jnp.zeros(13)])
    picked = resemblance(
        everything,
        everything,
        everything,
        reference_weights=marked,
        found_weights=marked.at[:4].set(0),
        surroundings_weights=1 - marked,
    )
    np.testing.assert_allclose(picked, resemblance(x, x[4:], y), rtol=1e-4)


def test_gradient_agrees_with_differences(pair, x64):
    f, g = (x.astype(jnp.float64) for x in pair)
    check_grads(jax.jit(lambda x, y: resemblance(x, y, -x)), (f, g), order=1, modes=["rev"])


def test_weights_of_another_length(pair):
    for side, count in (("x", 9), ("y", 13)):
        with pytest.raises(InputError, match=rf"{side}_weights has shape \[1\]; expected \[{count}\]"):
            squared_mmd(*pair, temperature=1.0, **{f"{side}_weights": jnp.ones(1)})
    with pytest.raises(InputError, match="x features have 5 dimensions and y features 4"):
        resemblance(pair[0], pair[1][:, :4], pair[1])
