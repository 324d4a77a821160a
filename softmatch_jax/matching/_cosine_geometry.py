"""The cosine cost ``1 - <x, y>`` as a geometry of ott-jax, held in memory or recomputed in tiles.

ott's own point clouds recompute the cost in batches by means that current JAX no longer has. Imported
only where transport is asked for, since ott is an optional dependency.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # ott imports jaxopt, which is no longer maintained
    from ott.geometry import geometry

from jaxtyping import Array, Float

from softmatch_jax.matching._features import inner

LARGEST_COST = 2.0


def kernel_is_safe(epsilon: Any, dtype: Any) -> bool:
    """Whether no product of the kernel with a scaling can underflow, so that logarithms are not needed.

    Kernel entries and the scalings that Sinkhorn finds both stay above ``exp(-2 / epsilon)``, the cost
    being at most 2; their product must be a normal number. False for a traced epsilon.
    """
    if isinstance(epsilon, jax.core.Tracer):
        return False
    return 2 * LARGEST_COST / float(epsilon) <= -float(np.log(np.finfo(dtype).tiny)) - 5


@jax.tree_util.register_pytree_node_class
class CosineGeometry(geometry.Geometry):
    """Cost ``1 - <x_r, y_t>`` between unit-norm features.

    Args:
        x: ``[R, d]``, unit-norm features of the reference.
        y: ``[T, d]``, unit-norm features of the target.
        kernel: ``[R, T]``, ``exp(-cost / epsilon)``, for products in place of log-sum-exps.
        cost: ``[R, T]``, the cost, for log-sum-exps over it. With neither, it is recomputed in tiles.
        epsilon: Regularisation.
        tile: Rows recomputed at a time.
    """

    def __init__(
        self,
        x: Float[Array, "R d"],
        y: Float[Array, "T d"],
        *,
        kernel: Float[Array, "R T"] | None = None,
        cost: Float[Array, "R T"] | None = None,
        epsilon: Any,
        tile: int,
    ) -> None:
        super().__init__(cost_matrix=cost, epsilon=epsilon)
        self.x, self.y, self.kernel, self.tile = x, y, kernel, tile

    @classmethod
    def build(
        cls, x: Float[Array, "R d"], y: Float[Array, "T d"], *, epsilon: Any, held_entries: int, tile: int
    ) -> CosineGeometry:
        """Holds the kernel where it fits and is safe, else the cost where it fits, else neither."""
        if x.shape[0] * y.shape[0] > held_entries:
            return cls(x, y, epsilon=epsilon, tile=tile)
        cost = 1 - inner(x, y.T)
        if kernel_is_safe(epsilon, cost.dtype):
            return cls(x, y, kernel=jnp.exp(-cost / epsilon), epsilon=epsilon, tile=tile)
        return cls(x, y, cost=cost, epsilon=epsilon, tile=tile)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of reference and target patches."""
        return self.x.shape[0], self.y.shape[0]

    @property
    def dtype(self) -> Any:
        """Type of the features."""
        return self.x.dtype

    @property
    def cost_matrix(self) -> Float[Array, "R T"]:
        """The whole cost, for inspection."""
        return 1 - inner(self.x, self.y.T) if self._cost_matrix is None else self._cost_matrix

    @property
    def kernel_matrix(self) -> Float[Array, "R T"]:
        """The whole kernel, for inspection."""
        return jnp.exp(-self.cost_matrix / self.epsilon)

    def apply_lse_kernel(
        self, f: Array, g: Array, eps: Any, vec: Array | None = None, axis: int = 0
    ) -> tuple[Array, Array]:
        """``eps log |K (e^{g/eps} vec)|`` and its sign for axis 1; with ``f`` and ``K`` transposed for 0."""
        potential = g if axis == 1 else f
        if self.kernel is not None:
            return self._by_product(potential, eps, vec, axis)
        weights = jnp.ones_like(potential) if vec is None else vec
        if self._cost_matrix is not None:
            cost = self._cost_matrix if axis == 1 else self._cost_matrix.T
            return _signed_log(*_mass((potential[None, :] - cost) / eps, weights), eps)
        return self._by_tiles(potential, weights, eps, axis)

    def _by_product(self, potential: Array, eps: Any, vec: Array | None, axis: int) -> tuple[Array, Array]:
        finite = jnp.isfinite(potential)
        shift = jax.lax.stop_gradient(jnp.max(jnp.where(finite, potential, -jnp.inf)))
        scaling = jnp.where(finite, jnp.exp((jnp.where(finite, potential, shift) - shift) / eps), 0)
        scaling = scaling if vec is None else scaling * vec
        kernel: Any = self.kernel
        product = inner(kernel, scaling) if axis == 1 else inner(scaling, kernel)
        return _signed_log(shift / eps, product, eps)

    def _by_tiles(self, potential: Array, weights: Array, eps: Any, axis: int) -> tuple[Array, Array]:
        """Recomputes the cost ``tile`` rows at a time; the rows are those of the side summed *to*."""
        rows, columns = (self.x, self.y) if axis == 1 else (self.y, self.x)

        @jax.checkpoint
        def some_rows(piece: Array) -> tuple[Array, Array]:
            return _mass((potential[None, :] - 1 + inner(piece, columns.T)) / eps, weights)

        tile = min(self.tile, rows.shape[0])
        pad = -rows.shape[0] % tile
        tiles = jnp.pad(rows, ((0, pad), (0, 0))).reshape(-1, tile, rows.shape[1])
        peak, mass = (part.reshape(-1)[: rows.shape[0]] for part in jax.lax.map(some_rows, tiles))
        return _signed_log(peak, mass, eps)

    def tree_flatten(self) -> tuple[Any, Any]:
        """Arrays are children, the tile is not."""
        return (self.x, self.y, self.kernel, self._cost_matrix, self._epsilon_init), {"tile": self.tile}

    @classmethod
    def tree_unflatten(cls, aux_data: Any, children: Any) -> CosineGeometry:
        """The inverse."""
        x, y, kernel, cost, epsilon = children
        return cls(x, y, kernel=kernel, cost=cost, epsilon=epsilon, **aux_data)


def _mass(logits: Float[Array, "n m"], weights: Float[Array, " m"]) -> tuple[Array, Array]:
    """Row maxima, and the weighted sums of exponentials in their units."""
    logits = jnp.where(jnp.isnan(logits), -jnp.inf, logits)
    peak = jax.lax.stop_gradient(jnp.max(logits, axis=1))
    peak = jnp.where(jnp.isneginf(peak), 0, peak)
    return peak, inner(jnp.exp(logits - peak[:, None]), weights)


def _signed_log(peak: Array, mass: Array, eps: Any) -> tuple[Array, Array]:
    """``eps`` times the logarithm of ``|mass| e^peak``, ``-inf`` at zero, and the sign."""
    size = jnp.abs(mass)
    some = size > 0
    return jnp.where(some, eps * (peak + jnp.log(jnp.where(some, size, 1))), -jnp.inf), jnp.sign(mass)
