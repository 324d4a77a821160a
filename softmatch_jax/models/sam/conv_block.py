"""Convolutions that mix neighbouring cells, which SAM leaves to attention and a small model learns sooner."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax.models.sam.layers import PIXEL_NORM_EPS, PRECISION, gelu, layer_norm, linear


class Convolution(nnx.Module):
    """A convolution of 3 x 3 with zeros beyond the border."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (3, 3),
            padding=dilation,
            kernel_dilation=dilation,
            precision=PRECISION,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w o"]:
        """Every output sees eight neighbours, too, as far off as the dilation."""
        return self.conv(x)


class ConvBlock(nnx.Module):
    """``x + linear(gelu(conv(norm(x))))`` with a full convolution of 3 x 3.

    On CPU XLA runs a full convolution at the speed of its matrix products, forwards and backwards, and a
    depthwise one many times slower.
    """

    def __init__(self, dim: int, *, dilation: int = 1, rngs: nnx.Rngs) -> None:
        self.norm = layer_norm(dim, PIXEL_NORM_EPS, rngs)
        self.conv = Convolution(dim, dim, dilation=dilation, rngs=rngs)
        self.out = linear(dim, dim, rngs)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """The cells after the block."""
        return x + self.out(gelu(self.conv(self.norm(x))))
