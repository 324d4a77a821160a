r"""The distribution of prompt embeddings: draws, density, moments (ProSAM, eq. 5 to 7).

A prompt ``z`` has a mean ``mu`` and a scale ``s`` for each of its numbers,

.. math:: z = \mu + s \odot \epsilon \sqrt{k / \delta},
          \qquad \epsilon \sim N(0, I), \quad \delta \sim \chi^2(k),

a multivariate t-distribution with ``k`` degrees of freedom, where one ``delta`` is shared by all numbers of
a prompt, of a sample, or by none. Kim et al. (t3-VAE, ICLR 2024), whom the paper follows, have ``k = nu + n``
and ``s = sigma / sqrt(1 + n / nu)`` with the predicted ``sigma``. Eq. 7 as it is printed has
``k / sqrt(delta)`` for ``sqrt(k / delta)``, ``sqrt(k)`` times as much. With ``n = 256`` the tails are
practically those of a Gaussian.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.prosam.config import DistributionConfig


class PromptDistribution(NamedTuple):
    """The predicted distribution of the prompts of one target.

    Attributes:
        mean: The mean prompt, which is what is used.
        log_sigma: Logarithm of the predicted standard deviation, before the formula scales it.
    """

    mean: Float[Array, "prompts dim"]
    log_sigma: Float[Array, "prompts dim"]


def degrees_of_freedom(config: DistributionConfig, prompts: int, dim: int) -> float:
    """Degrees of freedom of the t-distribution; infinite for a Gaussian."""
    if config.family != "student":
        return math.inf
    return config.nu + (config.count(prompts, dim) if config.freedom == "nu+n" else 0)


def scale_factor(config: DistributionConfig, prompts: int, dim: int) -> float:
    """The scale ``s`` of the module's formula as a multiple of sigma."""
    if config.family == "none":
        return 0.0
    if config.family == "gaussian":
        return 1.0
    factor = 1 / math.sqrt(1 + config.count(prompts, dim) / config.nu)
    if config.formula == "literal":
        factor *= math.sqrt(degrees_of_freedom(config, prompts, dim))
    return factor


def noise_ratio(config: DistributionConfig, prompts: int, dim: int) -> float:
    """Standard deviation of a drawn number as a multiple of sigma.

    Infinite with 2 degrees of freedom or fewer. Of the defaults 0.139, with ``dimension="all"`` 0.0198, and
    of the literal formula ``sqrt(nu)`` and a little.
    """
    factor, freedom = scale_factor(config, prompts, dim), degrees_of_freedom(config, prompts, dim)
    if math.isinf(freedom):
        return factor
    return factor * math.sqrt(freedom / (freedom - 2)) if freedom > 2 else math.inf


def excess_kurtosis(config: DistributionConfig, prompts: int, dim: int) -> float:
    """Of a drawn number, ``6 / (k - 4)``: 0 is a Gaussian's; infinite with 4 degrees of freedom or fewer."""
    freedom = degrees_of_freedom(config, prompts, dim)
    if math.isinf(freedom):
        return 0.0
    return 6 / (freedom - 4) if freedom > 4 else math.inf


def sample(
    distribution: PromptDistribution, config: DistributionConfig, count: int, *, key: jax.Array
) -> Float[Array, "count prompts dim"]:
    """Draws prompts, differentiably in mean and log sigma.

    Args:
        distribution: From the encoder.
        config: Which family.
        count: K, samples to draw.
        key: Random key.

    Raises:
        InputError: ``count`` is below 1, or the shapes differ.
    """
    if count < 1:
        raise InputError(f"count (K) is {count}; expected at least 1 sample.")
    mean, log_sigma = distribution
    check_shape("mean", mean, (None, None), "prompts, dimensions")
    prompts, dim = mean.shape
    check_shape("log_sigma", log_sigma, (prompts, dim), "that of the mean")
    if config.family == "none":
        return jnp.broadcast_to(mean, (count, prompts, dim))
    noise_key, delta_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (count, prompts, dim), mean.dtype)
    freedom = degrees_of_freedom(config, prompts, dim)
    if not math.isinf(freedom):
        shared = {"prompt": (prompts, 1), "sample": (1, 1), "element": (prompts, dim)}[config.sharing]
        delta = jax.random.chisquare(delta_key, freedom, shape=(count, *shared), dtype=mean.dtype)
        noise = noise * jnp.sqrt(freedom / delta)
    return mean + scale_factor(config, prompts, dim) * jnp.exp(log_sigma) * noise


def log_density(
    z: Float[Array, "prompts dim"], distribution: PromptDistribution, config: DistributionConfig
) -> Float[Array, ""]:
    """Logarithm of the density at ``z``; differentiable.

    What shares a chi-square draw is one multivariate t-distribution; the densities of several multiply.

    Raises:
        InputError: The shapes differ, or the family is ``none``, which has no density.
    """
    if config.family == "none":
        raise InputError("The family 'none' has no density; expected 'student' or 'gaussian'.")
    prompts, dim = z.shape
    for name, array in zip(PromptDistribution._fields, distribution, strict=True):
        check_shape(name, array, (prompts, dim), "that of z")
    log_scale = distribution.log_sigma + math.log(scale_factor(config, prompts, dim))
    squares = ((z - distribution.mean) * jnp.exp(-log_scale)) ** 2
    freedom = degrees_of_freedom(config, prompts, dim)
    if math.isinf(freedom):
        return jnp.sum(-0.5 * squares - log_scale - 0.5 * math.log(2 * math.pi))
    groups = {"prompt": (prompts, dim), "sample": (1, prompts * dim), "element": (prompts * dim, 1)}
    number, size = groups[config.sharing]
    distances = squares.reshape(number, size).sum(axis=1)
    constant = math.lgamma((freedom + size) / 2) - math.lgamma(freedom / 2)
    constant -= size / 2 * math.log(freedom * math.pi)
    tails = -(freedom + size) / 2 * jnp.log1p(distances / freedom)
    return number * constant - log_scale.sum() + tails.sum()
