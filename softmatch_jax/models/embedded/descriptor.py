r"""A dense colour and gradient descriptor: the feature extractor that needs no weights.

Each patch is described by what a person would name first: its colour, how much the colour varies,
and how strongly the brightness changes in each direction, at several scales. Every one of these is a
Gaussian-weighted mean over the neighbourhood of the patch centre, and a Gaussian is separable, so a
whole channel is pooled by two small matrix products, ``rows @ channel @ columns.T``. Padding gets
weight zero in these matrices, so a picture's edge is exact whatever canvas it lies on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.imaging import fit_longest, pad_image_edge, resize_image
from softmatch_jax.models.embedded.colour import srgb_to_lab
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.prompting import PatchGrid


@dataclass(frozen=True, kw_only=True)
class DescriptorConfig:
    """Settings of the dense descriptor; lengths are in pixels of the resized picture.

    Attributes:
        longest: Length the longer side is resized to. Every picture is padded to a square of this
            side, so one compilation serves all sizes.
        stride: Distance between patch centres; divides ``longest``.
        gradient_scale: Standard deviation of the Gaussian whose derivative measures the gradient.
        orientations: Directions over half a turn.
        pooling: Standard deviations of the neighbourhoods.
    """

    longest: int = 448
    stride: int = 4
    gradient_scale: float = 1.5
    orientations: int = 4
    pooling: tuple[float, ...] = (2.0, 4.0, 10.0)

    def __post_init__(self) -> None:
        if self.longest < 1 or self.stride < 1 or self.longest % self.stride:
            raise InputError(
                f"DescriptorConfig has longest={self.longest} and stride={self.stride}; expected "
                "positive numbers, the first a multiple of the second."
            )
        object.__setattr__(self, "pooling", tuple(self.pooling))
        if not self.pooling or self.orientations < 1:
            raise InputError(
                f"DescriptorConfig has pooling={self.pooling} and orientations={self.orientations}; "
                "expected at least one of each."
            )
        for sigma in (self.gradient_scale, *self.pooling):
            check_positive("DescriptorConfig.gradient_scale or pooling", sigma)

    @property
    def dim(self) -> int:
        """Colour, its deviation and the oriented gradients, at each scale."""
        return len(self.pooling) * (6 + self.orientations)


def _gaussian_rows(
    positions: Float[Array, " n"], length: int, content: Float[Array, ""], sigma: float
) -> Float[Array, "n length"]:
    """Gaussian weights of the pixels about each position; zero past ``content``, each row summing to 1."""
    centres = jnp.arange(length, dtype=positions.dtype) + 0.5
    logits = -0.5 * ((positions[:, None] - centres[None, :]) / sigma) ** 2
    return jax.nn.softmax(jnp.where(centres[None, :] < content, logits, -jnp.inf), axis=1)


def _derivative_rows(length: int, content: Float[Array, ""], sigma: float) -> Float[Array, "length length"]:
    """Derivative-of-Gaussian filter as a matrix: exact on ramps, zero on constants."""
    centres = jnp.arange(length, dtype=jnp.float32) + 0.5
    offset = centres[None, :] - centres[:, None]
    weights = _gaussian_rows(centres, length, content, sigma)
    mean = jnp.sum(weights * offset, axis=1, keepdims=True)
    variance = jnp.sum(weights * (offset - mean) ** 2, axis=1, keepdims=True)
    # Least-squares slope under Gaussian weights; in the interior this is the derivative of Gaussian.
    return weights * (offset - mean) / jnp.maximum(variance, 1e-6)


def _oriented_gradients(
    lightness: Float[Array, "H W"], content: Float[Array, " 2"], config: DescriptorConfig
) -> Float[Array, "k H W"]:
    """Square root of the gradient's magnitude times the cosine of its angle to each direction."""
    height, width = lightness.shape
    sigma = config.gradient_scale
    axis = partial(jnp.arange, dtype=jnp.float32)
    smooth_rows = _gaussian_rows(axis(height) + 0.5, height, content[0], sigma)
    smooth_columns = _gaussian_rows(axis(width) + 0.5, width, content[1], sigma)
    dy = _derivative_rows(height, content[0], sigma) @ lightness @ smooth_columns.T
    dx = smooth_rows @ lightness @ _derivative_rows(width, content[1], sigma).T
    angles = np.pi * np.arange(config.orientations, dtype=np.float32) / config.orientations
    along = [jnp.abs(dx * np.cos(a) + dy * np.sin(a)) for a in angles]
    # The root compresses: one hard edge should not outweigh a field of texture. Its slope at zero is
    # infinite, hence the small constant.
    return jnp.sqrt(jnp.stack(along) + 1e-4)


