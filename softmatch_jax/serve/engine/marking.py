"""From prompts as they were drawn to the pixels that they speak of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from softmatch_jax._types import Mask, Size
from softmatch_jax.prompting import Box, Polyline, Scribbles, Seeds, point_radius, seeds
from softmatch_jax.serve.project import documents
from softmatch_jax.serve.project.documents import Prompt


def strokes_of(prompts: Iterable[Prompt], size: Size) -> Iterator[Polyline]:
    """Strokes and clicks, in order; a click is a dot."""
    for prompt in prompts:
        if isinstance(prompt, documents.Scribble):
            yield Polyline(prompt.points, prompt.width, prompt.positive)
        elif isinstance(prompt, documents.Point):
            yield Polyline((prompt.xy,), 2 * point_radius(size), prompt.positive)


def boxes_of(prompts: Iterable[Prompt]) -> list[Box]:
    """Boxes, in order."""
    return [Box(box.x0, box.y0, box.x1, box.y1) for box in prompts if isinstance(box, documents.Box)]


def pixels_of(prompt: Prompt, size: Size) -> tuple[Mask, Mask | None]:
    """The pixels of a stroke or click, whatever its sign, and the region of a box.

    Raises:
        InputError: It lies outside the picture.
    """
    if isinstance(prompt, documents.Box):
        return np.zeros(size, bool), seeds(boxes_of([prompt])[0], size).region
    (stroke,) = strokes_of([prompt], size)
    alone = Polyline(stroke.points, stroke.width)
    return seeds(Scribbles((alone,)), size).foreground, None


def marked_pixels(prompts: Sequence[Prompt], size: Size) -> tuple[Mask, Mask]:
    """Pixels that were marked as object and as background; where strokes overlap the later one counts.

    Unlike :func:`~softmatch_jax.prompting.seeds` it takes strokes of one sign alone.

    Raises:
        InputError: A stroke lies outside the picture.
    """
    on, off = np.zeros(size, bool), np.zeros(size, bool)
    for prompt in prompts:
        if not isinstance(prompt, documents.Box):
            own, _ = pixels_of(prompt, size)
            marked, other = (on, off) if prompt.positive else (off, on)
            marked |= own
            other &= ~own
    return on, off


def objects_of(prompts: Sequence[Prompt], size: Size) -> list[Seeds]:
    """What prompts without a mask to correct say: one object for strokes, or one in each box.

    Strokes belong to the boxes that hold them; those in no box are one more object.

    Raises:
        InputError: Nothing marks an object, or a prompt lies outside the picture.
    """
    boxes, strokes = boxes_of(prompts), Scribbles(tuple(strokes_of(prompts, size)))
    if not boxes:
        return [seeds(strokes, size)]
    on, off = marked_pixels(prompts, size)
    found, beyond = [], on.copy()
    for box in boxes:
        region = seeds(box, size).region
        assert region is not None
        found.append(Seeds(on & region, off | ~region, region))
        beyond &= ~region
    return [*found, Seeds(beyond, off)] if beyond.any() else found
