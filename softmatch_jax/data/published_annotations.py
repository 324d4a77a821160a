"""Reference annotations made from masks as the code of VRP-SAM does, on which ProSAM builds.

They are made on pictures squashed to 512x512. The encoder then sees them on the grid of its features, 64x64
for a ResNet, through PyTorch's ``nearest``, which looks at one pixel of each 64: a point survives with
probability 1/64, and with the 20 points of the published test none does in ``(63/64)**20``, 73%, of all
episodes. The reference then says nothing at all. This is part of the published numbers, so it is offered
beside sound ways.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias, get_args

import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax._types import Map, Mask, Size
from softmatch_jax.data.strokes import RAND_CURVE, RAND_CURVE_SMALL, Brush, RandomStream, draw_strokes
from softmatch_jax.prompting.rasterise import bounding_box, check_size, fill_box

AnnotationKind: TypeAlias = Literal["mask", "scribble", "box", "point"]
"""What the papers annotate references with."""

_MOST = 20  # points or strokes
_TEST_SEED = 321  # of the number and the preset of strokes in tests
_BRUSHES = (RAND_CURVE, RAND_CURVE_SMALL)


def published_annotation(
    mask: Mask, kind: AnnotationKind, *, rng: RandomStream, training: bool = False
) -> Mask:
    """Annotates an object as the published code does.

    - ``mask``: the object itself.
    - ``box``: its tight box, filled.
    - ``point``: single pixels of it, 20 or as many as it has; in training a uniform number up to that.
    - ``scribble``: strokes, cut along its outline; see :mod:`softmatch_jax.data.strokes`. In tests the preset
      and the number come from Python's generator, seeded afresh with 321 for each: ``rand_curve`` and, for 20
      pixels or more, 9 strokes. In training either preset, and a uniform number up to 20 or the number of
      pixels.

    Where a training batch has several references, the published code draws preset and number once for all of
    them, bounded by their pixels together; here they are drawn for each.

    Args:
        mask: ``bool [H, W]``, the object; the published size is 512x512.
        kind: What to make.
        rng: Where the randomness comes from; advanced. Not used for ``mask`` and ``box``.
        training: Whether to draw as in training; else as in tests.

    Returns:
        ``bool [H, W]``, the annotated pixels; within the object but for ``box``. Scribbles on a small object
        may miss it altogether.

    Raises:
        InputError: The mask is empty (the published code crashes, or has an empty box) or not
            ``bool [H, W]``, or the kind is unknown.
    """
    check_kind(kind)
    check_mask("mask", mask)
    area = int(np.count_nonzero(mask))
    if area == 0:
        raise InputError("mask is empty; expected at least one pixel of the object to annotate.")
    most = min(_MOST, area)
    match kind:
        case "mask":
            return mask.copy()
        case "box":
            return fill_box(bounding_box(mask), (mask.shape[0], mask.shape[1]))
        case "point":
            return _pixels(mask, _uniform(most, rng) if training else most, rng)
        case "scribble":
            brush, count = _training_strokes(most, rng) if training else _test_strokes(most)
            return draw_strokes(mask, count, brush, rng)


def check_kind(kind: str) -> None:
    """Raises ``InputError`` unless ``kind`` is an :data:`AnnotationKind`."""
    kinds = get_args(AnnotationKind)
    if kind not in kinds:
        raise InputError(f"The annotation kind is {kind!r}; expected one of {', '.join(map(repr, kinds))}.")


def to_feature_grid(
    annotation: Mask, size: Size = (64, 64), *, mode: Literal["nearest", "area", "any"]
) -> Map:
    """Brings annotated pixels to the grid of an encoder's features.

    Cell ``i`` of ``h`` covers ``[i H / h, (i + 1) H / h)`` of the ``H`` pixel rows, and so for columns.

    Args:
        annotation: ``bool [H, W]``.
        size: ``(h, w)`` of the grid.
        mode: ``nearest`` looks at pixel ``floor(i H / h)`` alone, as published: what lies elsewhere is lost.
            ``area`` is the annotated share of the cell; ``any`` is 1 where that is above 0.

    Returns:
        ``float32 [h, w]`` in 0..1.

    Raises:
        InputError: ``annotation`` is not ``bool [H, W]`` with a pixel, ``size`` is not positive, or the mode
            is unknown.
    """
    check_mask("annotation", annotation)
    check_size((annotation.shape[0], annotation.shape[1]))
    check_size(size)
    if mode == "nearest":
        return resize_nearest(annotation, size).astype(np.float32)
    if mode not in ("area", "any"):
        raise InputError(f"mode is {mode!r}; expected 'nearest', 'area' or 'any'.")
    rows, columns = (_overlaps(new, old) for new, old in zip(size, annotation.shape, strict=True))
    # Whole numbers all along, so that the sums are exact.
    covered = rows @ annotation.astype(np.float64) @ columns.T
    return (covered > 0 if mode == "any" else covered / annotation.size).astype(np.float32)


def resize_nearest(mask: Mask, size: Size) -> Mask:
    """Resizes as PyTorch's ``nearest``: row ``i`` of ``h`` is row ``floor(i H / h)``, which is not centred.

    Args:
        mask: ``bool [H, W]``, at least one pixel.
        size: ``(h, w)``.
    """
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def _overlaps(cells: int, pixels: int) -> np.ndarray:
    """Returns how much of each cell is in each pixel, ``[cells, pixels]``; a cell adds up to ``pixels``."""
    cell, pixel = np.arange(cells)[:, None] * pixels, np.arange(pixels)[None, :] * cells
    overlap = np.minimum(cell + pixels, pixel + cells) - np.maximum(cell, pixel)
    return np.maximum(overlap, 0).astype(np.float64)


def _pixels(mask: Mask, count: int, rng: RandomStream) -> Mask:
    """Returns ``count`` different pixels of a mask."""
    inside = np.flatnonzero(mask)
    chosen = np.zeros(mask.size, np.bool_)
    chosen[inside[rng.permutation(len(inside))[:count]]] = True
    return chosen.reshape(mask.shape)


def _test_strokes(most: int) -> tuple[Brush, int]:
    """Returns the brush and the number of strokes in tests: each is the first draw of a fresh generator."""
    brush = random.Random(_TEST_SEED).choices(_BRUSHES)[0]
    return brush, random.Random(_TEST_SEED).randint(1, most)


def _training_strokes(most: int, rng: RandomStream) -> tuple[Brush, int]:
    """Returns the brush and the number of strokes in training."""
    return _BRUSHES[_uniform(2, rng) - 1], _uniform(most, rng)


def _uniform(most: int, rng: RandomStream) -> int:
    """Draws from ``1..most``; every whole number is as likely."""
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    return int(draw(1, most + 1))
