"""Draws and densities of prompts against SciPy."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats
from jax.test_util import check_grads
from slow_params import mostly_slow

from softmatch_jax import InputError
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.models.prosam.distribution import (
    PromptDistribution,
    degrees_of_freedom,
    excess_kurtosis,
    log_density,
    noise_ratio,
    sample,
    scale_factor,
)

SIZE = (3, 6)
DRAWS = 6000
SIGNIFICANT = 1e-4  # of tests with fixed keys, which a right sampler passes
DIMENSIONS, FREEDOMS, SHARINGS = ("prompt", "all", "element"), ("nu+n", "nu"), ("prompt", "sample", "element")
STUDENTS = [
    DistributionConfig(dimension=dimension, freedom=freedom, sharing=sharing)
    for dimension, freedom, sharing in itertools.product(DIMENSIONS, FREEDOMS, SHARINGS)
]
QUICK = [config for config in STUDENTS if config.dimension == "prompt" and config.sharing != "prompt"]


def predicted(size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    mean, log_sigma = 2 * rng.normal(size=size), 0.5 * rng.normal(size=size)
    return PromptDistribution(mean.astype(np.float32), log_sigma.astype(np.float32))


def standardised(config, size=SIZE, count=DRAWS, seed=7):
    """Draws, brought to a scale of 1."""
    given = predicted(size)
    z = np.asarray(sample(given, config, count, key=jax.random.key(seed)), np.float64)
    assert z.shape == (count, *size)
    return (z - given.mean) / (np.exp(given.log_sigma.astype(np.float64)) * scale_factor(config, *size))


def law(config, size=SIZE):
    freedom = degrees_of_freedom(config, *size)
    return stats.norm() if math.isinf(freedom) else stats.t(freedom)


def named(config):
    return f"{config.family}-{config.dimension}-{config.freedom}-{config.sharing}"


def assert_follows(values, distribution):
    assert stats.kstest(values, distribution.cdf).pvalue > SIGNIFICANT


def assert_tails(values, distribution, level=0.002):
    """As many values beyond a far quantile, on either side, as there should be."""
    for far in (values > distribution.ppf(1 - level), values < distribution.ppf(level)):
        assert stats.binomtest(int(far.sum()), len(far), level).pvalue > SIGNIFICANT


def slow_but(configs, quick):
    """The configurations, those beyond ``quick`` marked slow."""
    return [
        pytest.param(each, marks=() if quick(each) else pytest.mark.slow, id=named(each)) for each in configs
    ]


@pytest.mark.parametrize(
    "config",
    slow_but(
        [*STUDENTS, DistributionConfig(family="gaussian")],
        lambda each: each.family == "gaussian" or (each.sharing, each.freedom) == ("prompt", "nu+n"),
    ),
)
def test_each_number(config):
    """The marginals are Student's, tails included, of one number and of all where draws are not shared."""
    z = standardised(config)
    assert_follows(z[:, 0, 0], law(config))
    assert_follows(z[:, 2, 5], law(config))
    assert_tails(z[:, 1, 3], law(config))
    if config.sharing == "element" or config.family == "gaussian":
        assert_follows(z[:2000].ravel(), law(config))
        assert_tails(z.ravel(), law(config))


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.slow
def test_published_size_of_a_prompt(dimension, freedom):
    """256 numbers: n is 256, 512 of both prompts, or 1."""
    config, size = DistributionConfig(dimension=dimension, freedom=freedom), (2, 256)
    count = {"prompt": 256, "all": 512, "element": 1}[dimension]
    assert degrees_of_freedom(config, *size) == 5 + (count if freedom == "nu+n" else 0)
    assert scale_factor(config, *size) == pytest.approx(1 / math.sqrt(1 + count / 5))
    z = standardised(config, size, count=3000)
    assert_follows(z[:, 0, 0], law(config, size))
    assert_tails(z[:, 1, 255], law(config, size))


