r"""The arithmetic mean by cumulants: groups of references as Gaussians, no row left.

Replace the references of one group by a Gaussian of their mean :math:`m` and covariance
:math:`\Sigma = F^\top F`. Then the kernel density is a closed form,

.. math::
    \log \mathbb{E}_f\, e^{\langle f, g\rangle/\tau} \approx
    \frac{\langle m, g\rangle}{\tau} + \frac{|F g|^2}{2\tau^2} ,

exact up to the third cumulant. The softmax of every reference also divides by its normaliser
:math:`Z(f)`. Expanded to second order about :math:`m`, with :math:`\bar g` and :math:`H` the mean and
covariance of the target patches under :math:`\operatorname{softmax}_t(\langle m, g_t\rangle/\tau)`,

.. math::
    \mathbb{E}_f \frac{e^{\langle f, g_t\rangle/\tau}}{Z(f)} \propto
    \exp\Big(\frac{\langle m, g_t\rangle}{\tau} + \frac{1}{2\tau^2}\, y_t^\top
    \big(I + \tfrac{1}{\tau^2} F H F^\top\big)^{-1} y_t\Big), \qquad y_t = F(g_t - \bar g) .

Each group is normalised over the target and the groups are averaged. With a group for every reference
this is the exact arithmetic mean. Cost per target: ``O(T K k d)`` for ``K`` groups of rank ``k``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError
from softmatch_jax._clustering import kmeans
from softmatch_jax.matching._features import Patches, inner, unit
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import mask_of

OVERSAMPLING = 8
POWER_ITERATIONS = 6
KMEANS_ITERATIONS = 20


class Groups(NamedTuple):
    """A weighted set of patches as a mixture of Gaussians.

    Attributes:
        weight: ``[K]``, total weight of each group, not normalised; 0 for groups that are not there.
        valid: ``[K]``, false for groups that are not there.
        mean: ``[K, d]``.
        factor: ``[K, k, d]``; the covariance is ``factor.T @ factor``.
    """

    weight: Float[Array, " K"]
    valid: Bool[Array, " K"]
    mean: Float[Array, "K d"]
    factor: Float[Array, "K k d"]


def leading_factor(centred: Float[Array, "n d"], rank: int, *, key: jax.Array) -> Float[Array, "k d"]:
    r"""The best ``[k, d]`` factor of ``centred.T @ centred``, rows by falling length.

    Subspace iteration from a random start (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm
    4.4): a few thin products in place of a ``[d, d]`` eigendecomposition.
    """
    d = centred.shape[1]
    width = min(rank + OVERSAMPLING, d)
    start = jax.random.normal(key, (d, width), centred.dtype)

    def improve(_: int, block: Float[Array, "d w"]) -> Float[Array, "d w"]:
        return jnp.linalg.qr(inner(centred.T, inner(centred, block)))[0]

    basis = jax.lax.fori_loop(0, POWER_ITERATIONS, improve, start)
    projected = inner(centred, basis)
    values, vectors = jnp.linalg.eigh(inner(projected.T, projected))
    order = jnp.arange(width - 1, width - 1 - min(rank, d), -1)
    lengths = jnp.sqrt(jnp.maximum(values[order], 0))
    return lengths[:, None] * inner(basis, vectors[:, order]).T


def gaussian_groups(
    patches: Patches, weights: Float[Array, " N"], *, groups: int, rank: int, key: jax.Array
) -> Groups:
    """Clusters unit-norm patches by k-means and takes mean and leading covariance of every cluster."""
    rows = unit(patches)
    cluster_key, factor_key = jax.random.split(key)
    found = kmeans(
        rows, groups, key=cluster_key, weights=weights, max_iterations=KMEANS_ITERATIONS, restarts=1
    )

    def one_group(index: Array) -> tuple[Array, Array, Array]:
        share = jnp.where(found.assignment == index, weights, 0)
        total = jnp.sum(share)
        share = share / jnp.where(total > 0, total, jnp.ones_like(total))
        mean = inner(share, rows)
        centred = (rows - mean[None, :]) * jnp.sqrt(share)[:, None]
        return total, mean, leading_factor(centred, rank, key=jax.random.fold_in(factor_key, index))

    total, mean, factor = jax.lax.map(one_group, jnp.arange(groups))
    return Groups(total, total > 0, mean, factor)


def _shares(weight: Float[Array, " K"]) -> Float[Array, " K"]:
    """Log of weights that sum to one."""
    present = weight > 0
    total = jnp.sum(weight)
    share = jnp.where(present, weight, 1) / jnp.where(total > 0, total, 1)
    return jnp.where(present, jnp.log(share), -jnp.inf)


def _log_density(groups: Groups, target: Float[Array, "T d"], temperature: float | Array) -> Array:
    """``[T]``, log of the mean kernel; ``-inf`` for an empty set."""

    def one_group(mean: Array, factor: Array) -> Array:
        spread = inner(target, factor.T / temperature)
        return inner(target, mean / temperature) + 0.5 * jnp.sum(spread * spread, axis=1)

    terms = jax.vmap(one_group)(groups.mean, groups.factor)
    return jax.nn.logsumexp(terms + _shares(groups.weight)[:, None], axis=0)


def _log_mean_softmax(
    groups: Groups, target: Float[Array, "T d"], temperature: float | Array, mask: Bool[Array, " T"]
) -> Array:
    """``[T]``, log of the mean of softmaxes."""

    def one_group(mean: Array, factor: Array) -> Array:
        linear = jnp.where(mask, inner(target, mean / temperature), -jnp.inf)
        tilt = jax.nn.softmax(linear)
        spread = inner(target, factor.T / temperature)
        spread = spread - inner(tilt, spread)[None, :]
        curvature = jnp.eye(spread.shape[1], dtype=spread.dtype) + inner(spread.T * tilt[None, :], spread)
        quadratic = jnp.sum(spread * jnp.linalg.solve(curvature, spread.T).T, axis=1)
        return jax.nn.log_softmax(jnp.where(mask, linear + 0.5 * quadratic, -jnp.inf))

    terms = jax.vmap(one_group)(groups.mean, groups.factor)
    return jax.nn.logsumexp(terms + _shares(groups.weight)[:, None], axis=0)


@dataclass(frozen=True, kw_only=True)
class Cumulant:
    """The arithmetic mean to second order, groups of references standing for their members.

    Accurate while a group's spread is small against the temperature: a single object at 0.1, not below
    about 0.03. Sets add as mixtures; a set is taken out as the groups it was put in as.

    Attributes:
        groups: Groups the references are clustered into; more are more exact and cost more.
        rank: Directions in which a group is spread out; the rest of its covariance is dropped.
    """

    groups: int = 4
    rank: int = 32

    needs_key: ClassVar[bool] = True
    needs_rest: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("groups", "rank"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1.")

    def share(self, patches: Patches, weights: Array, *, temperature: Any, key: Any) -> None:
        """Nothing is shared."""

    def summarise(
        self, patches: Patches, weights: Array, valid: Array, *, shared: None, key: jax.Array
    ) -> Groups:
        """Clusters the patches."""
        return gaussian_groups(patches, weights, groups=self.groups, rank=self.rank, key=key)

    def match(
        self,
        foreground: Groups,
        background: Groups | None,
        target: Patches,
        *,
        shared: None,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """Softmaxes of one quadratic form per group; with a background, the log-ratio of densities."""
        mask, features = mask_of(target, valid), unit(target)
        density = _log_density(foreground, features, temperature)
        if background is not None:
            outside = _log_density(background, features, temperature)
            return match_map(density - jnp.where(jnp.isneginf(outside), 0, outside), valid)
        found = match_map(_log_mean_softmax(foreground, features, temperature, mask), valid)
        return found._replace(log_evidence=match_map(density, valid).log_evidence)
