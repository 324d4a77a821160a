"""Free-form strokes on an object, as VRP-SAM and ProSAM draw their scribbles.

The generator is that of Yu et al., *Free-Form Image Inpainting with Gated Convolution* (2019), in the form
that VRP-SAM took over from SEEM: a stroke is made for a first frame of a film, moved a little for a second
one, and only the second is used. The strokes know nothing of the object but where they start, so they are
cut along its outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL import ImageDraw

from softmatch_jax._checks import InputError, check_mask, check_shape
from softmatch_jax._types import Mask, Size
from softmatch_jax.prompting.rasterise import check_size

RandomStream: TypeAlias = np.random.Generator | np.random.RandomState
"""A NumPy generator of either kind; the published code uses the older one."""

Vertices: TypeAlias = Float[np.ndarray, "vertices 2"]

_MOVED = 0.5  # share of the vertices that move by themselves in the second frame


@dataclass(frozen=True, kw_only=True)
class Brush:
    """A way to draw a stroke; lengths in pixels of a 512x512 picture, angles in radians.

    Attributes:
        widths: Of the pen, ``[low, high)``.
        turns: How many vertices follow the first, ``[low, high)``.
        top_speed: Longest step from one vertex to the next; the speed starts in ``[0, top_speed)``.
        acceleration: Greatest change of speed from step to step.
        turning: Greatest change of direction from step to step.
        drift: Twice the deviation of how far the whole stroke moves in the second frame.
        jitter: By how much a moved vertex moves along each axis, ``[low, high)``.
    """

    widths: tuple[int, int]
    turns: tuple[int, int]
    top_speed: float
    acceleration: float
    turning: float
    drift: float
    jitter: tuple[int, int]


RAND_CURVE = Brush(
    widths=(3, 10), turns=(10, 30), top_speed=20, acceleration=15, turning=0.5, drift=6, jitter=(-3, 3)
)
"""The preset ``rand_curve``."""

# Upstream has fractions here, 2.5 to 5 and -1.5 to 1.5, which NumPy truncates towards zero.
RAND_CURVE_SMALL = Brush(
    widths=(2, 5), turns=(6, 22), top_speed=12, acceleration=8, turning=0.5, drift=3, jitter=(-1, 1)
)
"""The preset ``rand_curve_small``."""


def draw_strokes(mask: Mask, count: int, brush: Brush, rng: RandomStream) -> Mask:
    """Draws strokes that start at random pixels of an object, and keeps what is inside it.

    Equal in distribution to the published annotation. The starts are drawn first and from the same stream as
    the strokes; upstream they come from PyTorch's generator, so for equal pixels give its starts to
    :func:`strokes_from`.

    Args:
        mask: ``bool [H, W]``, the object.
        count: Number of strokes; no more than the object has pixels are drawn.
        brush: How a stroke is drawn.
        rng: Where all randomness comes from; advanced.

    Returns:
        ``bool [H, W]``, inside the object. Empty where every stroke drifts off a small object.

    Raises:
        InputError: The mask is empty or not ``bool [H, W]``, or ``count`` is below 1.
    """
    check_mask("mask", mask)
    if not mask.any():
        raise InputError("mask is empty; expected at least one pixel of the object to draw on.")
    if count < 1:
        raise InputError(f"count is {count}; expected at least 1 stroke.")
    inside = np.flatnonzero(mask)
    pixels = rng.permutation(len(inside))[:count]
    width = mask.shape[1]
    # The row is the true quotient upstream: a start lies lower in its pixel the farther right it is.
    starts = np.stack([inside[pixels] % width, inside[pixels] / width], axis=1)
    strokes: Mask = strokes_from(starts, (mask.shape[0], width), brush, rng) & mask
    return strokes


def strokes_from(starts: Float[np.ndarray, "n 2"], size: Size, brush: Brush, rng: RandomStream) -> Mask:
    """Draws one stroke from each start, wherever they lead.

    Stream-exact: with NumPy's older generator in the same state, and the same starts, the vertices are those
    of VRP-SAM's code, and so are the pixels as far as versions of Pillow draw lines alike.

    Args:
        starts: ``[N, 2]`` positions ``(x, y)``. A vertex at an integer is at the centre of a pixel, as Pillow
            has it.
        size: ``(height, width)`` of the picture; strokes may leave it.
        brush: How a stroke is drawn.
        rng: Where all randomness comes from; advanced.

    Returns:
        ``bool [H, W]``.

    Raises:
        InputError: ``starts`` or ``size`` is of another shape.
    """
    check_shape("starts", starts, (None, 2), "N, (x, y)")
    check_size(size)
    # All strokes of the first frame are drawn before any is moved, which settles the order of the stream.
    first = [_stroke(start, brush, rng) for start in starts]
    second = [(_moved(vertices, shift, brush, rng), width) for vertices, shift, width in first]
    canvas = PIL.Image.new("1", size[::-1])
    for vertices, width in second:
        _paint(canvas, vertices, width)
    return np.array(canvas)


def _stroke(
    start: Float[np.ndarray, " xy"], brush: Brush, rng: RandomStream
) -> tuple[Vertices, tuple[int, int], int]:
    """Returns the vertices of a new stroke, the shift ``(x, y)`` to its second frame, and its width."""
    width = int(_integers(rng, brush.widths)[0])
    turns = int(_integers(rng, brush.turns)[0])
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, brush.top_speed)
    vertices = [np.asarray(start, np.float64)]
    for _ in range(turns):
        speed = np.clip(speed + rng.uniform(-brush.acceleration, brush.acceleration), 0, brush.top_speed)
        angle = angle + rng.uniform(-brush.turning, brush.turning)
        vertices.append(vertices[-1] + speed * np.array([np.sin(angle), np.cos(angle)]))
    distance, heading = abs(rng.normal(0, brush.drift / 2)), rng.uniform(0, 2 * np.pi)
    shift = int(distance * np.cos(heading)), int(distance * np.sin(heading))
    return np.array(vertices), shift, width


def _moved(vertices: Vertices, shift: tuple[int, int], brush: Brush, rng: RandomStream) -> Vertices:
    """Returns a stroke in its second frame: shifted as a whole, and some vertices by themselves."""
    rng.normal(size=2)  # the velocity of a third frame, which nobody draws
    moving = rng.permutation(len(vertices))[: int(len(vertices) * _MOVED)]
    moved = vertices + shift
    moved[moving] += _integers(rng, brush.jitter, 2 * len(moving)).reshape(-1, 2)
    return moved


def _paint(canvas: PIL.Image.Image, vertices: Vertices, width: int) -> None:
    """Draws a stroke as line segments with discs at their ends, narrower than the line."""
    pen, radius = ImageDraw.Draw(canvas), width // 2 - 1
    points = [(x, y) for x, y in vertices.tolist()]
    # One segment at a time: a line of many would get other joints.
    for start, end in pairwise(points):
        pen.line((start, end), fill=1, width=width)
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


def _integers(rng: RandomStream, bounds: tuple[int, int], count: int = 1) -> np.ndarray:
    """Draws integers in ``[low, high)``; the two kinds of generator have different names for it."""
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    return np.asarray(draw(*bounds, size=count))
