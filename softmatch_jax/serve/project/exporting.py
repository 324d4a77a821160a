"""From a project to the files of other tools."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

import PIL.Image

from softmatch_jax.data.formats import (
    ExportOptions,
    Format,
    LabelledClass,
    LabelledPicture,
    Losses,
    Sink,
    distinct_names,
)
from softmatch_jax.imaging import IMAGE_SUFFIXES
from softmatch_jax.serve.project.documents import ClassDocument, Digest, FoundDocument, ImageDocument
from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.showing import all_shown
from softmatch_jax.serve.project.state import State
from softmatch_jax.serve.project.store import Store

Which: TypeAlias = Literal["accepted", "shown"]
"""The pictures that a person accepted, or all that were looked at by a person or the engine."""

WARNINGS_FILE = "warnings.txt"
"""Where an export says what it lost, as who downloads it sees no report."""

_LONGEST_PART = 200  # bytes; file systems take 255, and endings and numbers follow
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}
_ORIENTATION_TAG = 0x0112
_TURNED = (
    "{count} pictures are stored turned, which their metadata (EXIF) say; their masks are for the upright "
    "picture, as browsers and most tools show it."
)
_OPEN = "{count} pictures were not looked at yet and are left out."
_NOT_ACCEPTED = "{count} pictures are not accepted and are left out."
_RENAMED = "{count} pictures got other names, as names must be plain and differ without their endings."


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported: pictures, masks (of a class on a picture), objects, and what was lost."""

    warnings: tuple[str, ...]
    pictures: int
    masks: int
    objects: int


@dataclass(frozen=True, eq=False, kw_only=True)
class _Chosen:
    """A picture to export, with its masks by class."""

    iid: str
    image: ImageDocument
    name: str
    rasters: dict[str, Digest]


def labelled_classes(state: State) -> tuple[LabelledClass, ...]:
    """The classes of a project in their order."""
    return tuple(LabelledClass(name=entry.name, colour=entry.colour) for _, entry in _classes(state))


def archive_names(state: State, pictures: Pictures) -> dict[str, str]:
    """The name of each picture's file in an export: plain, and unlike the others even without its ending."""
    images = _images(state)
    names = distinct_names(_plain(image, pictures) for _, image in images)
    return {iid: name for (iid, _), name in zip(images, names, strict=True)}


def export_project(
    store: Store,
    pictures: Pictures,
    format: Format,
    sink: Sink,
    *,
    which: Which = "accepted",
    images: bool = True,
    options: ExportOptions | None = None,
) -> ExportReport:
    """Writes masks, and the pictures unless ``images`` is False, as the project is now.

    Args:
        store: The project.
        pictures: Its pictures.
        format: One of ``FORMATS``.
        sink: Where to.
        which: See :data:`Which`; rejected pictures are never exported.
        images: Write the pictures too.
        options: How; by default those of the format.

    Raises:
        NotFoundError: A picture's file is missing, which is found before anything is written.
        InputError: The format cannot hold the classes, or writing fails.
    """
    state, losses = store.state(), Losses()
    options = replace(options or ExportOptions(), images=images and (options is None or options.images))
    chosen = _choose(state, pictures, which, losses)
    paths = {entry.iid: _path(entry.image, pictures) for entry in chosen} if options.images else {}
    losses.add(_TURNED, sum(map(_is_turned, paths.values())))
    masks = 0

    def each() -> Iterator[LabelledPicture]:
        nonlocal masks
        for entry in chosen:
            labels = {state.class_(cid).name: store.raster(digest) for cid, digest in entry.rasters.items()}
            masks += len(labels)
            yield LabelledPicture(
                name=entry.name,
                size=(entry.image.height, entry.image.width),
                masks=labels,
                path=paths.get(entry.iid),
                scores=_scores(state, entry),
            )

    written = format.write(sink, labelled_classes(state), each(), options)
    warnings = (*written.warnings, *losses.sentences())
    if warnings:
        sink.write(WARNINGS_FILE, ("\n".join(warnings) + "\n").encode())
    return ExportReport(warnings=warnings, pictures=written.pictures, masks=masks, objects=written.objects)


