"""SAM's image encoder: a vision transformer on patches of a square picture, and a neck."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax._checks import check_shape
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.layers import PIXEL_NORM_EPS, PRECISION, PatchConv, layer_norm
from softmatch_jax.models.sam.vit_block import EncoderBlock


class ImageEncoder(nnx.Module):
    """Turns a picture into the image embedding (Li et al. 2022, ViTDet; Kirillov et al. 2023, A).

    Most blocks attend within windows, some to the whole picture. Differentiable in all its inputs;
    ``jax.vmap`` makes a batch of pictures of it.
    """

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        """Makes an encoder.

        Args:
            config: Its sizes.
            rngs: Keys of the initial weights.
            dtype: Of the products within the blocks; what goes from block to block is float32.
        """
        self.config = config
        dim, side = config.encoder_dim, config.embedding_size
        self.patch_embed = PatchConv(3, dim, config.patch_size, rngs=rngs)
        # The axis in front is the checkpoints'.
        self.pos_embed = nnx.Param(jnp.zeros((1, side, side, dim)))
        self.layers = nnx.List(
            [
                EncoderBlock(
                    dim,
                    config.encoder_heads,
                    config.encoder_mlp_dim,
                    window=0 if index in config.global_attention else config.encoder_window,
                    side=side,
                    rngs=rngs,
                    dtype=dtype,
                )
                for index in range(config.encoder_depth)
            ]
        )
        self.neck = Neck(dim, config.dim, rngs=rngs)

    def __call__(self, pixels: Float[Array, "S S 3"]) -> Float[Array, "hw dim"]:
        """Embeds one picture.

        Args:
            pixels: Standardised, the picture at the top left of a square of ``config.image_size``.

        Returns:
            Rows of the embedding in row-major order.

        Raises:
            InputError: ``pixels`` has another shape.
        """
        size = self.config.image_size
        check_shape("pixels", pixels, (size, size, 3), "height, width, RGB")
        x = self.patch_embed(pixels) + self.pos_embed[0]
        for block in self.layers:
            x = block(x)
        return self.neck(x).reshape(-1, self.config.dim)


class Neck(nnx.Module):
    """Brings the channels of patches to those of the image embedding: two convolutions, each with a norm."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = NeckConv(inputs, outputs, 1, rngs=rngs)
        self.norm1 = layer_norm(outputs, PIXEL_NORM_EPS, rngs)
        self.conv2 = NeckConv(outputs, outputs, 3, rngs=rngs)
        self.norm2 = layer_norm(outputs, PIXEL_NORM_EPS, rngs)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w o"]:
        """Applies all four."""
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class NeckConv(nnx.Module):
    """A convolution of odd size and stride 1 without bias, padded with zeros to keep the grid."""

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (size, size, inputs, outputs)))

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w o"]:
        """``y[i, j, o] = sum_abc x[i + a - r, j + b - r, c] kernel[a, b, c, o]`` with ``r = size // 2``.

        The neighbours become channels first: one large product is the fastest form on CPU.
        """
        size, _, inputs, outputs = self.kernel.shape
        height, width, _ = x.shape
        padded = jnp.pad(x, ((size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        shifted = [padded[a : a + height, b : b + width] for a in range(size) for b in range(size)]
        rows = jnp.concatenate(shifted, axis=-1).reshape(height * width, -1)
        kernel = self.kernel[...].reshape(size * size * inputs, outputs)
        return jnp.matmul(rows, kernel, precision=PRECISION).reshape(height, width, outputs)
