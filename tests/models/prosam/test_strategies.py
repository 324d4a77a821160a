"""Merging the masks of sampled prompts: against votes counted by hand, and the laws of disagreement."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.models.prosam.strategies import Strategy, disagreement, merge_samples
from softmatch_jax.pipelines import prosam_config

RULES = {
    "max_logits": lambda x: x.max(axis=0) > 0,
    "mean_logits": lambda x: x.mean(axis=0) > 0,
    "max_binary": lambda x: (x > 0).any(axis=0),
    "mean_binary": lambda x: (x > 0).mean(axis=0) >= 0.5,
    "majority": lambda x: (x > 0).sum(axis=0) > len(x) / 2,
}


def drawn(count, seed=0, shape=(9, 7)):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, *shape)) + rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("strategy", RULES)
def test_each_strategy_follows_its_rule(strategy, count):
    logits = drawn(count, seed=count)
    merged = merge_samples(jnp.asarray(logits), strategy)
    expected = RULES[strategy](logits)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(merged.mask, expected)
    np.testing.assert_array_equal(merged.logits > 0, expected)
    assert np.isfinite(merged.logits).all()


def test_ties_tell_the_mean_from_the_majority():
    logits = jnp.array([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
    assert merge_samples(logits, "mean_binary").mask.tolist() == [True, True, False]
    assert merge_samples(logits, "majority").mask.tolist() == [False, True, False]
    odd = jnp.asarray(drawn(5))
    np.testing.assert_array_equal(merge_samples(odd, "mean_binary").mask, merge_samples(odd, "majority").mask)


def test_masks_are_nested():
    logits = jnp.asarray(drawn(6))
    masks = [np.asarray(merge_samples(logits, s).mask) for s in ("majority", "mean_binary", "max_binary")]
    assert (masks[0] <= masks[1]).all() and (masks[1] <= masks[2]).all()
    np.testing.assert_array_equal(masks[2], merge_samples(logits, "max_logits").mask)


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_of_one_sample_every_strategy_is_its_mask(strategy):
    logits = jnp.asarray(drawn(1))
    np.testing.assert_array_equal(merge_samples(logits, strategy).mask, logits[0] > 0)


def test_the_order_of_samples_does_not_matter_and_all_can_be_traced():
    logits = jnp.asarray(drawn(4))
    for strategy in RULES:
        there = jax.jit(merge_samples, static_argnums=1)(logits, strategy)
        np.testing.assert_array_equal(there.mask, merge_samples(logits[::-1], strategy).mask)
    assert jax.jit(disagreement)(logits).value == pytest.approx(float(disagreement(logits[::-1]).value))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_disagreement_is_what_pairs_say(count):
    logits, inside = drawn(count, seed=3), np.ones((9, 7), bool)
    inside[7:], inside[:, 6:] = False, False
    found = disagreement(jnp.asarray(logits), jnp.asarray(inside))
    masks = (logits > 0) & inside
    overlaps = [(a & b).sum() / (a | b).sum() for a, b in combinations(masks, 2)]
    assert float(found.value) == pytest.approx(1 - np.mean(overlaps), abs=1e-6)
    share = masks.mean(axis=0)
    np.testing.assert_allclose(found.map, 4 * share * (1 - share), atol=1e-6)
    assert not np.asarray(found.map)[~inside].any()
    assert float(found.map.min()) >= 0 and float(found.map.max()) <= 1


def test_the_ends_of_disagreement():
    one = jnp.asarray(drawn(1))
    same = jnp.tile(one, (4, 1, 1))
    assert disagreement(one).value == disagreement(same).value == 0
    assert not disagreement(same).map.any()
    empty = -jnp.ones((3, 4, 4))
    assert disagreement(empty).value == 0
    apart = jnp.stack([jnp.ones((4, 4)), -jnp.ones((4, 4))])
    assert disagreement(apart).value == 1 and (disagreement(apart).map == 1).all()


@pytest.mark.parametrize("call", [lambda x: merge_samples(x, "majority"), disagreement])
def test_no_samples(call):
    with pytest.raises(InputError, match=r"samples \(K\) is 0; expected at least 1"):
        call(jnp.zeros((0, 3, 3)))


def test_bad_input():
    with pytest.raises(InputError, match="strategy is 'median'; expected 'mean', 'max_logits'"):
        merge_samples(jnp.zeros((2, 3, 3)), "median")
    with pytest.raises(InputError, match="'mean' got 2 samples"):
        merge_samples(jnp.zeros((2, 3, 3)), "mean")
    with pytest.raises(InputError, match="inside has shape"):
        disagreement(jnp.zeros((2, 3, 3)), jnp.ones((3, 4), bool))


def test_the_settings_name_the_same_strategies():
    assert get_args(prosam_config.Strategy) == get_args(Strategy)
