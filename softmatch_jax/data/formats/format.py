"""What a format can do, and what all writers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from softmatch_jax._types import Size
from softmatch_jax.data.formats.labelled import (
    ExportOptions,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Losses,
    Written,
    check_classes,
    check_picture,
)
from softmatch_jax.data.formats.names import check_inside
from softmatch_jax.data.formats.objects import Region, regions
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source

DRAWN_OUTLINES = (
    "Holes are tied to the outline by lines of no width; read by COCO's rule the masks are exact, but a "
    "program that draws outlines too adds those lines and a pixel at the right and lower edges."
)


class Format(Protocol):
    """A way in which other tools keep masks.

    Attributes:
        name: For options and addresses.
        title: For people.
        suffixes: Endings of the files that hold the masks.
        options: Those of :class:`ExportOptions` that change what is written.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    options: tuple[str, ...]

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """What the format cannot hold, a sentence each, before anything is written."""

    def recognises(self, source: Source) -> bool:
        """Whether a source looks like this format."""

    def write(
        self,
        sink: Sink,
        classes: Sequence[LabelledClass],
        pictures: Iterable[LabelledPicture],
        options: ExportOptions,
    ) -> Written:
        """Writes pictures one by one.

        Raises:
            InputError: Masks do not fit their pictures, names repeat, or writing fails.
        """

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """Reads the classes, and gives the pictures one by one.

        Args:
            source: Where they are.
            known: Sizes by name of pictures whose files are not in the source but somewhere else.

        Raises:
            InputError: It is not this format, or damaged.
        """


class Writing:
    """What is common to all writers: checks, the pictures' files, the counts.

    Args:
        sink: Where to.
        classes: Their names must differ.
        options: How.
        folder: Where the pictures' files go, ``""`` or ending in ``/``.
    """

    def __init__(
        self, sink: Sink, classes: Sequence[LabelledClass], options: ExportOptions, folder: str = "images/"
    ) -> None:
        self.classes = tuple(classes)
        check_classes(self.classes)
        self.losses = Losses()
        self._sink, self._options, self._folder = sink, options, folder
        self._pictures = self._objects = 0

    def each(self, pictures: Iterable[LabelledPicture]) -> Iterator[LabelledPicture]:
        """The pictures, checked and counted, after their files were written."""
        for picture in pictures:
            check_picture(picture, self.classes)
            check_inside(picture.name, "The export")
            if self._options.images and picture.path is not None:
                self._sink.copy(self._folder + picture.name, picture.path)
            self._pictures += 1
            yield picture

    def objects(self, picture: LabelledPicture) -> Iterator[tuple[int, LabelledClass, Region]]:
        """The objects of a picture, with the place of their class, by class and number."""
        for index, entry in enumerate(self.classes):
            if entry.name in picture.masks:
                for _, region in regions(picture.masks[entry.name]):
                    self._objects += 1
                    yield index, entry, region

    def done(self) -> Written:
        """What was written."""
        return Written(pictures=self._pictures, objects=self._objects, warnings=self.losses.sentences())


def colours_lost(classes: Sequence[LabelledClass]) -> list[str]:
    """A sentence, if there are colours, for formats that have none."""
    return ["Colours of classes are not kept."] if any(entry.colour for entry in classes) else []
