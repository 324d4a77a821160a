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
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError
from softmatch_jax._clustering import kmeans
from softmatch_jax.matching._features import Patches, inner, unit
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import mask_of, nothing_shared

OVERSAMPLING = 4
POWER_ITERATIONS = 3
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


def leading_factors(
    rows: Float[Array, "N d"], shares: Float[Array, "K N"], rank: int, *, key: jax.Array
) -> tuple[Float[Array, "K d"], Float[Array, "K k d"]]:
    r"""Means of weighted groups of rows, and the best factors of rank ``k`` of their covariances.

    Subspace iteration from a random start (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm
    4.4), for all groups in one matrix product: no ``[d, d]`` covariance is made.

    Args:
        rows: ``[N, d]``.
        shares: ``[K, N]``, weights of the rows in each group, of sum one or all zero.
        rank: ``k``; at most ``d`` is used.
        key: Random key.

    Returns:
        ``[K, d]`` means and ``[K, k, d]`` factors, rows by falling length: a group's covariance is about
        ``factor.T @ factor``.
    """
    count, dim = shares.shape[0], rows.shape[1]
    rank = min(rank, dim)
    width = min(rank + OVERSAMPLING, dim)
    means = inner(shares, rows)

    def along(basis: Float[Array, "K d w"]) -> Float[Array, "K w N"]:
        flat = jnp.swapaxes(basis, 1, 2).reshape(-1, dim)
        offsets = jnp.einsum("kd,kdw->kw", means, basis, precision="highest")
        return inner(flat, rows.T).reshape(count, width, -1) - offsets[:, :, None]

    basis = jax.random.normal(key, (count, dim, width), rows.dtype)
    for _ in range(POWER_ITERATIONS):
        # Centred on one side is centred on both: the shares of the offsets sum to zero.
        product = inner((along(basis) * shares[:, None, :]).reshape(count * width, -1), rows)
        basis = jnp.linalg.qr(jnp.swapaxes(product.reshape(count, width, dim), 1, 2))[0]
    projected = along(basis)
    small = jnp.einsum("kan,kbn->kab", projected * shares[:, None, :], projected, precision="highest")
    values, vectors = jnp.linalg.eigh(small)
    lengths = jnp.sqrt(jnp.maximum(values[:, ::-1][:, :rank], 0))
    directions = jnp.einsum("kdw,kwa->kad", basis, vectors[:, :, ::-1][:, :, :rank], precision="highest")
    # Eigenvectors of equal eigenvalues have no derivative; the spread of a group is taken as given.
    return means, jax.lax.stop_gradient(lengths[:, :, None] * directions)


def gaussian_groups(
    patches: Patches, weights: Float[Array, " N"], *, groups: int, rank: int, key: jax.Array
) -> Groups:
    """Clusters unit-norm patches by k-means and takes mean and leading covariance of every cluster."""
    rows = unit(patches)
    cluster_key, factor_key = jax.random.split(key)
    found = kmeans(
        rows, groups, key=cluster_key, weights=weights, max_iterations=KMEANS_ITERATIONS, restarts=1
    )
    members = found.assignment[None, :] == jnp.arange(groups, dtype=found.assignment.dtype)[:, None]
    members = jnp.where(members, weights[None, :], 0)
    total = jnp.sum(members, axis=1)
    shares = members / jnp.where(total > 0, total, jnp.ones_like(total))[:, None]
    mean, factor = leading_factors(rows, shares, rank, key=factor_key)
    return Groups(total, total > 0, mean, factor)


def _shares(weight: Float[Array, " K"]) -> Float[Array, " K"]:
    """Log of weights that sum to one."""
    present = weight > 0
    total = jnp.sum(weight)
    share = jnp.where(present, weight, 1) / jnp.where(total > 0, total, 1)
    return jnp.where(present, jnp.log(share), -jnp.inf)


def _project(
    groups: Groups, target: Patches, temperature: float | Array
) -> tuple[Float[Array, "K T"], Float[Array, "K k T"]]:
    """Target patches along the mean and along the factor of every group, in one matrix product."""
    count, rank, dim = groups.factor.shape
    directions = jnp.concatenate([groups.mean[:, None, :], groups.factor], axis=1) / temperature
    along = inner(directions.reshape(-1, dim), target.features.T) * target.scale[None, :]
    along = along.reshape(count, rank + 1, -1)
    return along[:, 0], along[:, 1:]


def _log_density(groups: Groups, linear: Float[Array, "K T"], spread: Float[Array, "K k T"]) -> Array:
    """``[T]``, log of the mean kernel; ``-inf`` for an empty set."""
    terms = linear + 0.5 * jnp.sum(spread * spread, axis=1)
    return jax.nn.logsumexp(terms + _shares(groups.weight)[:, None], axis=0)


def _log_mean_softmax(
    groups: Groups, linear: Float[Array, "K T"], spread: Float[Array, "K k T"], mask: Bool[Array, " T"]
) -> Array:
    """``[T]``, log of the mean of softmaxes."""
    tilt = jax.nn.softmax(jnp.where(mask[None, :], linear, -jnp.inf), axis=1)
    spread = spread - jnp.einsum("kat,kt->ka", spread, tilt, precision="highest")[:, :, None]
    covariance = jnp.einsum("kat,kbt->kab", spread * tilt[:, None, :], spread, precision="highest")
    curvature = jnp.eye(spread.shape[1], dtype=spread.dtype)[None] + covariance
    quadratic = jnp.sum(spread * jnp.linalg.solve(curvature, spread), axis=1)
    logits = linear + 0.5 * quadratic
    terms = logits - jax.nn.logsumexp(logits, axis=1, where=mask[None, :], keepdims=True)
    return jax.nn.logsumexp(terms + _shares(groups.weight)[:, None], axis=0)


@dataclass(frozen=True, kw_only=True)
class Cumulant:
    """The arithmetic mean to second order, groups of references standing for their members.

    Accurate while a group's spread is small against the temperature: a single object at 0.1, not below
    about 0.03. Sets add as mixtures; a set is taken out as the groups it was put in as. Gradients with
    respect to references pass through the means of the groups, not through their spread.

    Attributes:
        groups: Groups the references are clustered into; more are more exact and cost more.
        rank: Directions in which a group is spread out; the rest of its covariance is dropped. At the same
            cost, ``groups * (rank + 1)`` products, many groups of low rank beat few of high rank.
    """

    groups: int = 32
    rank: int = 4

    needs_key: ClassVar[bool] = True
    needs_rest: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("groups", "rank"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1.")

    share = staticmethod(nothing_shared)

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
        along = _project(foreground, target, temperature)
        density = _log_density(foreground, *along)
        if background is not None:
            outside = _log_density(background, *_project(background, target, temperature))
            return match_map(density - jnp.where(jnp.isneginf(outside), 0, outside), valid)
        found = match_map(_log_mean_softmax(foreground, *along, mask_of(target, valid)), valid)
        return found._replace(log_evidence=match_map(density, valid).log_evidence)
