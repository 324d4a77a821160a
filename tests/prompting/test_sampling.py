from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import sample_multinomial, sample_top_k

P = np.array([0.5, 0.3, 0.15, 0.05], np.float32)
LOG_P = jnp.log(P)


def draw_many(count, n, **options):
    keys = jax.random.split(jax.random.key(0), count)
    draw = jax.jit(jax.vmap(lambda key: sample_multinomial(LOG_P, n, key=key, **options)))
    return np.asarray(draw(keys).indices)


def test_without_replacement_is_sequential_sampling():
    pairs = draw_many(40_000, 2)
    for first, second in itertools.permutations(range(4), 2):
        expected = float(P[first] * P[second] / (1 - P[first]))
        found = np.mean((pairs[:, 0] == first) & (pairs[:, 1] == second))
        # Four standard deviations of a frequency.
        assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 40_000))


def test_with_replacement_frequencies():
    drawn = draw_many(10_000, 3, replace=True)
    for position in range(3):
        found = np.bincount(drawn[:, position], minlength=4) / 10_000
        np.testing.assert_allclose(found, P, atol=0.02)
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_never_twice_never_masked_never_impossible(n):
    log_p = jnp.log(jnp.array([0.4, 0.0, 0.3, 0.2, 0.1]))
    valid = jnp.array([True, True, True, False, True])
    for seed in range(20):
        got = sample_multinomial(log_p, n, key=jax.random.key(seed), valid=valid)
        assert got.indices.shape == got.valid.shape == got.log_probability.shape == (n,)
        assert got.indices.dtype == jnp.int32
        expected = min(n, 3)
        assert np.array_equal(got.valid, np.arange(n) < expected)
        chosen = np.asarray(got.indices)[:expected]
        assert len(set(chosen)) == expected and set(chosen) <= {0, 2, 4}
        np.testing.assert_array_equal(got.log_probability[:expected], log_p[chosen])
        assert (got.indices[expected:] == 0).all() and (got.log_probability[expected:] == -jnp.inf).all()


@pytest.mark.parametrize("replace", [False, True])
def test_nothing_to_draw(replace):
    got = sample_multinomial(LOG_P, 3, key=jax.random.key(0), replace=replace, valid=jnp.zeros(4, bool))
    assert not got.valid.any() and not got.indices.any()


def test_shift_and_padding_change_nothing():
    key = jax.random.key(3)
    one = sample_multinomial(LOG_P, 3, key=key)
    shifted = sample_multinomial(LOG_P + 7, 3, key=key)
    padded = sample_multinomial(jnp.pad(LOG_P, (0, 9)), 3, key=key, valid=jnp.arange(13) < 4)
    np.testing.assert_array_equal(one.indices, shifted.indices)
    np.testing.assert_array_equal(one.indices, padded.indices)


def greedy(values, n, radius, log_drop):
    """The definition, in loops over Python lists."""
    left = {(r, c): v for (r, c), v in np.ndenumerate(values) if v > -np.inf and v >= values.max() - log_drop}
    picks = []
    while left and len(picks) < n:
        best = max(left, key=lambda rc: (left[rc], -rc[0] * values.shape[1] - rc[1]))
        picks.append(best[0] * values.shape[1] + best[1])
        left = {rc: v for rc, v in left.items() if np.hypot(rc[0] - best[0], rc[1] - best[1]) > radius}
    return picks


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    levels=st.sampled_from([3, 1000]),  # 3: many ties
    radius=st.sampled_from([0.0, 0.9, 1.0, 2**0.5, 2.5, 13**0.5, 100.0, float("inf")]),
    log_drop=st.sampled_from([0.0, 0.5, float("inf")]),
)
def test_top_k_equals_its_definition(seed, levels, radius, log_drop):
    values = np.random.default_rng(seed).integers(0, levels, (5, 7)).astype(np.float32) / levels
    values[0, 3] = -np.inf
    got = sample_top_k(jnp.asarray(values), 6, radius=radius, log_drop=log_drop)
    expected = greedy(values, 6, radius + 1e-9, log_drop)
    assert np.asarray(got.indices)[np.asarray(got.valid)].tolist() == expected
    assert int(got.valid.sum()) == len(expected)
    np.testing.assert_array_equal(got.log_probability[: len(expected)], values.ravel()[expected])


def test_top_k_respects_the_mask_and_traces():
    values = jnp.arange(12.0).reshape(3, 4)
    valid = values < 6
    take = jax.jit(lambda v, m: sample_top_k(v, 3, radius=1, valid=m))
    got = take(values, valid)
    np.testing.assert_array_equal(got.indices, [5, 3, 0])
    assert not take(values, jnp.zeros_like(valid)).valid.any()
    both = jax.vmap(take)(jnp.stack([values, -values]), jnp.stack([valid, valid]))
    np.testing.assert_array_equal(both.indices[0], got.indices)
    np.testing.assert_array_equal(both.indices[1], take(-values, valid).indices)


def test_errors():
    with pytest.raises(InputError, match="n is 0"):
        sample_multinomial(LOG_P, 0, key=jax.random.key(0))
    with pytest.raises(InputError, match="axes"):
        sample_multinomial(LOG_P[None], 1, key=jax.random.key(0))
    with pytest.raises(InputError, match="valid"):
        sample_multinomial(LOG_P, 1, key=jax.random.key(0), valid=jnp.ones(3, bool))
    with pytest.raises(InputError, match="axes"):
        sample_top_k(LOG_P, 1, radius=1)
    with pytest.raises(InputError, match="radius is -1"):
        sample_top_k(LOG_P[None], 1, radius=-1)
    with pytest.raises(InputError, match="log_drop is nan"):
        sample_top_k(LOG_P[None], 1, radius=1, log_drop=float("nan"))
