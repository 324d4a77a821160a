"""The layers of a frozen convolutional network; one picture, channels last, nothing that is trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax.models.sam.layers import PRECISION, Buffer

_EPSILON = 1e-5  # of every norm, torch's default


class FrozenConv(nnx.Module):
    """A convolution with zeros beyond the border, as many on either side.

    Attributes:
        weight: ``[size, size, inputs, outputs]``.
        bias: ``[outputs]``, or ``None``.
        stride: Cells from one output to the next.
        dilation: Cells from one tap to the next.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        self.weight = Buffer(jnp.zeros((size, size, inputs, outputs)))
        self.bias = Buffer(jnp.zeros(outputs)) if bias else None
        self.stride, self.dilation = stride, dilation

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "H W o"]:
        """An output for every ``stride`` cells, the first of them on the first cell."""
        size = self.weight.shape[0]
        # Not "SAME": with a stride that pads more at the end than at the start.
        margin = self.dilation * (size // 2)
        y = jax.lax.conv_general_dilated(
            x[None],
            self.weight[...],
            (self.stride, self.stride),
            [(margin, margin)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=PRECISION,
        )[0]
        return y if self.bias is None else y + self.bias[...]


class FrozenNorm(nnx.Module):
    """A BatchNorm with the statistics of its training: ``(x - mean) / sqrt(var + 1e-5) * weight + bias``."""

    def __init__(self, channels: int) -> None:
        self.weight = Buffer(jnp.ones(channels))
        self.bias = Buffer(jnp.zeros(channels))
        self.running_mean = Buffer(jnp.zeros(channels))
        self.running_var = Buffer(jnp.ones(channels))

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """The cells, each channel scaled and shifted."""
        scale = self.weight[...] / jnp.sqrt(self.running_var[...] + _EPSILON)
        return x * scale + (self.bias[...] - self.running_mean[...] * scale)


def max_pool(x: Float[Array, "h w c"], size: int, *, before: int, after: int) -> Float[Array, "H W c"]:
    """The greatest of every window of ``size`` squared, at a stride of 2.

    Args:
        x: Cells.
        size: Of a window.
        before: Cells beyond the first that windows reach; these count as minus infinity.
        after: The same beyond the last.
    """
    margins = ((before, after), (before, after), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (size, size, 1), (2, 2, 1), margins)


def resize_to_corners(x: Float[Array, "h w c"], height: int, width: int) -> Float[Array, "H W c"]:
    """Bilinear interpolation that keeps the corner cells in place (torch's ``align_corners=True``)."""
    rows, columns = corner_weights(x.shape[0], height), corner_weights(x.shape[1], width)
    return jnp.einsum("Hh,Ww,hwc->HWc", rows, columns, x, precision=PRECISION)


def corner_weights(length: int, count: int) -> Float[np.ndarray, "count length"]:
    """Weights of ``length`` cells at ``count`` evenly spaced places, from the first cell to the last."""
    places = np.linspace(0, length - 1, count)
    nearness = 1 - np.abs(places[:, None] - np.arange(length))
    weights: Float[np.ndarray, "count length"] = np.maximum(nearness, 0).astype(np.float32)
    return weights