def describe(
    canvas: UInt8[Array, "H W 3"], content: Float[Array, " 2"], config: DescriptorConfig
) -> Float[Array, "h w d"]:
    """Describes every patch of one padded picture.

    Args:
        canvas: The resized picture in the top-left corner of the padded square.
        content: Its ``(height, width)`` within the canvas.
        config: Settings; static under ``jit``.

    Returns:
        ``[H / stride, W / stride, config.dim]``.
    """
    height, width = canvas.shape[:2]
    lab = srgb_to_lab(canvas.astype(jnp.float32) / 255) / 100
    colour = jnp.moveaxis(lab, -1, 0)
    gradients = _oriented_gradients(colour[0], content, config)
    rows, columns = (
        (jnp.arange(n // config.stride, dtype=jnp.float32) + 0.5) * config.stride for n in (height, width)
    )
    features = []
    for sigma in config.pooling:
        left = _gaussian_rows(rows, height, content[0], sigma)
        right = _gaussian_rows(columns, width, content[1], sigma)
        # The variance is a small difference of large numbers, which reduced precision would lose.
        pool = partial(jnp.matmul, precision="highest")
        mean = pool(pool(left[None], colour), right.T[None])
        square = pool(pool(left[None], colour * colour), right.T[None])
        deviation = jnp.sqrt(jnp.maximum(square - mean * mean, 0) + 1e-5)
        features += [mean, deviation, left[None] @ gradients @ right.T[None]]
    return jnp.moveaxis(jnp.concatenate(features), 0, -1)


@partial(jax.jit, static_argnames="config")
def _describe_batch(
    canvases: UInt8[Array, "B H W 3"], content: Float[Array, " 2"], config: DescriptorConfig
) -> Float[Array, "B h w d"]:
    return jax.vmap(lambda canvas: describe(canvas, content, config))(canvases)


@dataclass(frozen=True)
class DenseDescriptor:
    """The embedded :class:`~softmatch_jax.models.FeatureExtractor`.

    Attributes:
        config: Settings.
    """

    config: DescriptorConfig = field(default_factory=DescriptorConfig)

    @property
    def name(self) -> str:
        """Model and settings in one line."""
        return f"dense-descriptor({self.config})"

    @property
    def dim(self) -> int:
        """Number of feature dimensions."""
        return self.config.dim

    def grid(self, image_size: tuple[int, int]) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``."""
        longest, stride = self.config.longest, self.config.stride
        height, width = fit_longest(image_size, longest)
        return PatchGrid(
            image_size=image_size,
            # A sliver thinner than a patch is stretched to one, so that it has a patch at all.
            input_size=(max(height, stride), max(width, stride)),
            stride=stride,
            offset=stride / 2,
            shape=(longest // stride, longest // stride),
        )

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Describes pictures that share one size.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``.
        """
        array = np.asarray(images)
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise InputError(
                f"images is {array.dtype} {list(array.shape)}; expected a non-empty uint8 [B, H, W, 3] "
                "array (image[None] makes a batch of one)."
            )
        grid = self.grid(array.shape[1:3])
        square = (self.config.longest, self.config.longest)
        canvases = np.stack([pad_image_edge(resize_image(image, grid.input_size), square) for image in array])
        content = np.asarray(grid.input_size, np.float32)
        return PatchFeatures(_describe_batch(canvases, content, config=self.config), grid.valid(), grid)
