"""Annotations of all pictures in one JSON file, as COCO defines it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.files import read_json
from softmatch_jax.data.folder_files import FolderFiles, in_threads
from softmatch_jax.data.folder_lists import Annotated, Wanted, class_lists, missing
from softmatch_jax.data.folder_outlines import (
    Gathered,
    Runs,
    check_size_said,
    checked_outline,
    measure,
)
from softmatch_jax.data.outlines import decode_rle
from softmatch_jax.imaging import image_size

_KEYS = ("images", "annotations", "categories")
HEAD = 1 << 16
"""Bytes of a file that are looked at to recognise it."""


@dataclass(frozen=True)
class _Picture:
    """A picture of the file, with its annotations."""

    image: PurePosixPath
    said: tuple[Any, Any]
    annotations: Sequence[Mapping[str, Any]]


def find_coco(files: FolderFiles) -> tuple[PurePosixPath, ...]:
    """The files that look like COCO's, in the folder itself and in ``annotations``."""
    places = [p for p in files.notes_with(".json") if str(p.parent) in (".", "annotations", "Annotations")]
    return tuple(
        p for p in places if looks_like(files.root / p, _KEYS) and not looks_like(files.root / p, ("shapes",))
    )


def looks_like(path: Path, keys: Sequence[str]) -> bool:
    """Whether one of ``keys`` occurs as a key near the beginning of a JSON file."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return shows_keys(head, keys)


def shows_keys(head: bytes, keys: Sequence[str]) -> bool:
    """Whether one of ``keys`` occurs as a key in the beginning of a JSON file."""
    return any(re.search(rb'"%s"\s*:' % key.encode(), head) for key in keys)


def read_coco(files: FolderFiles, wanted: Wanted, path: Path | None = None) -> ClassLists:
    """Reads a folder of pictures and one file of annotations.

    The instances of a category in a picture are united, and its crowds do not count. Pictures without
    annotations are left out.

    Args:
        files: The folder.
        wanted: Which classes and pictures to take.
        path: The file; by default the only one in the folder or in ``annotations``.

    Raises:
        InputError: There is no such file or several; it is not as COCO defines it; a picture with annotations
            is missing or of another size; or as :func:`class_lists`.
    """
    path = path or _only_file(files)
    document = read_json(path)
    if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in _KEYS):
        raise InputError(
            f"{path} is not a file of COCO; expected an object with the lists images, annotations and "
            "categories."
        )
    names = _names(path, document["categories"])
    pictures = _pictures(files, path, document, names)
    measured = in_threads(lambda picture: _measure(files, path, picture, names), pictures)
    return class_lists(files, [names[number] for number in sorted(names)], measured, wanted)


def _only_file(files: FolderFiles) -> Path:
    found = find_coco(files)
    if len(found) != 1:
        listed = f"has {len(found)} ({', '.join(map(str, found))})" if found else "has none"
        raise InputError(
            f"{files.root} {listed}; expected one JSON file of COCO, in it or in annotations (give the path "
            "of the file itself as the root)."
        )
    return files.root / found[0]


def _names(path: Path, categories: Sequence[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for index, category in enumerate(categories):
        where = f"{path}: categories[{index}]"
        number, name = _field(category, "id", int, where), _field(category, "name", str, where)
        if number in names:
            raise InputError(f"{where} has the id {number} of {names[number]!r}; expected another.")
        names[number] = name
    return names


def _pictures(
    files: FolderFiles, path: Path, document: Mapping[str, Any], names: Mapping[int, str]
) -> list[_Picture]:
    """The annotated pictures; what an annotation refers to is there."""
    annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for index, annotation in enumerate(document["annotations"]):
        where = f"{path}: annotations[{index}]"
        number = _field(annotation, "category_id", int, where)
        if number not in names:
            raise InputError(f"{where} is of category {number}, which is not in categories; add it there.")
        annotations[_field(annotation, "image_id", (int, str), where)].append({**annotation, "where": where})
    known, lost, found = set(files.images), [], {}
    folders = sorted({folder for image in files.images for folder in image.parents}, key=str)
    for index, entry in enumerate(document["images"]):
        where = f"{path}: images[{index}]"
        key = _field(entry, "id", (int, str), where)
        if key in found:
            raise InputError(f"{where} has the id {key!r} of another image; expected its own.")
        name = PurePosixPath(_field(entry, "file_name", str, where).replace("\\", "/"))
        image = _place(name, path, files, known, folders) if key in annotations else None
        if image is None and key in annotations:
            lost.append(name)
        found[key] = (image, (entry.get("height"), entry.get("width")))
    orphan = next((a for key, group in annotations.items() if key not in found for a in group), None)
    if orphan is not None:
        raise InputError(
            f"{orphan['where']} is of image {orphan['image_id']!r}, which is not in images; add it."
        )
    if lost:
        cure = f"expected all that {path.name} names in the folder or in images (copy them there)"
        raise missing(files, "annotated pictures missing", lost, cure)
    return [
        _Picture(image, said, annotations[key]) for key, (image, said) in found.items() if image is not None
    ]


def _place(
    name: PurePosixPath,
    path: Path,
    files: FolderFiles,
    known: set[PurePosixPath],
    folders: Sequence[PurePosixPath],
) -> PurePosixPath | None:
    """Where a picture lies: as named, in ``images``, in the folder the file is named after, or in any."""
    split = path.stem.rsplit("_", 1)[-1]
    for place in (
        name,
        PurePosixPath("images") / name,
        PurePosixPath(split) / name,
        PurePosixPath("images") / split / name,
    ):
        if place in known:
            return place
    places = [folder / name for folder in folders if folder / name in known]
    if len(places) > 1:
        raise InputError(
            f"{path} names the picture {name}, but {places[0]} and {places[1]} in {files.root} are both "
            "called so; expected one (name the folder in file_name)."
        )
    return places[0] if places else None


def _measure(files: FolderFiles, path: Path, picture: _Picture, names: Mapping[int, str]) -> Annotated:
    size = image_size(files.root / picture.image)
    check_size_said(path, str(picture.image), picture.said, size)
    found: dict[str, Gathered] = defaultdict(Gathered)
    for annotation in picture.annotations:
        gathered = found[names[annotation["category_id"]]]
        _add(annotation, size, gathered.ignored() if annotation.get("iscrowd") else gathered)
    return measure(files, picture.image, size, path, found)


def _add(annotation: Mapping[str, Any], size: Size, gathered: Gathered) -> None:
    """Adds what an annotation outlines."""
    where, segmentation = annotation["where"], annotation.get("segmentation")
    if not segmentation:
        raise InputError(
            f"{where} has no segmentation; a box is not a mask, expected polygons or run lengths (export "
            "segmentations, or delete it)."
        )
    if isinstance(segmentation, Mapping):
        gathered.runs.append(_runs(segmentation, size, where))
    elif isinstance(segmentation, list):
        for index, polygon in enumerate(segmentation):
            gathered.polygons.append(checked_outline(polygon, size, f"{where}.segmentation[{index}]"))
    else:
        raise InputError(f"{where}.segmentation is {segmentation!r:.40}; expected polygons or run lengths.")


def _runs(segmentation: Mapping[str, Any], size: Size, where: str) -> Runs:
    said, counts = segmentation.get("size"), segmentation.get("counts", ())
    if said != list(size):
        raise InputError(
            f"{where}.segmentation has the size {said}; expected that of its picture, {list(size)} (height, "
            "width)."
        )
    try:
        decode_rle(counts, size)  # here the place in the file is known
    except InputError as error:
        raise InputError(f"{where}.segmentation: {error}") from None
    return counts if isinstance(counts, str) else tuple(counts)


def _field(entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``entry[key]``, which must be of ``kind``."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        word = "a text" if kind is str else "a whole number" if kind is int else "a number or a text"
        shown = "missing" if value is None else repr(value)[:40]
        raise InputError(f"{where}.{key} is {shown}; expected {word}.")
    return value
