"""Views of a picture and of its label map: which part, turned and mirrored how, in which colours.

Everything is drawn from a generator that is handed in, so that a view is a function of its state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from softmatch_jax._types import Image, Size
from softmatch_jax.training.region_config import Colours, Framing

Labels: TypeAlias = np.ndarray[Any, np.dtype[np.uint16]]
"""A region for every pixel, ``uint16 [H, W]``; 0 is no region."""

_Matrix: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601


@dataclass(frozen=True)
class View:
    """A rectangle of a picture, and what is done to it.

    Attributes:
        x: Left edge in pixels of the picture.
        y: Top edge.
        width: In pixels of the picture.
        height: In pixels of the picture.
        side: Of the square it is fitted into, in pixels; a multiple of 2.
        scale: Pixels of the square for one of the picture.
        mirrored: Left to right.
        upside_down: Top to bottom.
        angle: In degrees, anticlockwise, about the centre.
    """

    x: int
    y: int
    width: int
    height: int
    side: int
    scale: float
    mirrored: bool = False
    upside_down: bool = False
    angle: float = 0.0

    @property
    def content(self) -> Size:
        """``(height, width)`` of the picture in the square; even, so that half of it is whole too."""
        return (self._even(self.height), self._even(self.width))

    def _even(self, length: int) -> int:
        return min(self.side, max(2, 2 * round(length * self.scale / 2)))

    def cut(self, image: Image) -> Image:
        """The view of a picture, ``uint8 [*content, 3]``."""
        part = np.ascontiguousarray(image[self.y : self.y + self.height, self.x : self.x + self.width])
        part = self._turned(part, cv2.INTER_LINEAR, cv2.BORDER_REFLECT)
        shrinks = self.scale < 1
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return self._mirror(cv2.resize(part, self.content[::-1], interpolation=method))

    def cut_labels(self, labels: Labels, size: Size) -> Labels:
        """The view of a label map by the nearest pixels, ``uint16`` of ``size`` ``(H, W)``."""
        part = np.ascontiguousarray(labels[self.y : self.y + self.height, self.x : self.x + self.width])
        part = self._turned(part, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
        return self._mirror(cv2.resize(part, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))

    def _turned(self, part: Any, method: int, border: int) -> Any:
        if not self.angle:
            return part
        # OpenCV puts pixel centres at whole numbers.
        centre = ((self.width - 1) / 2, (self.height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, self.angle, 1.0)
        return cv2.warpAffine(part, matrix, (self.width, self.height), flags=method, borderMode=border)

    def _mirror(self, array: Any) -> Any:
        if not (self.mirrored or self.upside_down):
            return array
        return cv2.flip(array, -1 if self.mirrored and self.upside_down else int(self.mirrored))


def draw_view(
    rng: np.random.Generator,
    size: Size,
    side: int,
    framing: Framing,
    aim: tuple[int, int] | None = None,
) -> View:
    """Draws a view of a picture.

    Args:
        rng: Decides.
        size: ``(height, width)`` of the picture.
        side: Of the square that the view is fitted into; a multiple of 2.
        framing: What to draw.
        aim: A pixel ``(x, y)`` that the view must show.
    """
    shorter, longer = min(size), max(size)
    low = min(framing.smallest * shorter, longer)
    whole = rng.random() < framing.whole
    length = round(math.exp(rng.uniform(math.log(low), math.log(longer))))  # drawn either way
    length = longer if whole else max(1, length)
    height, width = min(length, size[0]), min(length, size[1])
    return View(
        x=_start(rng, size[1], width, aim and aim[0]),
        y=_start(rng, size[0], height, aim and aim[1]),
        width=width,
        height=height,
        side=side,
        scale=side / length,
        mirrored=bool(rng.random() < framing.mirrored),
        upside_down=bool(rng.random() < framing.upside_down),
        angle=float(rng.uniform(-framing.turned, framing.turned)) if framing.turned else 0.0,
    )


def _start(rng: np.random.Generator, whole: int, part: int, aim: int | None) -> int:
    """Where a stretch of ``part`` pixels begins in one of ``whole``, so that it covers ``aim``."""
    low, high = 0, whole - part
    if aim is not None:
        low, high = max(low, aim - part + 1), min(high, aim)
    return int(rng.integers(low, high + 1))


def recolour(rng: np.random.Generator, image: Image, colours: Colours) -> Image:
    """Draws other colours for a picture: one affine map of all of them, then blur and noise.

    Args:
        rng: Decides.
        image: ``uint8 [H, W, 3]``.
        colours: What to draw.

    Returns:
        ``uint8 [H, W, 3]``; values beyond 0..255 are clipped.
    """
    image = cv2.transform(image, _colour_map(rng, colours).astype(np.float32))
    if rng.random() < colours.blurred:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0))
    if rng.random() < colours.noisy:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(1.0, 8.0)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    return image


def _colour_map(rng: np.random.Generator, colours: Colours) -> _Matrix:
    """``[3, 4]``: hue and saturation about the grey axis, then contrast about mid-grey, then brightness."""
    hue = 2 * math.pi * rng.uniform(-colours.hue, colours.hue)
    saturation = 1 + rng.uniform(-colours.saturation, colours.saturation)
    contrast = 1 + rng.uniform(-colours.contrast, colours.contrast)
    brightness = 255 * rng.uniform(-colours.brightness, colours.brightness)
    if rng.random() < colours.grey:
        saturation = 0.0
    grey = np.tile(_LUMA, (3, 1))  # maps a colour to the grey of its luma
    turned = (np.eye(3) - grey) @ _about_grey(hue) @ (np.eye(3) - grey)
    linear = contrast * (grey + saturation * turned)
    return np.column_stack([linear, np.full(3, 127.5 * (1 - contrast) + brightness)])


def _about_grey(angle: float) -> _Matrix:
    """The rotation ``[3, 3]`` about the axis of the greys (Rodrigues)."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
