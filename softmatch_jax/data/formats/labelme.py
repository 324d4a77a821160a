"""labelme: a JSON file beside each picture, with masks or polygons."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.folder_labelme import add_shape
from softmatch_jax.data.folder_outlines import Gathered
from softmatch_jax.data.formats.format import DRAWN_OUTLINES, Writing, colours_lost
from softmatch_jax.data.formats.labelled import (
    ExportOptions,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Losses,
    Written,
    check_classes,
)
from softmatch_jax.data.formats.names import check_inside, is_picture, without_suffix
from softmatch_jax.data.formats.objects import Assembly, Region, check_picture_size
from softmatch_jax.data.formats.reading import check_said, looks_like, size_of
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source, read_json, read_utf8
from softmatch_jax.data.formats.tracing import trace

_LIST = "labels.txt"
_IGNORED = "__ignore__"
_KINDS = ("polygon", "rectangle", "rotation", "circle", "mask")
_NO_AREA = "{count} shapes are lines or points, which have no area, and are left out."
_IGNORED_LOST = "{count} shapes labelled __ignore__ are left out."


class Labelme:
    """See :class:`Format`. Objects stay apart; masks are exact, polygons tie holes to their outlines."""

    name = "labelme"
    title = "labelme JSON"
    suffixes: tuple[str, ...] = (".json",)
    options: tuple[str, ...] = ("polygons",)

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """See :class:`Format`."""
        return ([DRAWN_OUTLINES] if options.polygons else []) + colours_lost(classes)

    def recognises(self, source: Source) -> bool:
        """See :class:`Format`."""
        return any(name.endswith(".json") and looks_like(source, name, ("shapes",)) for name in source.names)

    def write(
        self,
        sink: Sink,
        classes: Sequence[LabelledClass],
        pictures: Iterable[LabelledPicture],
        options: ExportOptions,
    ) -> Written:
        """See :class:`Format`."""
        writing = Writing(sink, classes, options, folder="")
        for picture in writing.each(pictures):
            shapes: list[dict[str, Any]] = []
            for number, (_, entry, region) in enumerate(writing.objects(picture), start=1):
                shapes += _shapes(entry.name, region, options.polygons, number)
            document: dict[str, Any] = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes,
                "imagePath": PurePosixPath(picture.name).name,
                "imageData": None,
                "imageHeight": picture.size[0],
                "imageWidth": picture.size[1],
            }
            data = json.dumps(document, ensure_ascii=False, indent=1).encode()
            sink.write(without_suffix(picture.name) + ".json", data)
        sink.write(_LIST, "".join(f"{name}\n" for name in (_IGNORED, *(c.name for c in classes))).encode())
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`."""
        places = [n for n in source.names if n.endswith(".json") and looks_like(source, n, ("shapes",))]
        if not places:
            raise InputError(f"{source.title} has no JSON file of labelme; expected x.json for x.jpg.")
        listed: list[str] = []
        lists = [name for name in source.names if ("/" + name).endswith("/" + _LIST)]
        if len(lists) == 1:
            lines = read_utf8(source, lists[0]).split("\n")
            listed = [line.rstrip("\r") for line in lines if line.strip() and line.strip() != _IGNORED]
        found = dict.fromkeys(listed)
        for place in places:
            found.update(dict.fromkeys(shape["label"] for shape in _listed(source, place)[1]))
        found.pop(_IGNORED, None)
        classes = tuple(LabelledClass(name=name) for name in found)
        check_classes(classes)
        losses = Losses()
        pictures = _pictures(source, places, known, losses)
        return LabelledSet(classes=classes, pictures=pictures, losses=losses)