def _classes(state: State) -> list[tuple[str, ClassDocument]]:
    classes = (
        (key.partition("/")[2], cast(ClassDocument, entry)) for key, entry in state.of("class").items()
    )
    return sorted(classes, key=lambda item: (item[1].order, int(item[0][1:])))


def _images(state: State) -> list[tuple[str, ImageDocument]]:
    images = ((key.partition("/")[2], cast(ImageDocument, entry)) for key, entry in state.of("image").items())
    return sorted(images, key=lambda item: (item[1].order, int(item[0][1:])))


def _choose(state: State, pictures: Pictures, which: Which, losses: Losses) -> list[_Chosen]:
    names = archive_names(state, pictures)
    chosen = []
    for iid, image in _images(state):
        if image.status == "rejected":
            continue
        rasters = all_shown(state, iid)
        if which == "accepted" and image.status != "accepted":
            losses.add(_NOT_ACCEPTED)
        elif image.status != "accepted" and not rasters and not _was_matched(state, iid):
            # Written without masks it would say that there is nothing on it.
            losses.add(_OPEN)
        else:
            losses.add(_RENAMED, names[iid] != image.name, f"{image.name}, now {names[iid]}")
            chosen.append(_Chosen(iid=iid, image=image, name=names[iid], rasters=rasters))
    return chosen


def _was_matched(state: State, iid: str) -> bool:
    found = cast("FoundDocument | None", state.get(f"found/{iid}"))
    return found is not None and found.error is None


def _scores(state: State, entry: _Chosen) -> dict[str, float]:
    """The scores of masks that are as matching found them."""
    found = cast("FoundDocument | None", state.get(f"found/{entry.iid}"))
    if found is None or entry.image.status == "accepted":
        return {}
    return {
        state.class_(cid).name: found.classes[cid].score
        for cid, digest in entry.rasters.items()
        if cid in found.classes and found.classes[cid].raster == digest
    }


def _path(image: ImageDocument, pictures: Pictures) -> Path:
    try:
        return pictures.path(image.digest)
    except NotFoundError as error:
        raise NotFoundError(f"{image.name}: {error} Or export without the pictures.") from None


def _plain(image: ImageDocument, pictures: Pictures) -> str:
    """A picture's name as a relative path that every file system takes, with the ending of a picture."""
    parts = [
        re.sub(r'[<>:"|?*\x00-\x1f\x7f\ud800-\udfff]', "_", part).strip(" .")
        for part in re.split(r"[/\\]", image.name)
    ]
    parts = [part for part in parts if part] or ["picture"]
    stem, dot, ending = parts[-1].rpartition(".")
    if not (stem and f".{ending.lower()}" in IMAGE_SUFFIXES):
        stem, dot, ending = parts[-1], "", _suffix(image, pictures)
    parts[-1] = _shortened(stem) + dot + ending
    return "/".join([*map(_shortened, parts[:-1]), parts[-1]])


def _shortened(part: str) -> str:
    return part.encode()[:_LONGEST_PART].decode(errors="ignore")


def _suffix(image: ImageDocument, pictures: Pictures) -> str:
    """The ending that fits a picture's first bytes."""
    try:
        with pictures.path(image.digest).open("rb") as file:
            head = file.read(8)
    except (NotFoundError, OSError):
        return ".jpg"
    return next((suffix for sign, suffix in _SIGNATURES.items() if head.startswith(sign)), ".tif")


def _is_turned(path: Path) -> bool:
    """Whether a picture is marked as stored turned or mirrored; of those formats that cameras write."""
    try:
        with PIL.Image.open(path, formats=("JPEG", "MPO", "WEBP", "TIFF")) as image:
            return int(image.getexif().get(_ORIENTATION_TAG, 1)) in range(2, 9)
    except Exception:
        # Other formats, and broken metadata, which every viewer passes over.
        return False
