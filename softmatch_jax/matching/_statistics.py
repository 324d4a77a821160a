"""What a reference set is boiled down to: sums that add up, or weighted rows that are put together."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax.matching._features import Patches, normalised
from softmatch_jax.matching._match_map import MatchMap


class Mean(NamedTuple):
    """Zeroth and first moment of a set of unit-norm patches.

    Attributes:
        weight: ``[]``, total weight.
        total: ``[d]``, weighted sum.
    """

    weight: Float[Array, ""]
    total: Float[Array, " d"]

    @property
    def mean(self) -> Float[Array, " d"]:
        """The weighted mean; zero for an empty set."""
        return self.total / jnp.where(self.weight > 0, self.weight, jnp.ones_like(self.weight))


class Rows(NamedTuple):
    """A weighted set of patches, for methods that need every one of them.

    Attributes:
        weight: ``[N]``, not normalised; 0 on padding.
        valid: ``[N]``, false on padding.
        features: ``[N, d]``, as given.
        scale: ``[N]``, what brings them to unit norm.
    """

    weight: Float[Array, " N"]
    valid: Bool[Array, " N"]
    features: Float[Array, "N d"]
    scale: Float[Array, " N"]

    @property
    def patches(self) -> Patches:
        """The patches without their weights."""
        return Patches(self.features, self.scale)

    @property
    def share(self) -> Float[Array, " N"]:
        """Weights that sum to one; all zero stays all zero."""
        return normalised(self.weight)


def mean_of(patches: Patches, weights: Float[Array, " N"]) -> Mean:
    """Sums up unit-norm patches; the sum is one vector-matrix product."""
    features = patches.features.astype(patches.scale.dtype)
    total = jnp.matmul(weights * patches.scale, features, precision="highest")
    return Mean(jnp.sum(weights), total)


def nothing_shared(patches: Patches, weights: Float[Array, " N"], *, temperature: Any, key: Any) -> None:
    """What operands of a sum must share, for methods that draw nothing at random."""


def rows_of(
    patches: Patches,
    weights: Float[Array, " N"],
    valid: Bool[Array, " N"],
    *,
    shared: Any = None,
    key: Any = None,
) -> Rows:
    """Keeps every patch, for methods that need them all."""
    return Rows(weights, valid, patches.features, patches.scale)


class Method(Protocol):
    """A way of matching: frozen settings, and two pure functions.

    Attributes:
        needs_key: Whether preparing or matching draws random numbers.
        needs_rest: Whether patches of the reference pictures that carry no weight matter. They become
            the background then.
    """

    @property
    def needs_key(self) -> bool: ...

    @property
    def needs_rest(self) -> bool: ...

    def share(self, patches: Patches, weights: Float[Array, " N"], *, temperature: Any, key: Any) -> Any:
        """What both operands of a sum must have in common; ``None`` for most methods."""

    def summarise(
        self,
        patches: Patches,
        weights: Float[Array, " N"],
        valid: Bool[Array, " N"],
        *,
        shared: Any,
        key: Any,
    ) -> Any:
        """Statistics of one weighted set of patches: a NamedTuple of sums, or of rows with ``valid``."""

    def match(
        self,
        foreground: Any,
        background: Any,
        target: Patches,
        *,
        shared: Any,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """Matches one target."""


def count_valid(size: int, valid: Bool[Array, " T"] | None, dtype: jnp.dtype) -> Float[Array, ""]:
    """Number of target patches that are not padding."""
    return jnp.asarray(size, dtype) if valid is None else jnp.sum(valid, dtype=dtype)


def mask_of(target: Patches, valid: Bool[Array, " T"] | None) -> Bool[Array, " T"]:
    """The valid flags, all true when there are none."""
    return jnp.ones(target.scale.shape, bool) if valid is None else valid


def is_traced(*trees: Any) -> bool:
    """Whether any array is abstract, as under ``jit``, ``vmap`` or ``grad``."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))
