"""The convolutional image encoders as feature extractors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax._types import Image, Size
from softmatch_jax.models.checkpoint_files import Checkpoint
from softmatch_jax.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PREPROCESSING,
    check_images,
    explain_out_of_memory,
    normalise,
    resize_picture,
)
from softmatch_jax.models.prosam.backbones.conversion import (
    ConvKind,
    convert_backbone,
    find_weights,
    network_of,
    read_weights,
)
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.models.sam.static_graph import StaticGraph, split
from softmatch_jax.prompting import PatchGrid

SIZE = 512
"""Side in pixels to which VRP-SAM and ProSAM stretch pictures."""

_KNOBS = "lower the size"


@dataclass(frozen=True, eq=False)
class ConvFeatures:
    """A frozen ResNet-50 or VGG-16: layers 2 and 3 side by side, and layer 4 for the likeness.

    Made by :meth:`load`. Pictures are stretched to a square. Threads may share one.

    Attributes:
        kind: Which network.
        checkpoint: Where the weights come from.
        size: Side in pixels of the square.
        graph: The network's structure.
        state: Its weights.
        stride: Pixels of the square along the side of a cell.
        mid: Channels of layer 2, which come first; the rest are those of layer 3.
        dim: Channels of both.
    """

    kind: ConvKind
    checkpoint: Checkpoint
    size: int
    graph: StaticGraph = field(repr=False)
    state: Any = field(repr=False)
    stride: int
    mid: int
    dim: int

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        kind: ConvKind = "resnet50",
        revision: str | None = None,
        offline: bool | None = None,
        size: int = SIZE,
    ) -> ConvFeatures:
        """Loads weights of the hub, of a folder or of a file.

        Args:
            name: For instance ``"timm/resnet50s.gluon_in1k"``, ``resnet50_v2.pth``, a checkpoint of VRP-SAM,
                a safetensors file, or a folder with ``config.json`` and ``model.safetensors``.
            kind: Which network they are of.
            revision: Commit, tag or branch on the hub.
            offline: Whether to look at local files only.
            size: Side in pixels to which pictures are stretched, a multiple of the stride (8 and 16).

        Raises:
            InputError: The weights are of another network (all misfits are told), damaged or not found; the
                size does not suit the network.
        """
        made = network_of(kind).make
        if size < 1 or size % made.stride:
            raise InputError(
                f"size is {size}; expected a multiple of {made.stride}, the stride of {kind} "
                f"(published: {SIZE})."
            )
        checkpoint = find_weights(name, revision=revision, offline=offline)
        module = convert_backbone(kind, read_weights(checkpoint), where=checkpoint.name)
        graph, state = split(module)
        return cls(
            kind, checkpoint, size, graph, state, module.stride, module.mid, module.mid + module.channels
        )

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line."""
        return (
            f"{self.kind}({self.checkpoint.name}@{self.checkpoint.revision}, size={self.size}, "
            f"preprocessing={PREPROCESSING})"
        )

    def grid(self, image_size: Size) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``; cells begin at multiples of the stride."""
        return PatchGrid(
            image_size=image_size,
            input_size=(self.size, self.size),
            stride=self.stride,
            offset=self.stride / 2,
            shape=(self.size // self.stride,) * 2,
        )

    def pixels(self, image: Image) -> Float[np.ndarray, "size size 3"]:
        """A picture as the network takes it: stretched (bilinear, antialiased) and standardised."""
        square = resize_picture(image, (self.size, self.size), resample="bilinear")
        pixels: Float[np.ndarray, "size size 3"] = normalise(square[None], IMAGENET_MEAN, IMAGENET_STD)[0]
        return pixels.transpose(1, 2, 0)

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size, computed one after another.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``, or the memory is full.
        """
        array = check_images(images)
        grid = self.grid((array.shape[1], array.shape[2]))
        with explain_out_of_memory(self.checkpoint.name, _KNOBS):
            made = [_features(self.graph, self.state, self.pixels(image)) for image in array]
            return PatchFeatures(jnp.stack(made), grid.valid(), grid)

    def deepen(self, values: Float[Array, "h w c"], mask: Float[Array, "h w"] | None) -> Array:
        """Layer 4 of the layer 3 in ``values``; 2048 channels of a ResNet-50, 512 of a VGG-16.

        Args:
            values: Features of one picture, from :meth:`__call__`.
            mask: Of a reference, in 0..1: layer 3 is multiplied by it first. ``None`` for a target.

        Raises:
            InputError: ``values`` or ``mask`` has another shape, or the memory is full.
        """
        check_shape("values", values, (None, None, self.dim), "height, width, layers 2 and 3")
        last = jnp.asarray(values)[..., self.mid :]
        if mask is not None:
            check_shape("mask", mask, last.shape[:2], "that of the features")
            last = last * jnp.asarray(mask, last.dtype)[..., None]
        with explain_out_of_memory(self.checkpoint.name, _KNOBS):
            return _deepened(self.graph, self.state, last)


@partial(jax.jit, static_argnames="graph")
def _features(graph: StaticGraph, state: Any, pixels: Float[Array, "S S 3"]) -> Float[Array, "h w c"]:
    values: Array = graph.merge(state)(pixels)
    return values


@partial(jax.jit, static_argnames="graph")
def _deepened(graph: StaticGraph, state: Any, last: Float[Array, "h w c"]) -> Float[Array, "h w d"]:
    deeper: Array = graph.merge(state).deepen(last)
    return deeper
