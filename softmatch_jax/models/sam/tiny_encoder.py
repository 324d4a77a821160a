"""The image encoder of the tiny model: convolutional stages, then SAM's own transformer blocks.

Early convolutions let a transformer be trained on little data in little time (Xiao et al. 2021). They also
leave features at strides 8 and 4 behind, which the decoder takes up again (as in SAM 2, Ravi et al. 2024).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.conv_block import ConvBlock, Convolution
from softmatch_jax.models.sam.layers import PIXEL_NORM_EPS, PatchConv, layer_norm, linear
from softmatch_jax.models.sam.mask_decoder import Fine
from softmatch_jax.models.sam.vit_block import EncoderBlock

MATCHED = 32
"""Channels of the features that are compared."""


class TinyFeatures(NamedTuple):
    """What the decoder needs of a picture.

    Attributes:
        rows: ``[hw, dim]``, the embedding at stride 16, cells in row-major order.
        fine: Features at strides 8 and 4.
        matched: ``[2 h, 2 w, m]``, features of unit norm at stride 8, by which cells are compared with what
            lies under a prompt.
    """

    rows: Float[Array, "hw dim"]
    fine: Fine
    matched: Float[Array, "2*h 2*w m"]


def standardise(
    image: UInt8[Array, "S S 3"], content: Int[Array, " 2"]
) -> tuple[Float[Array, "S S 3"], Float[Array, "S S"]]:
    """A picture as the encoder takes it, in training and afterwards.

    Args:
        image: The picture at the top left of a square.
        content: Its height and width.

    Returns:
        The square with the mean and deviation of ImageNet taken out and zero beyond the picture, and 1 inside
        the picture and 0 beyond.
    """
    rows, columns = (jnp.arange(image.shape[0]) < content[axis] for axis in (0, 1))
    inside = (rows[:, None] & columns[None]).astype(jnp.float32)
    mean, deviation = (np.asarray(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (image.astype(jnp.float32) / 255 - mean) / deviation
    return pixels * inside[..., None], inside


class Stage(nnx.Module):
    """Convolutional blocks at one stride and a LayerNorm."""

    def __init__(self, dim: int, depth: int, *, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([ConvBlock(dim, rngs=rngs) for _ in range(depth)])
        self.norm = layer_norm(dim, PIXEL_NORM_EPS, rngs)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """The cells after the stage."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TinyImageEncoder(nnx.Module):
    """Maps a standardised picture to an embedding at stride 16 and features at strides 8 and 4."""

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        stem = config.stem
        if stem is None:
            raise InputError("The configuration has no stem; expected one as SamConfig.tiny() has.")
        (first, second), width, out = stem.dims, config.encoder_dim, config.dim
        self.config = config
        self.stem = Convolution(48, first, rngs=rngs)
        self.stage1 = Stage(first, stem.depths[0], rngs=rngs)
        self.down1 = PatchConv(first, second, 2, rngs=rngs)
        self.stage2 = Stage(second, stem.depths[1], rngs=rngs)
        self.down2 = PatchConv(second, width, 2, rngs=rngs)
        self.mixers = nnx.List([ConvBlock(width, rngs=rngs) for _ in config.global_attention])
        self.blocks = nnx.List(
            [
                EncoderBlock(
                    width,
                    config.encoder_heads,
                    config.encoder_mlp_dim,
                    window=0 if index in config.global_attention else config.encoder_window,
                    side=stem.side,
                    rngs=rngs,
                )
                for index in range(config.encoder_depth)
            ]
        )
        self.neck1 = linear(width, out, rngs)
        self.neck_norm1 = layer_norm(out, PIXEL_NORM_EPS, rngs)
        self.neck2 = Convolution(out, out, rngs=rngs)
        self.neck_norm2 = layer_norm(out, PIXEL_NORM_EPS, rngs)
        double_out, fourfold_out = config.upscaled
        self.double = linear(second, double_out, rngs)
        self.fourfold = linear(first, fourfold_out, rngs)
        self.matched = linear(second + out, MATCHED, rngs)

    def __call__(self, pixels: Float[Array, "S S 3"]) -> TinyFeatures:
        """Embeds one picture; ``jax.vmap`` makes a batch of it.

        Args:
            pixels: A standardised square, the picture at the top left and zeros beyond it.

        Raises:
            InputError: It has another shape.
        """
        size = self.config.image_size
        check_shape("pixels", pixels, (size, size, 3), "height, width, RGB")
        cells = pixels.reshape(size // 4, 4, size // 4, 4, 3).transpose(0, 2, 1, 3, 4)
        fourfold = self.stage1(self.stem(cells.reshape(size // 4, size // 4, 48)))
        double = self.stage2(self.down1(fourfold))
        x = self.down2(double)
        mixers = iter(self.mixers)
        for index, block in enumerate(self.blocks):
            # Where a block looks at the whole grid, a convolution has told cells of their surroundings.
            x = block(next(mixers)(x) if index in self.config.global_attention else x)
        x = self.neck_norm2(self.neck2(self.neck_norm1(self.neck1(x))))
        fine = Fine(self.double(double), self.fourfold(fourfold))
        enlarged = jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)
        matched = unit(self.matched(jnp.concatenate([double, enlarged], axis=-1)))
        return TinyFeatures(x.reshape(-1, self.config.dim), fine, matched)


def unit(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Vectors of length 1, and of length 0 where they are that short."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