@pytest.mark.parametrize(
    "config",
    mostly_slow(
        (config for config in STUDENTS if config.freedom == "nu"),
        *(config for config in QUICK if config.freedom == "nu"),
    ),
    ids=named,
)
def test_what_shares_a_draw(config):
    """Squared lengths over a group of k numbers that share are F(k, freedom); over several they are not."""
    z, freedom = standardised(config), degrees_of_freedom(config, *SIZE)
    prompts, dim = SIZE
    lengths = (z**2).mean(axis=2)
    if config.sharing == "prompt":
        assert_follows(lengths[:, 0], stats.f(dim, freedom))
        assert stats.kstest((z**2).mean(axis=(1, 2)), stats.f(prompts * dim, freedom).cdf).pvalue < 1e-9
    if config.sharing == "sample":
        assert_follows((z**2).mean(axis=(1, 2)), stats.f(prompts * dim, freedom))
    if config.sharing == "element":
        assert stats.kstest(lengths[:, 0], stats.f(dim, freedom).cdf).pvalue < 1e-9
    sizes = np.log(np.abs(z))
    within, across = (sizes[:, 0, 0], sizes[:, 0, 1]), (sizes[:, 0, 0], sizes[:, 1, 0])
    for (one, other), together in (
        (within, config.sharing in ("prompt", "sample")),
        (across, config.sharing == "sample"),
    ):
        found = stats.pearsonr(one, other)
        assert found.statistic > 0.03 and found.pvalue < 1e-4 if together else found.pvalue > SIGNIFICANT
    # Signs have nothing in common, whatever is shared.
    assert stats.pearsonr(z[:, 0, 0] > 0, z[:, 0, 1] > 0).pvalue > SIGNIFICANT
    # Draws have nothing in common, either.
    assert stats.pearsonr(sizes[1:, 0, 0], sizes[:-1, 0, 0]).pvalue > SIGNIFICANT


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.139),
        ({"dimension": "all"}, 0.0198),
        ({"dimension": "element"}, 1.12),
        ({"formula": "literal"}, 2.24),
        ({"formula": "literal", "dimension": "all"}, 2.24),
        ({"formula": "literal", "dimension": "element"}, 2.74),
        ({"family": "gaussian"}, 1.0),
        ({"family": "none"}, 0.0),
        ({"freedom": "nu", "nu": 2.0}, math.inf),
    ],
)
def test_how_much_noise(settings, expected):
    """The figures of the published sizes."""
    ratio = noise_ratio(DistributionConfig(**settings), 50, 256)
    assert ratio == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("formula", ["corrected", "literal"])
@pytest.mark.parametrize("settings", [{}, {"dimension": "all"}, {"family": "gaussian"}, {"family": "none"}])
def test_noise_that_is_drawn(formula, settings):
    config, given = DistributionConfig(formula=formula, **settings), predicted()
    z = np.asarray(sample(given, config, DRAWS, key=jax.random.key(1)), np.float64)
    ratio = (z - given.mean).std() / np.sqrt(np.mean(np.exp(2 * given.log_sigma)))
    assert ratio == pytest.approx(noise_ratio(config, *SIZE), rel=0.02)


@pytest.mark.parametrize("config", STUDENTS[::3], ids=named)
def test_kurtosis(config):
    freedom = degrees_of_freedom(config, *SIZE)
    assert excess_kurtosis(config, *SIZE) == pytest.approx(float(stats.t.stats(freedom, moments="k")))


def test_kurtosis_at_the_limits():
    assert excess_kurtosis(DistributionConfig(), 50, 256) == pytest.approx(6 / 257)
    assert excess_kurtosis(DistributionConfig(family="gaussian"), 50, 256) == 0
    assert excess_kurtosis(DistributionConfig(nu=4, freedom="nu"), 50, 256) == math.inf


@pytest.mark.parametrize("config", mostly_slow(STUDENTS, *QUICK), ids=named)
def test_the_literal_formula(config):
    """On the same key it is the corrected one, sqrt(k) times as wide."""
    literal = DistributionConfig(**{**vars(config), "formula": "literal"})
    given, key = predicted(), jax.random.key(2)
    narrow, wide = (np.asarray(sample(given, c, DRAWS, key=key)) - given.mean for c in (config, literal))
    root = math.sqrt(degrees_of_freedom(config, *SIZE))
    assert scale_factor(literal, *SIZE) / scale_factor(config, *SIZE) == pytest.approx(root, rel=1e-14)
    np.testing.assert_allclose(wide, root * narrow, atol=1e-5, rtol=1e-4)


def test_none_draws_the_mean():
    """Also where the spread is zero, as that of an encoder which predicts none; gradients stay finite."""
    config, (mean, _) = DistributionConfig(family="none"), predicted()
    given = PromptDistribution(mean, np.full(SIZE, -np.inf, np.float32))
    np.testing.assert_array_equal(sample(given, config, 4, key=jax.random.key(0)), np.stack([mean] * 4))
    to_mean, to_spread = jax.grad(lambda d: jnp.sum(sample(d, config, 4, key=jax.random.key(0))))(given)
    np.testing.assert_array_equal(to_mean, 4)
    np.testing.assert_array_equal(to_spread, 0)


