"""A JSON file for each picture, as labelme writes them."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.files import read_json
from softmatch_jax.data.folder_coco import looks_like
from softmatch_jax.data.folder_files import FolderFiles, in_threads, named
from softmatch_jax.data.folder_labels import NAME_FILES
from softmatch_jax.data.folder_lists import Annotated, Wanted, class_lists, missing
from softmatch_jax.data.folder_outlines import (
    Gathered,
    check_size_said,
    checked_numbers,
    checked_outline,
    measure,
)
from softmatch_jax.data.outlines import encode_rle
from softmatch_jax.imaging import image_size
from softmatch_jax.prompting.rasterise import draw_disc

_IGNORED = "__ignore__"
"""The label that labelme gives to what does not count."""


def find_labelme(files: FolderFiles) -> tuple[PurePosixPath, ...]:
    """The files that look like labelme's."""
    return tuple(p for p in files.notes_with(".json") if looks_like(files.root / p, ("shapes",)))


def read_labelme(files: FolderFiles, wanted: Wanted) -> ClassLists:
    """Reads a folder of pictures and labelme files.

    The shapes of a label in a picture are united; those labelled ``__ignore__`` do not count. Pictures
    without a file, or without shapes, are left out.

    Raises:
        InputError: A file is not labelme's, its picture is missing or of another size or has a second file; a
            shape has no area, or is wrong; or as :func:`class_lists`.
    """
    paths = [p for p in files.notes_with(".json") if str(p) not in NAME_FILES]
    if not paths:
        raise InputError(f"{files.root} has no JSON file; expected x.json for x.jpg, as labelme writes them.")
    known = frozenset(files.images)
    by_stem = {image.with_suffix(""): image for image in reversed(files.images)}
    read = in_threads(lambda path: _read(files, path, known, by_stem), paths)
    work = [(path, document, image) for path, document, image in read if image is not None]
    lost = [path for path, _, image in read if image is None]
    if lost:
        cure = "expected the picture at imagePath or beside the file (copy it there; imageData is not used)"
        raise missing(files, "labelme files whose picture is missing", lost, cure)
    owners: dict[PurePosixPath, PurePosixPath] = {}
    for path, _, image in work:
        if owners.setdefault(image, path) != path:
            both = named([owners[image], path])
            raise InputError(f"The picture {image} of {files.root} has {both} labelme files; expected one.")
    pictures = in_threads(lambda item: _measure(files, *item), work)
    names = sorted({name for picture in pictures for name in picture.truths})
    return class_lists(files, names, pictures, wanted)


