"""From an episode to what a method sees: files read, squashed, and annotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Size
from softmatch_jax.data.episodes import AnnotatedPicture, Episode, EpisodeSet, Truth
from softmatch_jax.data.published_annotations import resize_nearest
from softmatch_jax.prompting import Annotation, MaskAnnotation


class Annotates(Protocol):
    """Annotates a reference as a person might, given the truth; pure in its arguments."""

    @property
    def name(self) -> str:
        """Names kind and mode in results."""

    def __call__(self, truth: Truth, *, seed: int, index: int, shot: int) -> Annotation | None:
        """The annotation, or ``None`` where the simulator leaves nothing of the object."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An episode in memory.

    Attributes:
        episode: What it is made of.
        target: The target and the truth that is asked for.
        references: Pictures and their annotations, without those whose annotation marks nothing, or
            everything.
    """

    episode: Episode
    target: AnnotatedPicture
    references: tuple[tuple[Image, Annotation], ...]


def prepare(
    episodes: EpisodeSet, annotate: Annotates, *, raster: Size | None, seed: int, index: int
) -> Prepared:
    """Reads one episode.

    Args:
        episodes: The set.
        annotate: The annotation simulator.
        raster: ``(H, W)`` to squash all pictures and masks to; ``None`` leaves them as they are.
        seed: With ``index``, decides all that is drawn.
        index: Place in the set.

    Raises:
        InputError: A file cannot be read, or a mask does not fit its picture.
    """
    episode = episodes.episode(seed, index)
    references = []
    for shot, sample in enumerate(episode.references):
        picture = squash(sample.read(), raster)
        try:
            annotation = annotate(picture.truth, seed=seed, index=index, shot=shot)
        except InputError as error:
            raise InputError(f"{sample.truth.path}: {error}") from None
        if annotation is not None and not _marks_everything(annotation):
            references.append((picture.image, annotation))
    return Prepared(episode, squash(episode.target.read(), raster), tuple(references))


def _marks_everything(annotation: Annotation) -> bool:
    """Whether a mask covers its whole picture, as a published box may; no method learns from such a one."""
    return isinstance(annotation, MaskAnnotation) and bool(annotation.mask.all())


def squash(picture: AnnotatedPicture, raster: Size | None) -> AnnotatedPicture:
    """Resizes a picture with its truth, aspect not kept, as the published code does.

    Pictures are resized bilinearly with antialiasing (as by torchvision on a Pillow image). Of masks,
    output row ``i`` is input row ``floor(i * H / H_out)`` (PyTorch's ``nearest``), which is not centred; a
    mask so lies up to half a pixel off its picture.
    """
    if raster is None or picture.image.shape[:2] == raster:
        return picture
    image = PIL.Image.fromarray(picture.image).resize(raster[::-1], PIL.Image.Resampling.BILINEAR)
    truth = picture.truth
    void = None if truth.void is None else resize_nearest(truth.void, raster)
    return AnnotatedPicture(np.array(image), Truth(resize_nearest(truth.mask, raster), void))