@pytest.mark.parametrize("formula", ["corrected", "literal"])
@pytest.mark.parametrize("config", [*STUDENTS, DistributionConfig(family="gaussian")], ids=named)
def test_density(config, formula, x64):
    config = DistributionConfig(**{**vars(config), "formula": formula})
    mean, log_sigma = (part.astype(np.float64) for part in predicted())
    z = mean + np.random.default_rng(4).normal(size=SIZE)
    scale = np.exp(log_sigma) * scale_factor(config, *SIZE)
    freedom = degrees_of_freedom(config, *SIZE)
    if config.family == "gaussian":
        expected = stats.norm(mean, scale).logpdf(z).sum()
    elif config.sharing == "element":
        expected = stats.t(freedom, mean, scale).logpdf(z).sum()
    else:
        groups = (SIZE[0], SIZE[1]) if config.sharing == "prompt" else (1, -1)
        parts = zip(*(array.reshape(groups) for array in (z, mean, scale)), strict=True)
        expected = sum(
            stats.multivariate_t(centre, np.diag(spread**2), freedom).logpdf(value)
            for value, centre, spread in parts
        )
    got = log_density(z, PromptDistribution(mean, log_sigma), config)
    assert float(got) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_density_of_long_prompts_in_float32():
    config, given = DistributionConfig(), predicted((4, 256))
    z = sample(given, config, 1, key=jax.random.key(0))[0]
    scale = np.exp(given.log_sigma.astype(np.float64)) * scale_factor(config, 4, 256)
    standard = stats.multivariate_t(np.zeros(256), np.eye(256), 261)
    expected = standard.logpdf((np.asarray(z, np.float64) - given.mean) / scale).sum() - np.log(scale).sum()
    assert float(log_density(z, given, config)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "config", [STUDENTS[0], STUDENTS[4], DistributionConfig(family="gaussian")], ids=named
)
def test_gradient_of_the_density(config, x64):
    given = PromptDistribution(*(jnp.asarray(part, jnp.float64) for part in predicted()))
    z = given.mean + 0.3
    check_grads(jax.jit(lambda z, d: log_density(z, d, config)), (z, given), order=1, modes=["rev"])


@pytest.mark.parametrize("config", [*STUDENTS[::4], DistributionConfig(family="gaussian")], ids=named)
def test_gradient_of_draws(config):
    """That of z = mu + sigma * noise: 1 in the mean, and in log sigma the noise itself, z - mu."""
    given, key = predicted(), jax.random.key(3)
    weights = np.random.default_rng(1).normal(size=(DRAWS, *SIZE)).astype(np.float32)
    z, pull = jax.vjp(lambda d: sample(d, config, DRAWS, key=key), given)
    to_mean, to_spread = pull(jnp.asarray(weights))[0]
    np.testing.assert_allclose(to_mean, weights.sum(0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(to_spread, (weights * (z - given.mean)).sum(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["student", "gaussian"])
@pytest.mark.slow
def test_keys(family):
    config, given = DistributionConfig(family=family), predicted()
    once, again, other = (sample(given, config, DRAWS, key=jax.random.key(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(once, again)
    assert np.mean(once == other) < 1e-3 and len(np.unique(once)) > 0.9 * once.size
    compiled = jax.jit(sample, static_argnums=(1, 2))
    np.testing.assert_allclose(
        compiled(given, config, DRAWS, key=jax.random.key(5)), once, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nu", 0),
        ("nu", -1.0),
        ("nu", math.nan),
        ("nu", math.inf),
        ("family", "laplace"),
        ("formula", "eq7"),
        ("dimension", "256"),
        ("freedom", "n"),
        ("sharing", "all"),
    ],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(InputError, match=rf"distribution\.{name} is .*; expected"):
        DistributionConfig(**{name: value})


def test_bad_input():
    config, given, key = DistributionConfig(), predicted(), jax.random.key(0)
    for count in (0, -3):
        with pytest.raises(InputError, match=rf"count \(K\) is {count}; expected at least 1 sample"):
            sample(given, config, count, key=key)
    short = PromptDistribution(given.mean, given.log_sigma[:2])
    for call in (
        lambda: sample(short, config, 1, key=key),
        lambda: sample(PromptDistribution(given.mean[0], given.log_sigma[0]), config, 1, key=key),
        lambda: log_density(given.mean, short, config),
        lambda: log_density(given.mean[:2], given, config),
    ):
        with pytest.raises(InputError, match=r"has shape .*; expected \["):
            call()
    with pytest.raises(InputError, match="'none' has no density"):
        log_density(given.mean, given, DistributionConfig(family="none"))
