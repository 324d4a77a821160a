"""Annotations of one picture as a JSON file.

    {"softmatch": 1, "image": "a.jpg", "size": [640, 480], "annotations": [
      {"class": "duck",
       "strokes": [{"points": [[12.5, 30], [40, 33]], "width": 8, "positive": true}],
       "points": [[60, 41]], "negative_points": [[200, 12]]},
      {"class": "pond", "box": [0, 10, 320, 200]}]}

Positions are ``(x, y)`` in pixels; ``image`` and ``size`` (width, height) are optional. One entry
for each class. Strokes and points of one class combine; a box stands alone.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.imaging import atomic_write_text
from softmatch_jax.prompting import Annotation, Box, Points, Polyline, Scribbles, point_radius

_T = TypeVar("_T")

_VERSION = 1
_LARGEST_FILE = 16 * 2**20  # bytes
_MOST_POINTS = 1_000_000
_DOT = 8.0  # pixels; the width of a dot where the size of the picture is not known


def read_annotations(path: str | os.PathLike[str], *, size: Size | None = None) -> dict[str, Annotation]:
    """Reads the annotations of a picture.

    Args:
        path: the file.
        size: ``(height, width)`` of the picture, to be compared with the file's.

    Returns:
        One annotation for each class: a `Box`; `Points` for points alone, the positive ones
        first; otherwise `Scribbles`, strokes first, with a dot for each point.

    Raises:
        InputError: if the file cannot be read, is not in this format, or is too large; the
            message gives line and column, or the place as ``annotations[0].strokes[2].width``.
    """
    document = _object(_load(Path(path)), "The document", {"softmatch", "image", "size", "annotations"})
    if document.get("softmatch") != _VERSION or isinstance(document["softmatch"], bool):
        raise InputError(
            f"softmatch is {_show(document.get('softmatch'))} in {path}; expected the version of the "
            f'format, "softmatch": {_VERSION}.'
        )
    if not isinstance(document.get("image", ""), str):
        raise InputError(f"image is {_show(document['image'])}; expected a file name.")
    own_size = _read_size(document.get("size"), size)
    reader = _Reader(own_size or size)
    annotations: dict[str, Annotation] = {}
    for index, entry in enumerate(_list(document.get("annotations"), "annotations")):
        name, annotation = reader.entry(entry, f"annotations[{index}]")
        if name in annotations:
            raise InputError(
                f"annotations[{index}].class is {_show(name)}, which an earlier entry has too; expected "
                "one entry for each class (put all strokes of a class into one)."
            )
        annotations[name] = annotation
    return annotations


def write_annotations(
    path: str | os.PathLike[str],
    annotations: Mapping[str, Annotation],
    size: Size,
    *,
    image: str | None = None,
) -> None:
    """Writes the annotations of a picture; the file appears whole or not at all.

    Reading it again gives equal annotations, except that negative points come after positive ones.

    Args:
        path: the file; replaced if it exists.
        annotations: strokes, points or a box for each class.
        size: ``(height, width)`` of the picture.
        image: file name of the picture, to be kept in the file.

    Raises:
        InputError: if an annotation is made of pixels, which this format does not hold.
    """
    entries = [{"class": name, **_fields(name, annotation)} for name, annotation in annotations.items()]
    document: dict[str, Any] = {"softmatch": _VERSION}
    if image is not None:
        document["image"] = image
    document |= {"size": [int(size[1]), int(size[0])], "annotations": entries}
    atomic_write_text(path, json.dumps(document, allow_nan=False) + "\n")


def _fields(name: str, annotation: Annotation) -> dict[str, Any]:
    if isinstance(annotation, Scribbles):
        strokes = [{"points": s.points, "width": s.width, "positive": s.positive} for s in annotation.strokes]
        return {"strokes": strokes}
    if isinstance(annotation, Points):
        signed = list(zip(annotation.xy, annotation.positive, strict=True))
        return {
            "points": [xy for xy, positive in signed if positive],
            "negative_points": [xy for xy, positive in signed if not positive],
        }
    if isinstance(annotation, Box):
        return {"box": [annotation.x0, annotation.y0, annotation.x1, annotation.y1]}
    raise InputError(
        f"The annotation of class {name!r} is a {type(annotation).__name__}; expected strokes, points or "
        "a box (save pixels as a mask image instead)."
    )


class _Reader:
    """Reads entries of one file and counts their points."""

    def __init__(self, size: Size | None) -> None:
        self._dot = _DOT if size is None else 2 * point_radius(size)
        self._points_left = _MOST_POINTS

    def entry(self, value: Any, where: str) -> tuple[str, Annotation]:
        entry = _object(value, where, {"class", "strokes", "points", "negative_points", "box"})
        name = entry.get("class")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}.class is {_show(name)}; expected the name of the class, a text.")
        marks = {key for key in entry if key != "class"}
        if "box" in entry:
            if marks != {"box"}:
                raise InputError(
                    f"{where} has a box together with {', '.join(sorted(marks - {'box'}))}; expected "
                    "the box alone (or only strokes and points)."
                )
            return name, self._box(entry["box"], f"{where}.box")
        strokes = [
            self._stroke(stroke, f"{where}.strokes[{index}]")
            for index, stroke in enumerate(_list(entry.get("strokes", []), f"{where}.strokes"))
        ]
        on = self._points(entry.get("points", []), f"{where}.points")
        off = self._points(entry.get("negative_points", []), f"{where}.negative_points")
        if not (strokes or on or off):
            raise InputError(f"{where} marks nothing; expected strokes, points, negative_points or a box.")
        signs = (True,) * len(on) + (False,) * len(off)
        if not strokes:
            return name, Points(tuple(on + off), signs)
        dots = [Polyline((xy,), self._dot, sign) for xy, sign in zip(on + off, signs, strict=True)]
        return name, Scribbles(tuple(strokes + dots))

    def _stroke(self, value: Any, where: str) -> Polyline:
        stroke = _object(value, where, {"points", "width", "positive"})
        points = self._points(stroke.get("points"), f"{where}.points")
        if not points:
            raise InputError(f"{where}.points is empty; expected at least one [x, y].")
        width = _number(stroke.get("width", Polyline.width), lambda: f"{where}.width")
        if width <= 0:
            raise InputError(f"{where}.width is {width:g}; expected a number of pixels greater than 0.")
        positive = stroke.get("positive", True)
        if not isinstance(positive, bool):
            raise InputError(f"{where}.positive is {_show(positive)}; expected true or false.")
        return _checked(lambda: Polyline(tuple(points), width, positive), where)

    def _points(self, value: Any, where: str) -> list[tuple[float, float]]:
        pairs = _list(value, where)
        self._points_left -= len(pairs)
        if self._points_left < 0:
            raise InputError(f"{where} takes the file over {_MOST_POINTS} points; expected fewer.")
        return [_pair(pair, where, index) for index, pair in enumerate(pairs)]

    def _box(self, value: Any, where: str) -> Box:
        corners = _list(value, where)
        if len(corners) != 4:
            raise InputError(f"{where} has {len(corners)} numbers; expected four, [x0, y0, x1, y1].")
        x0, y0, x1, y1 = (
            _number(n, functools.partial("{}[{}]".format, where, i)) for i, n in enumerate(corners)
        )
        return _checked(lambda: Box(x0, y0, x1, y1), where)


def _load(path: Path) -> Any:
    """Reads JSON strictly: no duplicate keys, no NaN, positions in every message."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected an annotation file.") from None
    if len(raw) > _LARGEST_FILE:
        raise InputError(f"{path} is larger than {_LARGEST_FILE >> 20} MB; expected less.")
    if not raw.strip():
        raise InputError(f"{path} is empty; expected annotations in JSON.")
    try:
        return json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected annotations in JSON.") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; mend it "
            "there."
        ) from None
    except (RecursionError, ValueError):  # absurd depth, or a number of thousands of digits
        raise InputError(f"{path} is nested too deeply or holds an endless number; mend it.") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"the key {_show(twice)} occurs twice in one object; expected it once.")
    return fields


