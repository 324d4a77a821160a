"""The losses of masks in SAM's training (Kirillov et al. 2023, A), and the IoU that is to be predicted.

Truth may be a fraction: a cell of the decoder's raster covers several pixels of the truth.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al. 2017)."""

BALANCE = 0.25
"""Its weight of the object's pixels; one minus this is that of the others."""


def focal_loss(
    logits: Float[Array, "*n h w"], truth: Float[Array, "*n h w"], inside: Float[Array, "h w"]
) -> Float[Array, "*n"]:
    """``-a_t (1 - p_t)^2 log p_t``, a mean over the cells inside the picture."""
    probability = jax.nn.sigmoid(logits)
    surprise = jax.nn.softplus(logits) - logits * truth
    right = probability * truth + (1 - probability) * (1 - truth)
    balance = BALANCE * truth + (1 - BALANCE) * (1 - truth)
    cells = balance * (1 - right) ** FOCUS * surprise
    return jnp.sum(cells * inside, axis=(-2, -1)) / jnp.maximum(inside.sum(), 1)


def cross_entropy(
    logits: Float[Array, "*n h w"], truth: Float[Array, "*n h w"], inside: Float[Array, "h w"]
) -> Float[Array, "*n"]:
    """``-log p_t``, a mean over the cells inside the picture."""
    cells = jax.nn.softplus(logits) - logits * truth
    return jnp.sum(cells * inside, axis=(-2, -1)) / jnp.maximum(inside.sum(), 1)


def dice_loss(
    logits: Float[Array, "*n h w"], truth: Float[Array, "*n h w"], inside: Float[Array, "h w"]
) -> Float[Array, "*n"]:
    """``1 - (2 sum p t + 1) / (sum p + sum t + 1)`` over the cells inside the picture."""
    probability = jax.nn.sigmoid(logits) * inside
    truth = truth * inside
    both = jnp.sum(probability * truth, axis=(-2, -1))
    sizes = jnp.sum(probability, axis=(-2, -1)) + jnp.sum(truth, axis=(-2, -1))
    return 1 - (2 * both + 1) / (sizes + 1)


def hard_iou(
    logits: Float[Array, "*n h w"], truth: Float[Array, "*n h w"], inside: Float[Array, "h w"]
) -> Float[Array, "*n"]:
    """IoU of ``logits > 0`` and ``truth > 0.5`` inside the picture; 1 if both are empty."""
    found, true = (logits > 0) & (inside > 0), (truth > 0.5) & (inside > 0)
    both = jnp.sum(found & true, axis=(-2, -1))
    either = jnp.sum(found | true, axis=(-2, -1))
    return jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)
