"""Annotators: what an evaluation calls to annotate its references, as the papers do or soundly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask
from softmatch_jax.data.episodes import Truth
from softmatch_jax.data.published_annotations import (
    AnnotationKind,
    check_kind,
    published_annotation,
    resize_nearest,
    to_feature_grid,
)
from softmatch_jax.data.simulators import simulate_box, simulate_points, simulate_scribbles
from softmatch_jax.prompting import Annotation, MaskAnnotation

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
