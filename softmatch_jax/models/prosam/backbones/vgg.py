"""VGG-16 with BatchNorm (Simonyan and Zisserman, ICLR 2015) as VRP-SAM cuts it, before the last pool."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax.models.prosam.backbones.frozen_layers import (
    FrozenConv,
    FrozenNorm,
    max_pool,
    resize_to_corners,
)

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of layers 0 to 4."""

STARTS = (0, 7, 14, 24, 34)
"""Where each layer begins among torch's ``features``, where a convolution, its norm and its ReLU count each,
and so does the pool at the end of a layer."""


class Vgg16(nnx.Module):
    """Layers 2 and 3 at stride 16. All arrays are frozen; new ones are blank, to be filled by a checkpoint.

    Attributes:
        stride: Pixels along the side of a cell.
        mid: Channels of layer 2.
        channels: Channels of layer 3.
        features: Convolutions and norms by their number in torch's sequence.
    """

    stride = 16
    mid, channels = 256, 512

    def __init__(self) -> None:
        made: dict[str, nnx.Module] = {}
        inputs = 3
        for start, widths in zip(STARTS, _WIDTHS, strict=True):
            for index, width in enumerate(widths):
                made[str(start + 3 * index)] = FrozenConv(inputs, width, 3, bias=True)
                made[str(start + 3 * index + 1)] = FrozenNorm(width)
                inputs = width
        self.features = nnx.Dict(made)

    def __call__(self, pixels: Float[Array, "H W 3"]) -> Float[Array, "h w 768"]:
        """Layers 2 and 3 of a standardised picture side by side, layer 2 brought to the grid of layer 3."""
        middle = _pool(self._layer(2, _pool(self._layer(1, _pool(self._layer(0, pixels))))))
        last = _pool(self._layer(3, middle))
        return jnp.concatenate([resize_to_corners(middle, *last.shape[:2]), last], axis=-1)

    def deepen(self, x: Float[Array, "h w 512"]) -> Float[Array, "h w 512"]:
        """Layer 4 of the output of layer 3."""
        return self._layer(4, x)

    def _layer(self, number: int, x: Float[Array, "h w c"]) -> Float[Array, "h w o"]:
        """The convolutions of a layer, without its pool."""
        for index in range(len(_WIDTHS[number])):
            place = STARTS[number] + 3 * index
            conv, norm = self.features[str(place)], self.features[str(place + 1)]
            x = jax.nn.relu(norm(conv(x)))
        return x


def _pool(x: Float[Array, "h w c"]) -> Float[Array, "H W c"]:
    # An odd row or column at the end is a window of its own (torch's ceil_mode).
    return max_pool(x, 2, before=0, after=1)
