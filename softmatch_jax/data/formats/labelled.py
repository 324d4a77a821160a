"""Pictures with their masks by class, as they go to other tools and come from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Labels, Size

_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what JSON, XML or a line cannot hold


@dataclass(frozen=True, kw_only=True)
class LabelledClass:
    """A kind of object; ``colour`` is ``#rrggbb``, or None where a format knows none."""

    name: str
    colour: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledPicture:
    """A picture and its masks.

    Attributes:
        name: Path relative to the folder of pictures, with ``/`` between its parts.
        size: ``(H, W)``, upright.
        masks: ``uint16 [H, W]`` by class; a class without objects may be left out.
        path: The file, where it is written from.
        entry: The file's name in the source, where it is read from and lies there.
        scores: By class, for those that were found and not made by hand.
    """

    name: str
    size: Size
    masks: Mapping[str, Labels]
    path: Path | None = None
    entry: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to write.

    Attributes:
        polygons: Outlines in place of run lengths, where a format has both.
        images: Write the pictures too.
    """

    polygons: bool = False
    images: bool = True


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a writer wrote, and in ``warnings``, a sentence each, what of it was lost."""

    pictures: int
    objects: int
    warnings: tuple[str, ...]


@dataclass(eq=False, kw_only=True)
class LabelledSet:
    """What a reader found.

    Attributes:
        classes: All classes, in order.
        pictures: Read one by one; this raises ``InputError`` where one cannot be used.
        losses: What could not be taken over; complete when all pictures were read.
    """

    classes: tuple[LabelledClass, ...]
    pictures: Iterator[LabelledPicture]
    losses: Losses


class Losses:
    """Counts what was lost, by the sentence that says so."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, sentence: str, count: int = 1, where: str = "") -> None:
        """Counts a loss.

        Args:
            sentence: With ``{count}`` where the number goes.
            count: How many; 0 is no loss.
            where: A place, of which the first is named.
        """
        if count:
            self._counts[sentence] = self._counts.get(sentence, 0) + count
            self._first.setdefault(sentence, where)

    def sentences(self) -> tuple[str, ...]:
        """All so far, in the order in which they were first met."""
        return tuple(
            sentence.replace("{count}", f"{count:,}")
            + (f" (First in {self._first[sentence]}.)" if self._first[sentence] else "")
            for sentence, count in self._counts.items()
        )


def check_classes(classes: tuple[LabelledClass, ...]) -> None:
    """Raises ``InputError`` unless all names are there, in one line, and different."""
    seen: set[str] = set()
    for entry in classes:
        if not entry.name.strip() or _FORBIDDEN.search(entry.name):
            raise InputError(f"{entry.name!r} is no name for a class; expected text in one line.")
        if entry.name in seen:
            raise InputError(f"The class {entry.name!r} is there twice; expected different names.")
        seen.add(entry.name)


def check_picture(picture: LabelledPicture, classes: tuple[LabelledClass, ...]) -> None:
    """Raises ``InputError`` unless the masks are ``uint16`` of the picture's size, of known classes."""
    known = {entry.name for entry in classes}
    for name, labels in picture.masks.items():
        if name not in known:
            raise InputError(
                f"{picture.name} has a mask of {name!r}, which is not among the classes; add it."
            )
        if labels.dtype != np.uint16 or labels.shape != tuple(picture.size):
            raise InputError(
                f"The mask of {name!r} in {picture.name} is {labels.dtype} {list(labels.shape)}; expected "
                f"uint16 {list(picture.size)}, the size of the picture."
            )
