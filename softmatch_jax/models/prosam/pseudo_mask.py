"""Where a target looks like the annotated part of a reference: the pseudo mask of VRP-SAM (after PFENet)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.prosam.config import Likeness
from softmatch_jax.models.sam.layers import PRECISION

_EPSILON = 1e-7


def pseudo_mask(
    reference: Float[Array, "h w d"],
    mask: Float[Array, "h w"],
    target: Float[Array, "h w d"],
    *,
    likeness: Likeness = "raw",
    target_valid: Bool[Array, "h w"] | None = None,
) -> Float[Array, "h w"]:
    r"""For each cell of the target the greatest cosine with a cell of the reference.

    .. math:: p_t = \max_r \frac{\langle m_r f_r, f_t \rangle}{|m_r f_r| |f_t| + 10^{-7}}

    Cells off the mask are zero vectors, so that nothing is below 0 where there is such a cell.

    Args:
        reference: High-level features of the reference.
        mask: Its annotation on their grid, in 0..1.
        target: High-level features of the target.
        likeness: ``raw`` as above, as the published code has it; ``minmax`` brings the map to 0..1 from its
            least to its greatest value, as the text says.
        target_valid: False on cells in the padding of the target, whose value is 0.

    Returns:
        A map at most 1; all zero where the mask is empty.

    Raises:
        InputError: The shapes differ, or there is no such likeness.
    """
    height, width, dim = reference.shape
    check_shape("mask", mask, (height, width), "that of the features")
    check_shape("target", target, (None, None, dim), "height, width, and the reference's channels")
    if likeness not in ("raw", "minmax"):
        raise InputError(f"likeness is {likeness!r}; expected 'raw' or 'minmax'.")
    masked = (reference * mask[..., None]).reshape(-1, dim)
    rows = target.reshape(-1, dim)
    lengths = jnp.linalg.norm(masked, axis=1)[:, None] * jnp.linalg.norm(rows, axis=1)
    cosines = jnp.matmul(masked, rows.T, precision=PRECISION) / (lengths + _EPSILON)
    alike = cosines.max(axis=0).reshape(target.shape[:2])
    valid = jnp.ones(alike.shape, bool) if target_valid is None else target_valid
    if likeness == "minmax":
        least = jnp.where(valid, alike, jnp.inf).min()
        greatest = jnp.where(valid, alike, -jnp.inf).max()
        alike = (alike - least) / (greatest - least + _EPSILON)
    return jnp.where(valid, alike, 0)
