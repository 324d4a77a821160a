"""Annotators: what an evaluation calls to annotate its references, as the papers do or soundly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.episodes import Truth
from softmatch_jax.data.published_annotations import (
    AnnotationKind,
    check_kind,
    published_annotation,
    resize_nearest,
    to_feature_grid,
)
from softmatch_jax.data.simulators import simulate_box, simulate_points, simulate_scribbles
from softmatch_jax.prompting import Annotation, Box, MaskAnnotation, fill_box, seeds

AnnotationMode: TypeAlias = Literal["published", "fixed"]
"""Whether references are annotated as the papers' code does, its quirks included, or soundly."""

_RASTER = (512, 512)
_GRID = (64, 64)
_STREAM = 0x616E6E6F  # sets these draws apart from others that are seeded with seed and index


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Annotates references from their truth, as a pure function of its arguments.

    ``published``: the reference as VRP-SAM's encoder sees it, used directly as a mask. The annotation is made
    at 512x512, brought to the 64x64 grid by PyTorch's ``nearest``, and every cell that is then marked stands
    for its whole square of the picture, whatever of the object is in it. Most points are lost on the way, and
    often all (see :mod:`softmatch_jax.data.published_annotations`). A ``mask`` is taken as it is.

    ``fixed``: the annotation as a person would give it, for the method to complete: the tight box, or a few
    points or strokes well inside the object, at the picture's own size.

    Attributes:
        kind: What references are annotated with.
        mode: In which way.
        points: Number of points in ``fixed`` mode.
        strokes: Number of strokes in ``fixed`` mode.

    Raises:
        InputError: The kind or the mode is unknown, or a number is below 1.
    """

    kind: AnnotationKind = "mask"
    mode: AnnotationMode = "published"
    points: int = 3
    strokes: int = 3

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if self.mode not in get_args(AnnotationMode):
            raise InputError(f"The annotation mode is {self.mode!r}; expected 'published' or 'fixed'.")
        for name in ("points", "strokes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1.")

    @property
    def name(self) -> str:
        """Kind and mode, such as ``scribble (published)``."""
        return f"{self.kind} ({self.mode})"

    def __call__(self, truth: Truth, *, seed: int, index: int, shot: int) -> Annotation | None:
        """Annotates one reference.

        Args:
            truth: Where the object is.
            seed: Of the evaluation.
            index: Of the episode.
            shot: Place of the reference in the episode.

        Returns:
            The annotation; ``None`` in ``published`` mode where nothing is left of it, so that the reference
            says nothing.

        Raises:
            InputError: A number is negative; or, in ``fixed`` mode, the object is empty.
        """
        rng = _generator(seed, index, shot)
        if self.mode == "published":
            return _published(truth.mask, self.kind, rng)
        if not truth.mask.any():
            raise InputError("The reference mask is empty; expected at least one pixel of the object.")
        key = jax.random.key(int(rng.integers(2**31)))
        match self.kind:
            case "mask":
                return MaskAnnotation(truth.mask)
            case "box":
                return simulate_box(truth.mask, key=key)
            case "point":
                return simulate_points(truth.mask, count=self.points, key=key)
            case "scribble":
                return simulate_scribbles(truth.mask, count=self.strokes, key=key)


@dataclass(frozen=True, kw_only=True)
class TrainingAnnotator:
    """Annotates references for the training of a prompt encoder, which is given pixels and nothing else.

    ``published``: as VRP-SAM's code draws in training, see
    :func:`softmatch_jax.data.published_annotations.published_annotation`; single pixels for points.

    ``fixed``: as a person would draw, and with the variety of people: a filled box whose sides are moved, and
    a random number of points or strokes well inside the object, each with the width that
    :func:`softmatch_jax.prompting.seeds` gives it wherever the package reads an annotation.

    Either way the encoder brings the pixels to the grid of its features, and its ``to_grid`` decides what is
    left of them.

    Attributes:
        kind: What references are annotated with.
        mode: In which way.
        raster: ``(H, W)`` to which the object is squashed first, by PyTorch's ``nearest``; 512x512 in the
            published code. ``None`` for the picture's own size.
        points: Greatest number of points in ``fixed`` mode.
        strokes: Greatest number of strokes in ``fixed`` mode.
        jitter: Greatest movement of the side of a box in ``fixed`` mode, as a fraction of the box.

    Raises:
        InputError: The kind or the mode is unknown, or a number is out of range.
    """

    kind: AnnotationKind = "mask"
    mode: AnnotationMode = "fixed"
    raster: Size | None = None
    points: int = 10
    strokes: int = 5
    jitter: float = 0.1

    def __post_init__(self) -> None:
        Annotator(kind=self.kind, mode=self.mode, points=self.points, strokes=self.strokes)
        if self.raster is not None and min(self.raster) < 1:
            raise InputError(f"raster is {self.raster}; expected (height, width), both at least 1.")
        if not 0 <= self.jitter < 0.5:
            raise InputError(f"jitter is {self.jitter}; expected a fraction from 0 to below 0.5.")

    def __call__(self, truth: Truth, *, seed: int, index: int, shot: int = 0) -> Mask:
        """Annotates one reference, as a pure function of the arguments.

        Args:
            truth: Where the object is.
            seed: Of the training.
            index: Of the episode in the stream.
            shot: Place of the reference in the episode.

        Returns:
            ``bool [H, W]``, the annotated pixels, at the size of ``raster`` or of the picture. None is true
            where the object has no pixel at that size, and where published strokes miss it.

        Raises:
            InputError: A number is negative.
        """
        rng = _generator(seed, index, shot)
        mask = truth.mask if self.raster is None else resize_nearest(truth.mask, self.raster)
        if not mask.any():
            return np.zeros(mask.shape, np.bool_)
        if self.mode == "published" or self.kind == "mask":
            return published_annotation(mask, self.kind, rng=rng, training=True)
        count = int(rng.integers(1, (self.points if self.kind == "point" else self.strokes) + 1))
        key = jax.random.key(int(rng.integers(2**31)))
        size = (mask.shape[0], mask.shape[1])
        match self.kind:
            case "box":
                return annotated_pixels(simulate_box(mask, jitter=self.jitter, key=key), size)
            case "point":
                return annotated_pixels(simulate_points(mask, count=count, key=key), size)
            case "scribble":
                return annotated_pixels(simulate_scribbles(mask, count=count, key=key), size)


def annotated_pixels(annotation: Annotation, size: Size) -> Mask:
    """The pixels that a prompt encoder is shown: a box is filled, points and strokes have their width.

    Args:
        annotation: Of a picture.
        size: ``(H, W)`` of the picture.

    Returns:
        ``bool [H, W]``, at least one true.

    Raises:
        InputError: The annotation marks no object, is a mask of everything, or lies outside the picture.
    """
    if isinstance(annotation, Box):
        # Filled here, since a box around the whole picture is refused as seeds and is none the worse here.
        box = (annotation.x0, annotation.y0, annotation.x1, annotation.y1)
        filled = fill_box(box, size)
        if filled.any():
            return filled
    return seeds(annotation, size).foreground


def _published(mask: Mask, kind: AnnotationKind, rng: np.random.Generator) -> MaskAnnotation | None:
    """Returns what the published encoder sees of an annotation, on the picture."""
    if kind == "mask":
        return MaskAnnotation(mask) if mask.any() else None
    raster = resize_nearest(mask, _RASTER)
    if not raster.any():
        return None
    cells = resize_nearest(published_annotation(raster, kind, rng=rng), _GRID)
    if not cells.any():
        return None
    # Where a pixel lies in several cells one of them is enough, so that no cell is lost in a small picture.
    return MaskAnnotation(to_feature_grid(cells, (mask.shape[0], mask.shape[1]), mode="any") > 0)


def _generator(seed: int, index: int, shot: int) -> np.random.Generator:
    """Returns the generator of one reference."""
    for name, value in (("seed", seed), ("index", index), ("shot", shot)):
        if value < 0:
            raise InputError(f"{name} is {value}; expected 0 or more.")
    return np.random.default_rng(np.random.SeedSequence([seed, index, shot], spawn_key=(_STREAM,)))
