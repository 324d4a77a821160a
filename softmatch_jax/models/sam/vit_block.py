"""The transformer block of SAM's image encoder; one picture, channels last, on a grid of any size."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.models.sam.layers import PIXEL_NORM_EPS, PRECISION, gelu, layer_norm
from softmatch_jax.models.sam.relative_attention import attend, offsets


class EncoderBlock(nnx.Module):
    """Attention within windows or over the whole grid, then an MLP; each behind a LayerNorm.

    ``x = x + attn(norm1(x)); x = x + mlp(norm2(x))`` (Li et al. 2022, ViTDet; Kirillov et al. 2023, A).
    ``jax.vmap`` makes a batch of pictures of it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        *,
        window: int,
        side: int,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
    ) -> None:
        """Makes a block.

        Args:
            dim: Channels; a multiple of ``heads``.
            heads: Attention heads.
            mlp_dim: Hidden units of the MLP.
            window: Side of the windows within which patches see each other; 0 for the whole grid.
            side: Longest side of a grid with attention to all of it. Not used with windows.
            rngs: Keys of the initial weights.
            dtype: Of the products. LayerNorm, softmax and sums are float32, and weights stay as they are.

        Raises:
            InputError: The sizes are not positive, or ``heads`` does not divide ``dim``.
        """
        self.norm1 = layer_norm(dim, PIXEL_NORM_EPS, rngs)
        self.attn = GridAttention(dim, heads, window=window, side=side, rngs=rngs, dtype=dtype)
        self.norm2 = layer_norm(dim, PIXEL_NORM_EPS, rngs)
        self.mlp = GeluMLP(dim, mlp_dim, rngs=rngs, dtype=dtype)

    def __call__(self, x: Float[Array, "h w dim"]) -> Float[Array, "h w dim"]:
        """Applies the block.

        Raises:
            InputError: The grid is larger than the block was made for.
        """
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GridAttention(nnx.Module):
    """Multi-head attention on a grid of patches with relative positions, within windows or over all of it.

    A grid that windows do not divide is padded at bottom and right with zeros, which take part: their keys
    and values are the biases.
    """

    def __init__(
        self, dim: int, heads: int, *, window: int, side: int, rngs: nnx.Rngs, dtype: Any = jnp.float32
    ) -> None:
        check_positive("heads", heads)
        check_positive("side", window or side)
        if dim % heads:
            raise InputError(f"dim is {dim} and heads is {heads}; expected a multiple of the heads.")
        self.heads, self.window, self.side = heads, window, window or side
        self.dtype = dtype
        self.qkv = _linear(dim, 3 * dim, rngs, dtype)
        self.proj = _linear(dim, dim, rngs, dtype)
        shape = (2 * self.side - 1, dim // heads)
        self.rel_pos_h = nnx.Param(jnp.zeros(shape))
        self.rel_pos_w = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: Float[Array, "h w dim"]) -> Float[Array, "h w dim"]:
        """Attends; see :meth:`EncoderBlock.__call__`."""
        height, width, dim = x.shape
        if not self.window and max(height, width) > self.side:
            raise InputError(
                f"The grid is {height}x{width} patches; expected at most {self.side} a side "
                "(make the block with a larger side)."
            )
        assert self.qkv.bias is not None
        kernel, bias = self.qkv.kernel[...].astype(self.dtype), self.qkv.bias[...].astype(self.dtype)
        # Padding is cheaper behind the product than in front of it, and still gets the bias.
        rows = x.reshape(-1, dim).astype(self.dtype)
        qkv = jnp.matmul(rows, kernel, precision=PRECISION).reshape(height, width, 3 * dim)
        h, w = (self.window, self.window) if self.window else (height, width)
        parts = partition(qkv, (h, w)) + bias
        windows = len(parts)
        parts = parts.reshape(windows, h * w, 3, self.heads, dim // self.heads)
        q, k, v = parts.transpose(2, 0, 3, 1, 4).reshape(3, windows * self.heads, h * w, -1)
        tables = (self.rel_pos_h[...].astype(self.dtype), self.rel_pos_w[...].astype(self.dtype))
        read = attend(q, k, v, offsets(tables[0], h), offsets(tables[1], w))
        read = read.reshape(windows, self.heads, h * w, -1).transpose(0, 2, 1, 3)
        joined = unpartition(read.reshape(windows, h * w, dim), (h, w), (height, width))
        return self.proj(joined.reshape(-1, dim)).reshape(x.shape)


class GeluMLP(nnx.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.lin1 = _linear(dim, hidden, rngs, dtype)
        self.lin2 = _linear(hidden, dim, rngs, dtype)

    def __call__(self, x: Float[Array, "*n dim"]) -> Float[Array, "*n dim"]:
        """Applies both layers to the last axis."""
        rows = x.reshape(-1, x.shape[-1])
        return self.lin2(gelu(self.lin1(rows))).reshape(x.shape)


def partition(x: Float[Array, "H W c"], window: tuple[int, int]) -> Float[Array, "windows n c"]:
    """Cuts a grid, padded with zeros to whole windows of ``(h, w)``, into their patches."""
    (height, width, channels), (h, w) = x.shape, window
    x = jnp.pad(x, ((0, -height % h), (0, -width % w), (0, 0)))
    x = x.reshape(-(-height // h), h, -(-width // w), w, channels)
    return x.transpose(0, 2, 1, 3, 4).reshape(-1, h * w, channels)


def unpartition(
    x: Float[Array, "windows n c"], window: tuple[int, int], size: tuple[int, int]
) -> Float[Array, "H W c"]:
    """The inverse of :func:`partition`, for a grid of ``size``."""
    (height, width), (h, w) = size, window
    x = x.reshape(-(-height // h), -(-width // w), h, w, -1).transpose(0, 2, 1, 3, 4)
    return x.reshape(-(-height // h) * h, -(-width // w) * w, -1)[:height, :width]


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs, dtype: Any) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, dtype=dtype, precision=PRECISION, rngs=rngs)
