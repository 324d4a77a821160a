"""The loss of a mask in VRP-SAM and ProSAM: cross entropy plus Dice, one to one (ProSAM, eq. 4 and 8)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import check_shape
from softmatch_jax.models.sam.losses import cross_entropy, dice_loss


def mask_loss(
    logits: Float[Array, "h w"],
    truth: Float[Array, "h w"],
    inside: Bool[Array, "h w"] | Float[Array, "h w"],
) -> Float[Array, ""]:
    r"""The loss of one mask over the cells that lie in the picture; differentiable any number of times.

    .. math:: \frac{1}{N} \sum_i \left[\log(1 + e^{x_i}) - x_i t_i\right]
              + 1 - \frac{2 \sum_i p_i t_i + 1}{\sum_i p_i + \sum_i t_i + 1}, \qquad p = \frac{1}{1 + e^{-x}}

    Args:
        logits: ``x`` on the decoder's raster.
        truth: ``t``, the share of each cell that is object, in 0..1. The published code has void as 0.
        inside: Which of the ``N`` cells count.

    Returns:
        Cross entropy in nats plus Dice loss in 0..1. Without a cell inside both parts are 0.

    Raises:
        InputError: The shapes differ.
    """
    check_shape("logits", logits, (None, None), "height, width")
    check_shape("truth", truth, logits.shape, "that of the logits")
    check_shape("inside", inside, logits.shape, "that of the logits")
    counted = jnp.asarray(inside, logits.dtype)
    return cross_entropy(logits, truth, counted) + dice_loss(logits, truth, counted)
