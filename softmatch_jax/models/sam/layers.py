"""The small parts that SAM's prompt encoder and mask decoder are made of; one example, channels last.

Matrix products ask for full float32: accelerators would otherwise round their inputs to 10 bits or
fewer, and masks would depend on the machine.
"""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

PRECISION = jax.lax.Precision.HIGHEST
PIXEL_NORM_EPS = 1e-6  # of every norm over the channels of a picture


class Buffer(nnx.Variable):
    """A constant that belongs to the weights and is never trained."""


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU by the error function, not its tanh approximation; ``jax.nn.gelu`` is slower on CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer in full precision; kernel ``[inputs, outputs]`` and bias."""
    return nnx.Linear(inputs, outputs, precision=PRECISION, rngs=rngs)


def layer_norm(dim: int, eps: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A LayerNorm over the last axis with the two-pass variance, as torch has it."""
    return nnx.LayerNorm(dim, epsilon=eps, use_fast_variance=False, rngs=rngs)


def attend(
    q: Float[Array, "n inner"],
    k: Float[Array, "m inner"],
    v: Float[Array, "m inner"],
    heads: int,
    valid: Bool[Array, " m"] | None = None,
) -> Float[Array, "n inner"]:
    """``softmax(q k^T / sqrt(inner / heads)) v`` in each head; keys not ``valid`` get weight zero."""
    q, k, v = (x.reshape(len(x), heads, -1) for x in (q, k, v))
    logits = jnp.einsum("nhd,mhd->hnm", q, k, precision=PRECISION) / math.sqrt(q.shape[-1])
    if valid is not None:
        logits = jnp.where(valid, logits, -jnp.inf)
    mixed = jnp.einsum("hnm,mhd->nhd", jax.nn.softmax(logits, axis=-1), v, precision=PRECISION)
    return mixed.reshape(len(mixed), -1)


class MLP(nnx.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int, outputs: int, depth: int, *, rngs: nnx.Rngs) -> None:
        widths = [dim, *[hidden] * (depth - 1), outputs]
        self.layers = nnx.List([linear(a, b, rngs) for a, b in pairwise(widths)])

    def __call__(self, x: Float[Array, "*n dim"]) -> Float[Array, "*n outputs"]:
        """Applies the layers to the last axis."""
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


class TokenMLP(nnx.Module):
    """The MLP of a two-way block."""

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs) -> None:
        self.lin1 = linear(dim, hidden, rngs)
        self.lin2 = linear(hidden, dim, rngs)

    def __call__(self, x: Float[Array, "*n dim"]) -> Float[Array, "*n dim"]:
        """Applies both layers to the last axis."""
        return self.lin2(jax.nn.relu(self.lin1(x)))


class PatchConv(nnx.Module):
    """A convolution whose stride is its size, so that it is one product for each patch."""

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (size, size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "H W c"]) -> Float[Array, "h w o"]:
        """``y[i, j, o] = sum_abc x[s i + a, s j + b, c] kernel[a, b, c, o] + bias[o]``."""
        size = self.kernel.shape[0]
        height, width, channels = x.shape
        patches = x.reshape(height // size, size, width // size, size, channels)
        return jnp.einsum("iajbc,abco->ijo", patches, self.kernel[...], precision=PRECISION) + self.bias[...]


class Doubling(nnx.Module):
    """The transposed convolution of size and stride 2: every pixel becomes four, which do not overlap."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.lecun_normal(in_axis=0, out_axis=-1)
        self.kernel = nnx.Param(init(rngs.params(), (inputs, 2, 2, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "2*h 2*w o"]:
        """``y[2 i + a, 2 j + b, o] = sum_c x[i, j, c] kernel[c, a, b, o] + bias[o]``."""
        height, width, _ = x.shape
        y = jnp.einsum("ijc,cabo->iajbo", x, self.kernel[...], precision=PRECISION) + self.bias[...]
        return y.reshape(2 * height, 2 * width, -1)