def _read(
    files: FolderFiles,
    path: PurePosixPath,
    known: frozenset[PurePosixPath],
    by_stem: Mapping[PurePosixPath, PurePosixPath],
) -> tuple[PurePosixPath, Mapping[str, Any], PurePosixPath | None]:
    """A file without its embedded picture, and the path of the picture if there is one."""
    document = read_json(files.root / path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise InputError(
            f"{files.root / path} is not a file of labelme; expected an object with the list shapes (move "
            "other JSON files away)."
        )
    document.pop("imageData", None)
    said = document.get("imagePath")
    if isinstance(said, str) and said:
        place = _normal(path.parent / said.replace("\\", "/"))
        if place in known:
            return path, document, place
    return path, document, by_stem.get(path.with_suffix(""))


def _normal(path: PurePosixPath) -> PurePosixPath:
    """Resolves ``..``, which leads from a folder of JSON files to one of pictures."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _measure(
    files: FolderFiles, path: PurePosixPath, document: Mapping[str, Any], image: PurePosixPath
) -> Annotated:
    file, size = files.root / path, image_size(files.root / image)
    check_size_said(file, str(image), (document.get("imageHeight"), document.get("imageWidth")), size)
    found: dict[str, Gathered] = defaultdict(Gathered)
    for index, shape in enumerate(document["shapes"]):
        where = f"{file}: shapes[{index}]"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{where} has no label; expected the name of its class.")
        add_shape(shape, size, found[label.strip()], f"{where} ({label.strip()})")
    ignored = found.pop(_IGNORED, None)
    for gathered in found.values():
        gathered.void = ignored
    return measure(files, image, size, file, found)


def add_shape(shape: Mapping[str, Any], size: Size, gathered: Gathered, where: str) -> None:
    """Adds what a shape covers.

    Args:
        shape: As labelme writes it.
        size: ``(H, W)`` of the picture.
        gathered: Where to add.
        where: File and place, for messages.

    Raises:
        InputError: It has no area, or is wrong.
    """
    kind = shape.get("shape_type") or "polygon"
    points = shape.get("points")
    if kind not in _READERS:
        raise InputError(
            f"{where} is a {kind}, which has no area; expected {', '.join(_READERS)} (draw it as one, or "
            "delete it)."
        )
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise InputError(f"{where} has no points; expected a list of [x, y].")
    flat = checked_numbers([number for point in points for number in point], where)
    _READERS[kind](shape, flat, size, gathered, where)


def _polygon(
    shape: Mapping[str, Any], flat: tuple[float, ...], size: Size, gathered: Gathered, where: str
) -> None:
    gathered.polygons.append(checked_outline(flat, size, where))


def _rectangle(
    shape: Mapping[str, Any], flat: tuple[float, ...], size: Size, gathered: Gathered, where: str
) -> None:
    if len(flat) == 4:
        x0, y0, x1, y1 = flat
        flat = (x0, y0, x1, y0, x1, y1, x0, y1)
    if len(flat) != 8:
        raise InputError(
            f"{where} has {len(flat) // 2} points; expected two corners of a rectangle, or all four."
        )
    gathered.polygons.append(checked_outline(flat, size, where))


def _circle(
    shape: Mapping[str, Any], flat: tuple[float, ...], size: Size, gathered: Gathered, where: str
) -> None:
    if len(flat) != 4:
        raise InputError(
            f"{where} has {len(flat) // 2} points; expected the centre of a circle and a point on it."
        )
    x, y, radius = flat[0], flat[1], math.hypot(flat[2] - flat[0], flat[3] - flat[1])
    checked_outline((x - radius, y - radius, x + radius, y - radius, x, y + radius), size, where)
    if radius > 0:
        gathered.runs.append(encode_rle(draw_disc((x, y), radius, size)))


def _mask(
    shape: Mapping[str, Any], flat: tuple[float, ...], size: Size, gathered: Gathered, where: str
) -> None:
    """A PNG of the size of a box of pixels, of which the last column and row are given."""
    pixels = _decoded(shape.get("mask"), size, where)
    left, top = round(min(flat[::2], default=0)), round(min(flat[1::2], default=0))
    right, bottom = round(max(flat[::2], default=0)) + 1, round(max(flat[1::2], default=0)) + 1
    if len(flat) != 4 or pixels.shape != (bottom - top, right - left):
        raise InputError(
            f"{where} has a mask of {pixels.shape[1]}x{pixels.shape[0]} pixels; expected the {right - left}x"
            f"{bottom - top} between its two points, both included."
        )
    if left < 0 or top < 0 or right > size[1] or bottom > size[0]:
        raise InputError(
            f"{where} reaches from ({left}, {top}) to ({right}, {bottom}); expected a mask inside its "
            f"picture of {size[1]}x{size[0]} pixels."
        )
    whole = np.zeros(size, np.bool_)
    whole[top:bottom, left:right] = pixels
    gathered.runs.append(encode_rle(whole))


def _decoded(text: Any, size: Size, where: str) -> Mask:
    try:
        with PngImageFile(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            if image.width * image.height > size[0] * size[1]:
                raise InputError(
                    f"{where} has a mask of {image.width}x{image.height} pixels; expected one inside its "
                    f"picture of {size[1]}x{size[0]} pixels."
                )
            pixels: Mask = np.asarray(image.convert("L")) > 0
            return pixels
    except InputError:
        raise
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError):
        raise InputError(f"{where} has no readable mask; expected a PNG in base64.") from None


_Reader = Callable[[Mapping[str, Any], tuple[float, ...], Size, Gathered, str], None]
_READERS: dict[str, _Reader] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "rotation": _rectangle,
    "circle": _circle,
    "mask": _mask,
}
