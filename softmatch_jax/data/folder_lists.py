"""From annotated pictures, whatever their layout, to the lists of each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import ClassLists, Sample, TruthSource
from softmatch_jax.data.folder_files import FolderFiles, named


@dataclass(frozen=True)
class Measured:
    """The truth of one class in one picture, and its area in pixels."""

    truth: TruthSource
    area: int


@dataclass(frozen=True)
class Annotated:
    """A picture, by its path in the folder, with what was found in it.

    Attributes:
        image: Path in the folder.
        truths: By class; areas may be 0.
    """

    image: PurePosixPath
    truths: Mapping[str, Measured]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which classes and pictures to take.

    Attributes:
        classes: Their names; ``None`` for all.
        min_area: Pixels a class must have in a picture for the picture to be one of the class.
    """

    classes: Sequence[str] | None = None
    min_area: int = 1


def class_lists(
    files: FolderFiles,
    order: Sequence[str],
    pictures: Iterable[Annotated],
    wanted: Wanted,
    reading: str = "",
) -> ClassLists:
    """Sorts pictures by class.

    Args:
        files: The folder.
        order: All classes. One that no picture was annotated with is left out, unless it is asked for.
        pictures: In any order.
        wanted: What to take.
        reading: See :class:`ClassLists`.

    Raises:
        InputError: Classes or pictures differ in case only; two pictures have one name; a class is unknown;
            or a class has no picture with enough of it.
    """
    pictures = sorted(pictures, key=lambda picture: str(picture.image))
    check_names(files, "picture", [str(picture.image.with_suffix("")) for picture in pictures])
    check_names(files, "class", order)
    every = {name: _samples(files, pictures, name, wanted.min_area) for name in order}
    lists = ClassLists(name=f"folder {files.title}", samples=every, reading=reading)
    if wanted.classes is not None:
        lists = lists.only(wanted.classes)
    annotated = {name for picture in pictures for name in picture.truths} | set(wanted.classes or ())
    for name in lists.classes:
        if name in annotated and not lists.samples[name]:
            least = "a pixel" if wanted.min_area == 1 else f"{wanted.min_area} pixels"
            raise InputError(
                f"The class {name!r} of {files.root} has no picture with at least {least} of it; expected "
                "some (check the masks, lower min_area, or leave the class out)."
            )
    kept = {name: samples for name, samples in lists.samples.items() if samples}
    if not kept:
        raise InputError(f"{files.root} has no annotated picture; expected an object in some of them.")
    return replace(lists, samples=kept)


def check_names(files: FolderFiles, kind: str, names: Sequence[str]) -> None:
    """Raises ``InputError`` if two names are equal, or would be on a disk that ignores case."""
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            other = seen[name.casefold()]
            how = "occurs twice" if other == name else f"differs from {other!r} in upper and lower case only"
            raise InputError(
                f"The {kind} {name!r} of {files.root} {how}; expected one (rename or remove one)."
            )
        seen[name.casefold()] = name


def check_options(layout: str, **given: object) -> None:
    """Raises ``InputError`` if an option was given that the layout has no use for."""
    useless = [name for name, value in given.items() if value]
    if useless:
        raise InputError(
            f"{useless[0]} was given, which the layout {layout!r} has no use for; leave it out, or choose "
            "another layout."
        )


def missing(files: FolderFiles, what: str, paths: Sequence[object], cure: str) -> InputError:
    """The error for files that are not there."""
    return InputError(f"{files.root} has {what}: {named(paths)}; {cure}.")


def _samples(
    files: FolderFiles, pictures: Sequence[Annotated], name: str, min_area: int
) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            name=str(picture.image.with_suffix("")),
            image=files.root / picture.image,
            truth=picture.truths[name].truth,
        )
        for picture in pictures
        if name in picture.truths and picture.truths[name].area >= min_area
    )