def _shapes(name: str, region: Region, polygons: bool, group: int) -> list[dict[str, Any]]:
    """An object as one mask, or a polygon for each part, held together by a group."""
    common: dict[str, Any] = {"label": name, "group_id": None, "description": "", "flags": {}}
    if polygons:
        parts = [part.outline().astype(float).tolist() for part in trace(region)]
        group_id = group if len(parts) > 1 else None
        return [{**common, "points": p, "group_id": group_id, "shape_type": "polygon"} for p in parts]
    height, width = region.mask.shape
    last = [region.left + width - 1, region.top + height - 1]
    points = [[float(region.left), float(region.top)], [float(last[0]), float(last[1])]]
    return [{**common, "points": points, "shape_type": "mask", "mask": _png(region.mask)}]


def _png(mask: Mask) -> str:
    buffer = io.BytesIO()
    # Eight bits: labelme itself writes and reads 0 and 255.
    PIL.Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _listed(source: Source, place: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """A file and its shapes; raises ``InputError`` unless each is an object with a label."""
    where = f"{source.title}: {place}"
    document = read_json(source, place)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise InputError(f"{where} is not a file of labelme; expected an object with the list shapes.")
    document.pop("imageData", None)
    for index, shape in enumerate(document["shapes"]):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{where}: shapes[{index}] has no label; expected the name of its class.")
    return document, document["shapes"]


def _pictures(
    source: Source, places: Sequence[str], known: Mapping[str, Size], losses: Losses
) -> Iterator[LabelledPicture]:
    entries = frozenset(source.names)
    by_stem = {without_suffix(name): name for name in source.names if is_picture(name)}
    seen: set[str] = set()
    for place in places:
        where = f"{source.title}: {place}"
        document, shapes = _listed(source, place)
        name = _name(document, place, where)
        entry = name if name in entries else by_stem.get(without_suffix(place))
        name = entry or name
        if name in seen:
            raise InputError(f"{where} is a second file for {name}; expected one.")
        seen.add(name)
        said = (document.get("imageHeight"), document.get("imageWidth"))
        if said == (None, None) and (entry or name in known):
            said = known[name] if entry is None else size_of(source, entry)
        size = check_picture_size(said, where)
        check_said(source, entry, size, where)
        assembly = Assembly(size, losses, name)
        for class_name, mask in _objects(shapes, size, losses, where):
            assembly.add(class_name, mask)
        yield LabelledPicture(name=name, size=size, masks=assembly.masks(), entry=entry)


def _name(document: Mapping[str, Any], place: str, where: str) -> str:
    """Where ``imagePath`` leads to; where that is outside, as on the machine of another, a file beside."""
    said = document.get("imagePath")
    if not isinstance(said, str) or not said:
        return without_suffix(place) + ".jpg"
    beside = list(PurePosixPath(place).parts[:-1])
    parts, words = list(beside), said.replace("\\", "/").split("/")
    for part in words:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    if ".." in parts or re.match(r"/|\\|[A-Za-z]:", said):
        parts = [*beside, words[-1]]
    return check_inside("/".join(parts), f"{where}: imagePath")


def _objects(
    shapes: Sequence[Mapping[str, Any]], size: Size, losses: Losses, where: str
) -> Iterator[tuple[str, Mask]]:
    """Class and mask of each object; shapes of one label and group are one."""
    found: dict[tuple[str, object], Gathered] = {}
    for index, shape in enumerate(shapes):
        spot, label, group = f"{where}: shapes[{index}]", shape["label"], shape.get("group_id")
        if label == _IGNORED:
            losses.add(_IGNORED_LOST, where=spot)
            continue
        if (shape.get("shape_type") or "polygon") not in _KINDS:
            losses.add(_NO_AREA, where=spot)
            continue
        if group is not None and not isinstance(group, (int, str)):
            raise InputError(f"{spot} has the group_id {group!r:.40}; expected a whole number.")
        # Without a group a shape is an object of its own.
        key = (label, ("group", group) if group is not None else index)
        add_shape(shape, size, found.setdefault(key, Gathered()), spot)
    for (label, _), gathered in found.items():
        yield label, gathered.shapes().mask(size)
