"""What all matchers do to features and weights first."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_positive, check_rank


def check_pair(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    temperature: float | Array,
    names: tuple[str, str] = ("reference", "target"),
) -> None:
    """Raises ``InputError`` unless both are ``[patches, d]`` with one ``d`` and the temperature is positive.

    A traced temperature is not checked.
    """
    first, second = names
    check_rank(first, reference, 2, "[patches, d]")
    check_rank(second, target, 2, "[patches, d]")
    if reference.shape[1] != target.shape[1]:
        raise InputError(
            f"{first} features have {reference.shape[1]} dimensions and {second} features "
            f"{target.shape[1]}; expected the same (use one feature extractor for both)."
        )
    if 0 in reference.shape or 0 in target.shape:
        raise InputError(
            f"{first} {list(reference.shape)} or {second} {list(target.shape)} has no patches or no "
            "dimensions; expected at least one of each."
        )
    if not isinstance(temperature, jax.core.Tracer):
        check_positive("temperature", float(temperature))


def check_share(target_share: float | Array) -> None:
    """Raises ``InputError`` unless the share lies in ``[0, 1]``; a traced one is not checked."""
    if not isinstance(target_share, jax.core.Tracer) and not 0 <= float(target_share) <= 1:
        raise InputError(f"target_share is {target_share}; expected a number in [0, 1].")


def check_weights(
    name: str, weights: Float[Array, " n"] | Bool[Array, " n"] | None, features: Float[Array, "n d"]
) -> None:
    """Raises ``InputError`` unless there is one weight (or one flag) per patch; ``None`` passes."""
    if weights is not None and weights.shape != features.shape[:1]:
        raise InputError(
            f"{name} has shape {list(weights.shape)}; expected [{features.shape[0]}], one per patch."
        )


def unit_norm(features: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Scales vectors to length one; zero vectors stay zero, with a zero gradient."""
    squared = jnp.sum(features * features, axis=-1, keepdims=True)
    safe = jnp.where(squared > 0, squared, jnp.ones_like(squared))
    return features / jnp.sqrt(safe)


def wide(*dtypes: jnp.dtype) -> jnp.dtype:
    """The type to compute in: double precision if any is, single otherwise."""
    double = jnp.dtype(jnp.float64)
    return double if double in dtypes else jnp.dtype(jnp.float32)


class Patches(NamedTuple):
    """Features left as they came, with what brings them to unit norm beside them.

    Inner products are taken on the features and scaled afterwards. That saves a normalised copy, and
    features of half precision are multiplied exactly, with sums in single precision.

    Attributes:
        features: ``[n, d]``, of any floating type.
        scale: ``[n]``, one over the length; 0 for a zero vector. At least single precision.
    """

    features: Float[Array, "n d"]
    scale: Float[Array, " n"]


def as_patches(features: Float[Array, "n d"], *, normalized: bool = False) -> Patches:
    """Measures the lengths; ``normalized`` says that all are one, and saves a pass over the features."""
    dtype = wide(features.dtype)
    if normalized:
        return Patches(features, jnp.ones(features.shape[:1], dtype))
    squared = jnp.einsum("nd,nd->n", features, features, preferred_element_type=dtype)
    positive = squared > 0
    return Patches(features, jnp.where(positive, jnp.where(positive, squared, 1) ** -0.5, 0))


def unit(patches: Patches) -> Float[Array, "n d"]:
    """The unit-norm features, in the precision of the scale."""
    return patches.features.astype(patches.scale.dtype) * patches.scale[:, None]


def inner(a: Float[Array, "n d"], b: Float[Array, "d ..."]) -> Array:
    """Matrix product summed in at least single precision, and not rounded to less on accelerators."""
    dtype = wide(a.dtype, b.dtype)
    common = a.dtype if a.dtype == b.dtype else dtype
    precision = "highest" if common == dtype else None
    return jnp.matmul(a.astype(common), b.astype(common), precision=precision, preferred_element_type=dtype)


def project(patches: Patches, vector: Float[Array, " d"]) -> Float[Array, " n"]:
    """Inner product of every unit-norm patch with a vector."""
    return inner(patches.features, vector) * patches.scale


def cosines(rows: Patches, columns: Patches) -> Float[Array, "n m"]:
    """Cosine similarity of all rows with all columns."""
    return inner(rows.features, columns.features.T) * rows.scale[:, None] * columns.scale[None, :]


def normalised(weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Weights that sum to one; all zero stays all zero."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, jnp.ones_like(total))


def safe_log(values: Float[Array, ...]) -> Float[Array, ...]:
    """Logarithm, ``-inf`` where not positive, with derivative zero there."""
    positive = values > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, values, jnp.ones_like(values))), -jnp.inf)


def normalised_weights(
    weights: Float[Array, " R"] | None, reference: Float[Array, "R d"]
) -> Float[Array, " R"]:
    """Weights that sum to one, uniform when ``None``; all zero stays all zero."""
    if weights is None:
        return jnp.full(reference.shape[:1], 1 / reference.shape[0], reference.dtype)
    return normalised(weights)
