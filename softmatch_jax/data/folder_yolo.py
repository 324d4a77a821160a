"""A text file of outlines for each picture, as YOLO's segmentation models are trained on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.files import read_text
from softmatch_jax.data.folder_files import FolderFiles, in_threads, named
from softmatch_jax.data.folder_lists import Annotated, Wanted, class_lists, missing
from softmatch_jax.data.folder_names import read_name_list, read_yaml_names
from softmatch_jax.data.folder_outlines import Gathered, checked_outline, measure
from softmatch_jax.data.folder_pairing import PICTURE_FOLDERS
from softmatch_jax.imaging import image_size

DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
"""Files in the folder itself that name the classes."""

_NOT_LABELS = ("classes.txt", "labels.txt")
_STRAY = 0.5  # of the picture's side: a position farther outside is not a fraction of it


def find_yolo(files: FolderFiles) -> dict[PurePosixPath, PurePosixPath]:
    """The picture of each file of labels that has one.

    Labels lie in ``labels`` at the same path as the picture in ``images``, or beside the picture.
    """
    images = _by_stem(files)
    found = {}
    for path in files.notes_with(".txt"):
        image = next((images[stem] for stem in _stems(path) if stem in images), None)
        if image is not None and path.name.lower() not in _NOT_LABELS:
            found[path] = image[0]
    return found


def read_yolo(files: FolderFiles, wanted: Wanted) -> ClassLists:
    """Reads a folder of pictures and label files with normalised polygons.

    The polygons of a class in a picture are united. Pictures without a file of labels are left out. Names are
    taken from ``data.yaml`` or ``dataset.yaml``, else ``classes.txt``; without them classes are
    ``class 0``, ``class 1``, and so on.

    Raises:
        InputError: There are no labels; labels have no picture or two; a line is not an outline, or its class
            has no name; or as :func:`class_lists`.
    """
    found = find_yolo(files)
    lost = [p for p in files.notes_with(".txt") if _is_labels(p) and p not in found]
    if lost:
        cure = "expected images/x.jpg for labels/x.txt (copy the pictures, or delete the labels)"
        raise missing(files, "label files without a picture", lost, cure)
    if not found:
        raise InputError(f"{files.root} has no labels; expected labels/x.txt for images/x.jpg.")
    _check_single(files, found)
    names, source = _names(files)
    work = list(found.items())
    pictures = in_threads(lambda item: _measure(files, item[0], item[1], names, source), work)
    if names is None:
        seen = {name for picture in pictures for name in picture.truths}
        order = sorted(seen, key=lambda name: int(name.split()[1]))
    else:
        order = [names[number] for number in sorted(names)]
    return class_lists(files, order, pictures, wanted)


def _by_stem(files: FolderFiles) -> dict[PurePosixPath, list[PurePosixPath]]:
    """Pictures by their path without suffix."""
    images: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for image in files.images:
        images[image.with_suffix("")].append(image)
    return images


def _stems(path: PurePosixPath) -> list[PurePosixPath]:
    """Where the picture of a file of labels may be, without suffix."""
    stem, parts = path.with_suffix(""), path.parts
    stems = [stem]
    for index in reversed(range(len(parts) - 1)):
        if parts[index].lower() == "labels":
            written = [*PICTURE_FOLDERS, *(name.capitalize() for name in PICTURE_FOLDERS), "JPEGImages"]
            stems += [PurePosixPath(*parts[:index], name, *stem.parts[index + 1 :]) for name in written]
            stems.append(PurePosixPath(*parts[:index], *stem.parts[index + 1 :]))
            break
    return stems


def _is_labels(path: PurePosixPath) -> bool:
    inside = any(part.lower() == "labels" for part in path.parts[:-1])
    return inside and path.name.lower() not in _NOT_LABELS


def _check_single(files: FolderFiles, found: Mapping[PurePosixPath, PurePosixPath]) -> None:
    """Raises ``InputError`` if a file of labels has two pictures, or a picture two files."""
    owners: dict[PurePosixPath, PurePosixPath] = {}
    by_stem = _by_stem(files)
    for path, image in found.items():
        same = by_stem[image.with_suffix("")]
        if len(same) > 1:
            raise InputError(
                f"{files.root / path} has {named(same)} pictures; expected one (rename or remove one)."
            )
        if owners.setdefault(image, path) != path:
            both = named([owners[image], path])
            raise InputError(f"The picture {image} of {files.root} has {both} label files; expected one.")


def _names(files: FolderFiles) -> tuple[Mapping[int, str] | None, str]:
    """The names of the classes, and where they are from."""
    for name in DATA_FILES:
        path = files.root / name
        if path.is_file() and (names := read_yaml_names(path)) is not None:
            return names, str(path)
    lists = (files.root / "classes.txt", files.root / "labels" / "classes.txt")
    found = next((path for path in lists if path.is_file()), None)
    return (None, "") if found is None else (read_name_list(found), str(found))


def _measure(
    files: FolderFiles,
    path: PurePosixPath,
    image: PurePosixPath,
    names: Mapping[int, str] | None,
    source: str,
) -> Annotated:
    file, size = files.root / path, image_size(files.root / image)
    found: dict[str, Gathered] = defaultdict(Gathered)
    for index, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            where = f"{file}, line {index},"
            number, outline = _outline(line.split(), size, where)
            if names is not None and number not in names:
                raise InputError(
                    f"{where} is of class {number}, but {source} names {len(names)} classes, up to "
                    f"{max(names)}; expected one of those (add the name)."
                )
            found[f"class {number}" if names is None else names[number]].polygons.append(outline)
    return measure(files, image, size, file, found)


def _outline(words: list[str], size: Size, where: str) -> tuple[int, tuple[float, ...]]:
    """The class and the outline in pixels of a line ``class x1 y1 x2 y2 ...`` in fractions of the sides."""
    if not words[0].isascii() or not words[0].isdigit() or len(words[0]) > 6:
        raise InputError(f"{where} begins with {words[0]!r:.40}; expected the number of a class.")
    if len(words) == 5:
        raise InputError(
            f"{where} is a class and a box; boxes are not masks, expected outlines, class x1 y1 x2 y2 x3 y3 "
            "... (export for segmentation)."
        )
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{where} holds a word that is no number; expected class x1 y1 x2 y2 ...") from None
    for value in values:
        if not math.isfinite(value) or not -_STRAY <= value <= 1 + _STRAY:
            raise InputError(f"{where} holds {value:g}; expected fractions of the picture's sides, 0 to 1.")
    return int(words[0]), checked_outline([v * size[1 - k % 2] for k, v in enumerate(values)], size, where)
