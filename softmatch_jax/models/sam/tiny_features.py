"""Patch features of the tiny model's image encoder, alone or joined with another extractor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.models.preprocessing import PREPROCESSING, check_images
from softmatch_jax.models.protocols import FeatureExtractor, PatchFeatures
from softmatch_jax.models.sam.tiny_encoder import TinyFeatures
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.prompting import PatchGrid

Level: TypeAlias = Literal["embedding", "fine"]
"""The embedding at stride 16, or at stride 8 the embedding beside the features of that stride."""

_STRIDES: dict[Level, int] = {"embedding": 16, "fine": 8}


class TinyFeaturesExtractor:
    """The tiny model's :class:`~softmatch_jax.models.FeatureExtractor`.

    Attributes:
        network: The model; a mask generator may share it.
        level: Which features.
    """

    def __init__(self, network: TinyNetwork, level: Level = "fine") -> None:
        """Takes a network over.

        Raises:
            InputError: There is no such level.
        """
        if level not in _STRIDES:
            raise InputError(f"level is {level!r}; expected {' or '.join(get_args(Level))}.")
        self.network, self.level = network, level

    @property
    def name(self) -> str:
        """Weights and settings in one line."""
        made = f"size={self.network.config.image_size}, preprocessing={PREPROCESSING}"
        return f"tiny-sam-features({self.network.source}, {self.level}, {made})"

    @property
    def dim(self) -> int:
        """Number of feature dimensions."""
        config = self.network.config
        return config.dim + (config.upscaled[0] if self.level == "fine" else 0)

    def grid(self, image_size: Size) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``."""
        stride = _STRIDES[self.level]
        return PatchGrid(
            image_size=image_size,
            # A sliver thinner than a patch is stretched to one, so that it has a patch at all.
            input_size=self.network.content(image_size, least=stride),
            stride=stride,
            offset=stride / 2,
            shape=(self.network.config.image_size // stride,) * 2,
        )

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``.
        """
        array = check_images(images)
        grid = self.grid((array.shape[1], array.shape[2]))
        made = [self.network.encode(image, grid.input_size) for image in array]
        level = _embedding if self.level == "embedding" else _fine
        return PatchFeatures(jnp.stack([level(features) for features in made]), grid.valid(), grid)


@dataclass(frozen=True)
class JoinedFeatures:
    r"""Two extractors' features side by side, on the finer of their grids.

    With features of unit norm and ``w`` the weight, the cosine of two joined ones is
    :math:`(1 - w) \cos_1 + w \cos_2`. Whitening takes the scale of channels away, and the weight with it.

    Attributes:
        first: An extractor.
        second: Another.
        weight: Of the second, in ``[0, 1]``.

    Raises:
        InputError: The weight is no share.
    """

    first: FeatureExtractor
    second: FeatureExtractor
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"JoinedFeatures.weight is {self.weight}; expected a share in [0, 1].")

    @property
    def name(self) -> str:
        """Both extractors and the weight in one line."""
        return f"joined({self.first.name}, {self.second.name}, weight={self.weight:g})"

    @property
    def dim(self) -> int:
        """Number of feature dimensions."""
        return self.first.dim + self.second.dim

    def grid(self, image_size: Size) -> PatchGrid:
        """The finer grid for pictures of ``image_size`` ``(H, W)``; of equals the first extractor's."""
        return max((each.grid(image_size) for each in (self.first, self.second)), key=_patches)

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size; the coarser ones are interpolated bilinearly.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``.
        """
        both = [self.first(images), self.second(images)]
        fine = max((features.grid for features in both), key=_patches)
        shares = (1 - self.weight, self.weight)
        parts = []
        for features, share in zip(both, shares, strict=True):
            values = _unit(features.values)
            if features.grid != fine:
                values = _moved(values, *_interpolation(features.grid, fine))
            parts.append(np.float32(np.sqrt(share)) * values)
        return PatchFeatures(jnp.concatenate(parts, axis=-1), fine.valid(), fine)


def _patches(grid: PatchGrid) -> int:
    return grid.shape[0] * grid.shape[1]


def _interpolation(
    coarse: PatchGrid, fine: PatchGrid
) -> tuple[Float[np.ndarray, "H h"], Float[np.ndarray, "W w"]]:
    """Weights of the coarse rows for every fine row, likewise of columns; constant beyond the outermost."""
    made = []
    for axis, valid in enumerate(coarse.valid_slices()):
        original = (fine.offset + fine.stride * np.arange(fine.shape[axis])) / fine.input_size[axis]
        cells = (original * coarse.input_size[axis] - coarse.offset) / coarse.stride
        cells = np.clip(cells, valid.start, valid.stop - 1)
        nearness = 1 - np.abs(cells[:, None] - np.arange(coarse.shape[axis]))
        made.append(np.maximum(nearness, 0).astype(np.float32))
    rows, columns = made
    return rows, columns


@jax.jit
def _moved(values: Array, rows: Array, columns: Array) -> Float[Array, "B H W d"]:
    """Features of unit norm on another grid."""
    return _unit(jnp.einsum("ri,cj,bijd->brcd", rows, columns, values, precision="highest"))


@jax.jit
def _embedding(features: TinyFeatures) -> Float[Array, "h w dim"]:
    side = features.fine.double.shape[0] // 2
    return _unit(features.rows.reshape(side, side, -1))


@jax.jit
def _fine(features: TinyFeatures) -> Float[Array, "2*h 2*w d"]:
    coarse = _embedding(features)
    large = jax.image.resize(coarse, (2 * len(coarse), 2 * len(coarse), coarse.shape[-1]), "bilinear")
    return jnp.concatenate([_unit(large), _unit(features.fine.double)], axis=-1)


@jax.jit
def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
