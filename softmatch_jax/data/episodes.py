"""What an evaluation is made of: annotated pictures, episodes of them, and sets of episodes.

An episode is a question: here are references of a class, where is the class in this target? A set of
episodes is a pure function ``(seed, index) -> Episode``, so that any worker may answer any of them. Nothing
but lists is read until a sample is asked for its picture.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from softmatch_jax._checks import InputError, check_image, check_mask
from softmatch_jax._types import Image, Mask, Size
from softmatch_jax.imaging import read_image

Sampling: TypeAlias = Literal["published", "corrected"]
"""``published`` draws as the papers' code does, its quirks included; ``corrected`` has every target of every
class once, references without repetition."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Where a class is in a picture.

    Attributes:
        mask: ``bool [H, W]``, the object.
        void: ``bool [H, W]``, pixels that do not count, disjoint from the object; ``None`` for none.
    """

    mask: Mask
    void: Mask | None = None


class TruthSource(Protocol):
    """A file, and how to read the mask of one class from it. Compares by value and can be pickled."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    def read(self, size: Size) -> Truth:
        """Reads the truth of a picture of ``size`` ``(H, W)``; needed where the file holds outlines.

        Raises:
            InputError: The file cannot be read or is not as expected.
        """


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """A picture in memory with the truth of one class.

    Attributes:
        image: ``uint8 [H, W, 3]``.
        truth: Of the same size.
    """

    image: Image
    truth: Truth


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture and the truth of one class, by their files.

    Attributes:
        name: Of the picture, unique in its data set; the same for all classes in the picture.
        image: The picture's file.
        truth: Where the class is.
    """

    name: str
    image: Path
    truth: TruthSource

    def read(self) -> AnnotatedPicture:
        """Reads both.

        Raises:
            InputError: A file cannot be read, or they differ in size.
        """
        image = read_image(self.image)
        check_image(str(self.image), image)
        size = (image.shape[0], image.shape[1])
        truth = self.truth.read(size)
        for mask in (truth.mask, truth.void):
            if mask is not None:
                check_mask(str(self.truth.path), mask, size)
        return AnnotatedPicture(image, truth)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One question of an evaluation.

    Attributes:
        index: Its place in the set.
        class_name: The class that is asked for.
        target: The picture to segment.
        references: The pictures that show the class; never the target, but a published draw may repeat one.
    """

    index: int
    class_name: str
    target: Sample
    references: tuple[Sample, ...]


class EpisodeSet(Protocol):
    """The episodes of a data set under one protocol. Can be pickled."""

    @property
    def name(self) -> str:
        """The data set and its part, such as ``pascal5i fold 2``."""

    @property
    def sampling(self) -> Sampling:
        """How references are drawn."""

    @property
    def shots(self) -> int:
        """References for each target."""

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes, in their order."""

    @property
    def raster(self) -> Size | None:
        """``(H, W)`` that the published protocol squashes pictures and masks to; ``None`` for their own."""

    @property
    def digest(self) -> str:
        """Checksum of all that decides the questions but ``shots`` and ``sampling``, wherever files lie."""

    def __len__(self) -> int:
        """Number of episodes for one seed."""

    def episode(self, seed: int, index: int) -> Episode:
        """The episode at ``index``: a pure function of both.

        Raises:
            InputError: ``index`` is not in ``range(len(self))``, or ``seed`` is negative.
        """


def check_episode(episodes: EpisodeSet, seed: int, index: int) -> None:
    """Raises ``InputError`` unless there is such an episode."""
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or more.")
    if not 0 <= index < len(episodes):
        raise InputError(
            f"index is {index}; {episodes.name} has {len(episodes)} episodes, so expected 0 to "
            f"{len(episodes) - 1}."
        )


@dataclass(frozen=True, kw_only=True)
class ClassLists:
    """The pictures of each class, from which episodes are drawn.

    Attributes:
        name: The data set and its part.
        samples: For each class its pictures, in a fixed order.
        raster: See :attr:`EpisodeSet.raster`.
        reading: How truths are read where a user decides it, such as ``threshold 128``: other masks from
            the same files are other questions.
    """

    name: str
    samples: Mapping[str, tuple[Sample, ...]]
    raster: Size | None = None
    reading: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes, in their order."""
        return tuple(self.samples)

    @functools.cached_property
    def digest(self) -> str:
        """Checksum of name, reading, and classes with the names of their pictures, wherever these lie."""
        lists = {name: [sample.name for sample in samples] for name, samples in self.samples.items()}
        return checksum([self.name, lists, *([self.reading] if self.reading else [])])

    def check_shots(self, shots: int, *, repeated: bool = False) -> None:
        """Raises ``InputError`` unless every class has a target and ``shots`` other pictures.

        One other picture is enough where references may be ``repeated``.
        """
        if shots < 1:
            raise InputError(f"shots is {shots}; expected at least 1.")
        if not self.samples:
            raise InputError(f"{self.name} has no class; expected at least one.")
        needed = 1 if repeated else shots
        for name, samples in self.samples.items():
            if len(samples) <= needed:
                count = "1 picture" if len(samples) == 1 else f"{len(samples)} pictures"
                fewer = ", ask for fewer shots," if needed > 1 else ""
                raise InputError(
                    f"The class {name!r} of {self.name} has {count}; expected at least {needed + 1}, a "
                    f"target and {needed} for reference (add pictures{fewer} or leave the class out)."
                )

    def only(self, classes: Sequence[str]) -> ClassLists:
        """The lists of some classes.

        Raises:
            InputError: One of them is unknown.
        """
        for name in classes:
            if name not in self.samples:
                known = ", ".join(map(repr, self.samples))
                raise InputError(f"{self.name} has no class {name!r}; expected one of {known}.")
        kept = {name: samples for name, samples in self.samples.items() if name in set(classes)}
        return replace(self, samples=kept)


def checksum(document: object) -> str:
    """SHA-256 of a document of lists, mappings and texts."""
    return hashlib.sha256(
        json.dumps(document, ensure_ascii=False).encode(errors="surrogateescape")
    ).hexdigest()


class OfLists:
    """The part of an :class:`EpisodeSet` that its class lists decide, whichever way episodes are drawn.

    Attributes:
        lists: The pictures of each class.
    """

    lists: ClassLists

    @property
    def name(self) -> str:
        """The data set and its part."""
        return self.lists.name

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes, in their order."""
        return self.lists.classes

    @property
    def raster(self) -> Size | None:
        """That of the lists."""
        return self.lists.raster

    @property
    def digest(self) -> str:
        """That of the lists."""
        return self.lists.digest
