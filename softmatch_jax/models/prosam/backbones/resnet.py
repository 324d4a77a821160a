"""The ResNet-50 of VRP-SAM and ProSAM: three small convolutions at its start, dilated at its end.

It comes from PSPNet's code by way of PFENet (He et al., CVPR 2016, in the variant that has the stride on the
3 x 3 convolution). Its modules and arrays bear the names of that code's checkpoints.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax.models.prosam.backbones.frozen_layers import FrozenConv, FrozenNorm, max_pool

_EXPANSION = 4  # channels of a block's output to its width


class Bottleneck(nnx.Module):
    """``relu(shortcut(x) + f(x))``, f three convolutions of 1, 3 and 1 cells with norms."""

    def __init__(self, inputs: int, width: int, *, stride: int, dilation: int) -> None:
        outputs = _EXPANSION * width
        self.conv1, self.bn1 = FrozenConv(inputs, width, 1), FrozenNorm(width)
        self.conv2 = FrozenConv(width, width, 3, stride=stride, dilation=dilation)
        self.bn2 = FrozenNorm(width)
        self.conv3, self.bn3 = FrozenConv(width, outputs, 1), FrozenNorm(outputs)
        shortcut = [FrozenConv(inputs, outputs, 1, stride=stride), FrozenNorm(outputs)]
        self.downsample = nnx.List(shortcut) if inputs != outputs else None

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "H W o"]:
        """The cells after the block."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            conv, norm = self.downsample
            x = norm(conv(x))
        return jax.nn.relu(x + y)


class DilatedResNet50(nnx.Module):
    """Layers 2, 3 and 4 at stride 8. All arrays are frozen; new ones are blank, to be filled by a checkpoint.

    Attributes:
        stride: Pixels along the side of a cell.
        mid: Channels of layer 2.
        channels: Channels of layer 3.
    """

    stride = 8
    mid, channels = 512, 1024

    def __init__(self) -> None:
        self.conv1, self.bn1 = FrozenConv(3, 64, 3, stride=2), FrozenNorm(64)
        self.conv2, self.bn2 = FrozenConv(64, 64, 3), FrozenNorm(64)
        self.conv3, self.bn3 = FrozenConv(64, 128, 3), FrozenNorm(128)
        self.layer1 = _layer(128, 64, 3)
        self.layer2 = _layer(256, 128, 4, stride=2)
        self.layer3 = _layer(512, 256, 6, dilations=(1, 2))
        self.layer4 = _layer(1024, 512, 3, dilations=(2, 4))

    def __call__(self, pixels: Float[Array, "H W 3"]) -> Float[Array, "h w 1536"]:
        """Layers 2 and 3 of a standardised picture, side by side."""
        x = pixels
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = jax.nn.relu(norm(conv(x)))
        x = _run(self.layer1, max_pool(x, 3, before=1, after=1))
        middle = _run(self.layer2, x)
        return jnp.concatenate([middle, _run(self.layer3, middle)], axis=-1)

    def deepen(self, x: Float[Array, "h w 1024"]) -> Float[Array, "h w 2048"]:
        """Layer 4 of the output of layer 3."""
        return _run(self.layer4, x)


def _layer(
    inputs: int, width: int, blocks: int, *, stride: int = 1, dilations: tuple[int, int] = (1, 1)
) -> nnx.List[Bottleneck]:
    """Blocks in a row; the first has the stride, and the first of ``dilations``, that of the layer before."""
    first, others = dilations
    made = Bottleneck(inputs, width, stride=stride, dilation=first)
    rest = (Bottleneck(_EXPANSION * width, width, stride=1, dilation=others) for _ in range(blocks - 1))
    return nnx.List([made, *rest])


def _run(layer: nnx.List[Bottleneck], x: Float[Array, "h w c"]) -> Float[Array, "H W o"]:
    for block in layer:
        x = block(x)
    return x
