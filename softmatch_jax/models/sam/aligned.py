"""Bilinear enlargement with aligned corners, which VRP-SAM's code uses before and behind SAM."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def aligned_corners(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Weights of linear interpolation where first and last places are those of the original."""
    places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    nearness = 1 - np.abs(places[:, None] - np.arange(old))
    return np.maximum(nearness, 0).astype(np.float32)


def enlarge_aligned(raster: Float[Array, "h w"], side: int) -> Float[Array, "S S"]:
    """A map on a square raster of another side, bilinearly with aligned corners; differentiable."""
    rows, columns = (jnp.asarray(aligned_corners(length, side)) for length in raster.shape)
    return jnp.einsum("ri,ij,cj->rc", rows, raster, columns, precision=jax.lax.Precision.HIGHEST)
