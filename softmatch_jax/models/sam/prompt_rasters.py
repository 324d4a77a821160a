r"""Prompts as maps: what is meant, drawn on the picture's own grid.

A small model that gets points and boxes as Fourier codes alone must first learn geometry from them, which
takes most of its training. Drawn as maps and sent through SAM's mask path, they say where from the first
step on; the same maps pool the features that lie under the prompt.

With ``d`` the distance to the nearest point of one sign, the channels are a spot :math:`e^{-d^2 / 2 r^2}`
and a halo :math:`e^{-d / (s / 8)}` for either sign (``r`` = 3 pixels, ``s`` the side of the square), the
inside of the box as :math:`\pm 1`, its depth from the outline (1 in the middle, 0 on the outline, -1 far
outside), and a mask's logits squashed by :math:`\tanh(x / 4)`. What is not given is zero.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from softmatch_jax.models.sam.config import RASTER_CHANNELS
from softmatch_jax.models.sam.prompt_encoder import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT

SPOT_RADIUS = 3.0
"""Standard deviation of a point's spot, in pixels."""

HALO = 1 / 8
"""Distance at which a point's halo has fallen to 1/e, as a share of the side."""

LOGIT_SCALE = 4.0
"""Logits of a mask that become tanh(1)."""

SPOT, HALO_POSITIVE, NEGATIVE_SPOT, HALO_NEGATIVE, INSIDE, DEPTH, MASK = range(RASTER_CHANNELS)


def draw_prompt(
    xy: Float[Array, "n 2"],
    labels: Int[Array, " n"],
    logits: Float[Array, "s s"] | None,
    *,
    side: int,
    stride: int,
) -> Float[Array, "s s channels"]:
    """Draws one prompt.

    Args:
        xy: Positions ``(x, y)`` in pixels of the square that the model sees, pixel centres at ``+0.5``.
        labels: As :meth:`PromptEncoder.encode_points` has them; a box is one corner of each kind.
        logits: Of an earlier mask, on the same raster; ``None`` or all zero for no mask.
        side: Cells along the side of the raster.
        stride: Pixels along the side of a cell.
    """
    centres = (jnp.arange(side, dtype=jnp.float32) + 0.5) * stride
    dx, dy = centres[None] - xy[:, :1], centres[None] - xy[:, 1:]
    squares = dy[:, :, None] ** 2 + dx[:, None, :] ** 2
    channels = []
    for sign in (POSITIVE, NEGATIVE):
        far = 4.0 * (side * stride) ** 2  # beyond every pixel, so that no point gives nothing
        nearest = jnp.where((labels == sign)[:, None, None], squares, far).min(axis=0, initial=far)
        given = jnp.any(labels == sign)
        channels += [
            jnp.exp(-nearest / (2 * SPOT_RADIUS**2)),
            jnp.where(given, jnp.exp(-jnp.sqrt(nearest + 1e-6) / (HALO * side * stride)), 0.0),
        ]
    channels += _draw_box(centres, xy, labels)
    mask = jnp.zeros((side, side)) if logits is None else jnp.tanh(logits / LOGIT_SCALE)
    return jnp.stack([*channels, mask], axis=-1)


def _draw_box(centres: Array, xy: Array, labels: Array) -> list[Array]:
    """Inside and depth of the box; zero without one."""
    given = jnp.any(labels == TOP_LEFT)
    low, high = (
        jnp.where((labels == kind)[:, None], xy, 0.0).sum(axis=0) for kind in (TOP_LEFT, BOTTOM_RIGHT)
    )
    half = jnp.maximum((high - low) / 2, 1.0)
    depths = [
        1 - jnp.abs(centres - (low[axis] + high[axis]) / 2) / half[axis]  # 1 in the middle, 0 on the edge
        for axis in (0, 1)
    ]
    depth = jnp.minimum(depths[0][None, :], depths[1][:, None])
    return [
        jnp.where(given, jnp.where(depth >= 0, 1.0, -1.0), 0.0),
        jnp.where(given, jnp.maximum(depth, -1.0), 0.0),
    ]
