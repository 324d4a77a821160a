from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from softmatch_jax._checks import InputError
from softmatch_jax.studies.config import IntervalSettings
from softmatch_jax.studies.resampling import Estimate, Resampling, correlation


def draws_of(classes, targets, **changes) -> Resampling:
    return Resampling(classes, targets, IntervalSettings(replicates=1000, **changes), seed=0)


def test_weights_keep_the_size_of_each_class():
    draws = draws_of(["a"] * 5 + ["b"] * 3, [f"t{i}" for i in range(8)])
    assert (draws.weights[0] == 1).all()
    assert draws.weights[:, :5].sum(axis=1) == pytest.approx(5)
    assert draws.weights[:, 5:].sum(axis=1) == pytest.approx(3)
    assert draws.weights[1:].std(axis=0).min() > 0.5


def test_episodes_of_one_picture_move_together():
    draws = draws_of(["a"] * 6, ["x", "x", "y", "y", "z", "x"])
    assert (draws.weights[:, 0] == draws.weights[:, 1]).all()
    assert (draws.weights[:, 0] == draws.weights[:, 5]).all()
    assert (draws.weights[:, 0] != draws.weights[:, 2]).any()


def test_a_class_of_one_picture_does_not_pretend_to_know():
    draws = draws_of(["a", "b", "c", "d"], ["t"] * 4)
    estimate = draws.mean(np.array([0.1, 0.5, 0.3, 0.9]))
    assert estimate.high - estimate.low > 0.2


def test_a_single_picture_has_no_interval():
    estimate = draws_of(["a", "a"], ["t", "t"]).mean(np.array([1.0, 3.0]))
    assert estimate.value == 2
    assert np.isnan(estimate.low) and np.isnan(estimate.high) and estimate.sign == 0


def test_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(1).normal(3, 2, 200)
    estimate = draws_of(["a"] * 200, [str(i) for i in range(200)]).mean(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.1)
    assert (estimate.high + estimate.low) / 2 == pytest.approx(values.mean(), abs=0.2 * half)


def test_differences_are_paired():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 1, 100)
    a, b = hard, hard + 0.1 + rng.normal(0, 0.01, 100)
    draws = draws_of(["a"] * 100, [str(i) for i in range(100)])
    assert draws.mean(b - a).sign == 1
    assert draws.mean(a - b).sign == -1
    assert draws.mean(a - a) == Estimate(0, 0, 0)
    assert draws.mean(a).sign == 0


def test_correlation_is_pearsons():
    rng = np.random.default_rng(3)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    ones = np.ones((1, 50))
    assert correlation(ones, x, y)[0] == pytest.approx(pearsonr(x, y).statistic)
    twice = np.repeat([[1.0, 2.0]], 25, axis=0).reshape(1, 50)
    again = np.repeat(np.arange(50), twice[0].astype(int))
    assert correlation(twice, x, y)[0] == pytest.approx(pearsonr(x[again], y[again]).statistic)
    assert np.isnan(correlation(ones, np.full(50, 0.1), y)[0])


def test_an_interval_stays_in_bounds():
    draws, values = draws_of(["a"] * 6, list("uvwxyz")), np.array([0.0, 0, 0.5, 0.9, 1, 1])
    free = draws.mean(values)
    narrow = draws.estimate(draws.weights @ values / 6, least=free.low + 0.1, most=free.high - 0.1)
    assert tuple(narrow) == pytest.approx((free.value, free.low + 0.1, free.high - 0.1))
    assert draws.mean_share(np.ones(6)) == Estimate(1, 1, 1)


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"replicates": 0}])
def test_bad_settings(wrong):
    with pytest.raises(InputError, match="expected"):
        IntervalSettings(**wrong)