def _refuse_constant(text: str) -> Any:
    raise InputError(f"{text} is not a number that JSON knows; expected finite numbers.")


def _object(value: Any, where: str, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {_show(value)}; expected an object with {', '.join(sorted(known))}.")
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise InputError(
            f"{where} has the unknown key {_show(unknown[0])}; expected only {', '.join(sorted(known))}."
        )
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} is {_show(value)}; expected a list.")
    return value


def _pair(value: Any, where: str, index: int) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where}[{index}] is {_show(value)}; expected a position [x, y].")
    return (
        _number(value[0], lambda: f"{where}[{index}][0]"),
        _number(value[1], lambda: f"{where}[{index}][1]"),
    )


def _number(value: Any, where: Callable[[], str]) -> float:
    try:
        # JSON's true is an int to Python.
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise InputError(f"{where()} is {_show(value)}; expected a finite number.")


def _read_size(value: Any, expected: Size | None) -> Size | None:
    if value is None:
        return None
    pair = _list(value, "size")
    if len(pair) != 2 or not all(type(n) is int and n >= 1 for n in pair):
        raise InputError(f"size is {_show(value)}; expected [width, height] in whole pixels.")
    size = (pair[1], pair[0])
    if expected is not None and size != tuple(expected):
        raise InputError(
            f"size is [{pair[0]}, {pair[1]}] but the picture is {expected[1]} wide and {expected[0]} high; "
            "expected annotations made on this picture at this size."
        )
    return size


def _checked(make: Callable[[], _T], where: str) -> _T:
    """Adds the place to what a constructor says."""
    try:
        return make()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _show(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
