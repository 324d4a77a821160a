r"""SAM's prompt encoder: points, boxes and masks as tokens and as an embedding of the image's shape.

A position ``p`` in ``[0, 1]^2`` is encoded by random Fourier features, ``[sin 2 pi a, cos 2 pi a]`` with
``a = (2 p - 1) G`` and a fixed Gaussian matrix ``G`` that belongs to the weights (Kirillov et al. 2023,
A; Tancik et al. 2020).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from softmatch_jax._checks import check_shape
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.layers import PIXEL_NORM_EPS, PRECISION, Buffer, PatchConv, gelu, layer_norm

NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, NOT_A_POINT = 0, 1, 2, 3, -1


class PromptEncoder(nnx.Module):
    """Encodes one prompt; ``jax.vmap`` makes a batch of it."""

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        dim, channels = config.dim, config.mask_in_channels
        normal = nnx.initializers.normal(1.0)
        self.config = config
        self.positions = Buffer(normal(rngs.params(), (2, dim // 2)))
        self.point_embeddings = nnx.Param(normal(rngs.params(), (4, dim)))
        self.not_a_point = nnx.Param(normal(rngs.params(), (dim,)))
        self.no_mask = nnx.Param(normal(rngs.params(), (dim,)))
        self.mask_conv1 = PatchConv(config.raster_channels, channels // 4, 2, rngs=rngs)
        self.mask_norm1 = layer_norm(channels // 4, PIXEL_NORM_EPS, rngs)
        self.mask_conv2 = PatchConv(channels // 4, channels, 2, rngs=rngs)
        self.mask_norm2 = layer_norm(channels, PIXEL_NORM_EPS, rngs)
        self.mask_conv3 = PatchConv(channels, dim, 1, rngs=rngs)

    def _encode_positions(self, unit: Float[Array, "*n 2"]) -> Float[Array, "*n dim"]:
        """Fourier features of positions ``(x, y)`` in ``[0, 1]^2``, sines first."""
        angles = 2 * math.pi * jnp.matmul(2 * unit - 1, self.positions[...], precision=PRECISION)
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

    def encode_points(self, xy: Float[Array, "n 2"], labels: Int[Array, " n"]) -> Float[Array, "n dim"]:
        """One token for each point.

        Args:
            xy: Pixel indices ``(x, y)`` in the square that the model sees, where the centre of the
                first pixel is ``(0, 0)``; half a pixel is added here, as the original does.
            labels: 0 off the object, 1 on it, 2 and 3 top-left and bottom-right corner of a box, -1 no
                point at all (its position does not matter).

        Raises:
            InputError: The shapes do not fit.
        """
        check_shape("xy", xy, (None, 2), "n points (x, y)")
        check_shape("labels", labels, (xy.shape[0],), "one for each point")
        placed = self._encode_positions((xy + 0.5) / self.config.image_size)
        named = placed + self.point_embeddings[...][jnp.maximum(labels, 0)]
        return jnp.where((labels == NOT_A_POINT)[:, None], self.not_a_point[...], named)

    def dense_positions(self) -> Float[Array, "hw dim"]:
        """The positions of the image embedding's rows: the centres of its cells, in row-major order."""
        side = self.config.embedding_size
        centres = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
        y, x = jnp.meshgrid(centres, centres, indexing="ij")
        return self._encode_positions(jnp.stack([x, y], axis=-1).reshape(-1, 2))

    def embed_mask(self, logits: Float[Array, "4*h 4*w"]) -> Float[Array, "hw dim"]:
        """The dense embedding of a mask prompt, to be added to the image embedding.

        Args:
            logits: Mask logits at four times the side of the image embedding, as the decoder makes them.

        Raises:
            InputError: They have another size.
        """
        side = 4 * self.config.embedding_size
        check_shape("logits", logits, (side, side), "mask logits at 4 times the embedding's side")
        return self.embed_raster(logits[..., None])

    def embed_raster(self, raster: Float[Array, "4*h 4*w c"]) -> Float[Array, "hw dim"]:
        """The dense embedding of maps of a prompt, of which SAM has one, a mask's logits.

        Args:
            raster: ``config.raster_channels`` maps at four times the side of the image embedding.

        Raises:
            InputError: They have another size or number.
        """
        side, count = 4 * self.config.embedding_size, self.config.raster_channels
        check_shape("raster", raster, (side, side, count), "maps at 4 times the embedding's side, channels")
        x = gelu(self.mask_norm1(self.mask_conv1(raster)))
        x = gelu(self.mask_norm2(self.mask_conv2(x)))
        return self.mask_conv3(x).reshape(-1, self.config.dim)

    def no_mask_dense(self) -> Float[Array, "hw dim"]:
        """The dense embedding of a prompt without a mask: one vector, for every row."""
        return jnp.broadcast_to(self.no_mask[...], (self.config.embedding_size**2, self.config.dim))


def point_tokens(
    points: ArrayLike | None = None, positive: ArrayLike | None = None, box: ArrayLike | None = None
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Points and a box as the list of labelled points that :meth:`PromptEncoder.encode_points` takes.

    The points come first, then the two corners of the box; where there are points and no box, one token
    that is no point ends the list, because SAM was trained so.

    Args:
        points: ``[n, 2]`` pixel indices ``(x, y)`` in the square that the model sees.
        positive: ``[n]``, whether each is on the object; all of them where left out.
        box: ``(x0, y0, x1, y1)`` in the same coordinates.

    Returns:
        ``float32 [m, 2]`` and ``int32 [m]``; empty where there is neither a point nor a box.

    Raises:
        InputError: The shapes do not fit.
    """
    xy = np.zeros((0, 2), np.float32) if points is None else np.asarray(points, np.float32)
    check_shape("points", xy, (None, 2), "n points (x, y)")
    on = np.ones(len(xy), bool) if positive is None else np.asarray(positive, bool)
    check_shape("positive", on, (len(xy),), "one for each point")
    labels = np.where(on, POSITIVE, NEGATIVE).astype(np.int32)
    if box is not None:
        corners = np.asarray(box, np.float32)
        check_shape("box", corners, (4,), "x0, y0, x1, y1")
        added, kinds = corners.reshape(2, 2), [TOP_LEFT, BOTTOM_RIGHT]
    elif len(xy):
        added, kinds = np.zeros((1, 2), np.float32), [NOT_A_POINT]
    else:
        return xy, labels
    return np.concatenate([xy, added]), np.concatenate([labels, np.asarray(kinds, np.int32)])
