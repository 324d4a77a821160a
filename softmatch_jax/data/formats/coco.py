"""COCO: one JSON file with run lengths or polygons, as its API reads it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.folder_outlines import Gathered, checked_outline
from softmatch_jax.data.formats.format import DRAWN_OUTLINES, Writing
from softmatch_jax.data.formats.labelled import (
    ExportOptions,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Losses,
    Written,
    check_classes,
)
from softmatch_jax.data.formats.names import check_inside, find_picture
from softmatch_jax.data.formats.objects import Assembly, Region, check_picture_size
from softmatch_jax.data.formats.packing import pack_coco
from softmatch_jax.data.formats.reading import check_said, field, looks_like, only
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source, read_json
from softmatch_jax.data.formats.tracing import trace

_PLACE = "annotations/instances_default.json"
_KEYS = ("images", "annotations", "categories")
_CROWDS = "{count} crowds (iscrowd) are left out: they are no single objects."
_BOXES = "{count} annotations have no segmentation and are left out: a box is not a mask."
_SHORT = "{count} polygons of fewer than three points are left out."


class Coco:
    """See :class:`Format`. Objects stay apart, and may overlap across classes."""

    name = "coco"
    title = "COCO JSON"
    suffixes: tuple[str, ...] = (".json",)
    options: tuple[str, ...] = ("polygons",)

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """See :class:`Format`."""
        return [DRAWN_OUTLINES] if options.polygons else []

    def recognises(self, source: Source) -> bool:
        """See :class:`Format`."""
        return bool(_candidates(source))

    def write(
        self,
        sink: Sink,
        classes: Sequence[LabelledClass],
        pictures: Iterable[LabelledPicture],
        options: ExportOptions,
    ) -> Written:
        """See :class:`Format`."""
        writing = Writing(sink, classes, options)
        images: list[str] = []
        annotations: list[str] = []
        for picture in writing.each(pictures):
            height, width = picture.size
            number = len(images) + 1
            images.append(
                _packed({"id": number, "file_name": picture.name, "width": width, "height": height})
            )
            for index, entry, region in writing.objects(picture):
                annotation = _annotation(region, picture.size, options.polygons)
                annotation |= {"id": len(annotations) + 1, "image_id": number, "category_id": index + 1}
                if entry.name in picture.scores:
                    annotation["score"] = float(picture.scores[entry.name])
                annotations.append(_packed(annotation))
        categories = [_packed(_category(index, entry)) for index, entry in enumerate(writing.classes)]
        lists = zip(_KEYS, (images, annotations, categories), strict=True)
        text = ",\n".join(f'"{key}": [' + ",\n".join(entries) + "]" for key, entries in lists)
        sink.write(_PLACE, ("{" + text + "}\n").encode())
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`."""
        place = only(source, _candidates(source), "JSON file of COCO")
        where = f"{source.title}: {place}"
        document = read_json(source, place)
        if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in _KEYS):
            raise InputError(f"{where} is not COCO's; expected an object with the lists {', '.join(_KEYS)}.")
        classes = _classes(document["categories"], where)
        listed = tuple(classes.values())
        check_classes(listed)
        grouped = _grouped(document, classes, where)
        losses = Losses()
        base = place.rpartition("/")[0] + "/" if "/" in place else ""
        base = base.removesuffix("annotations/")
        pictures = _pictures(source, base, document["images"], grouped, losses, where)
        return LabelledSet(classes=listed, pictures=pictures, losses=losses)


def _packed(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def _category(index: int, entry: LabelledClass) -> dict[str, Any]:
    category: dict[str, Any] = {"id": index + 1, "name": entry.name, "supercategory": ""}
    if entry.colour is not None:
        category["color"] = list(bytes.fromhex(entry.colour[1:]))
    return category


def _annotation(region: Region, size: Size, polygons: bool) -> dict[str, Any]:
    height, width = region.mask.shape
    segmentation: Any
    if polygons:
        segmentation = [part.outline().ravel().tolist() for part in trace(region)]
    else:
        segmentation = {"size": list(size), "counts": pack_coco(region.runs(size, "columns"))}
    return {
        "segmentation": segmentation,
        "area": region.area,
        "bbox": [region.left, region.top, width, height],
        "iscrowd": 0,
    }


def _candidates(source: Source) -> list[str]:
    return [
        name
        for name in source.names
        if name.endswith(".json")
        and looks_like(source, name, _KEYS)
        and not looks_like(source, name, ("shapes", "data"))
    ]


def _classes(categories: list[Any], where: str) -> dict[int, LabelledClass]:
    classes: dict[int, LabelledClass] = {}
    for index, category in enumerate(categories):
        place = f"{where}: categories[{index}]"
        number, name = field(category, "id", int, place), field(category, "name", str, place)
        if number in classes:
            raise InputError(f"{place} has the id {number} of {classes[number].name!r}; expected another.")
        colour, rgb = None, category.get("color")
        if isinstance(rgb, list) and len(rgb) == 3 and all(type(v) is int and 0 <= v < 256 for v in rgb):
            colour = "#" + bytes(rgb).hex()
        classes[number] = LabelledClass(name=name, colour=colour)
    return classes


_Grouped = dict[Any, list[tuple[str, str, Mapping[str, Any]]]]


def _grouped(document: Mapping[str, Any], classes: Mapping[int, LabelledClass], where: str) -> _Grouped:
    """The annotations of each picture: place, class and entry. All that they name is there."""
    known = {
        field(entry, "id", (int, str), f"{where}: images[{i}]") for i, entry in enumerate(document["images"])
    }
    if len(known) != len(document["images"]):
        raise InputError(f"{where} has two images of one id; expected different ids.")
    grouped: _Grouped = defaultdict(list)
    for index, annotation in enumerate(document["annotations"]):
        place = f"{where}: annotations[{index}]"
        category = field(annotation, "category_id", int, place)
        image = field(annotation, "image_id", (int, str), place)
        if category not in classes:
            raise InputError(f"{place} is of category {category}, which is not in categories; add it there.")
        if image not in known:
            raise InputError(f"{place} is of image {image!r}, which is not in images; add it there.")
        grouped[image].append((place, classes[category].name, annotation))
    return grouped


def _pictures(
    source: Source, base: str, images: Sequence[Any], grouped: _Grouped, losses: Losses, where: str
) -> Iterator[LabelledPicture]:
    entries, seen = frozenset(source.names), set()
    for index, image in enumerate(images):
        place = f"{where}: images[{index}]"
        name = check_inside(field(image, "file_name", str, place).replace("\\", "/"), place)
        if name in seen:
            raise InputError(f"{place} is a second {name}; expected each picture once.")
        seen.add(name)
        size = check_picture_size((image.get("height"), image.get("width")), f"{place} ({name})")
        entry = find_picture(entries, base, name)
        check_said(source, entry, size, place)
        assembly = Assembly(size, losses, name)
        for spot, class_name, annotation in grouped.get(image["id"], ()):
            mask = _mask(annotation, size, losses, spot)
            if mask is not None:
                assembly.add(class_name, mask)
        yield LabelledPicture(name=name, size=size, masks=assembly.masks(), entry=entry)


def _mask(annotation: Mapping[str, Any], size: Size, losses: Losses, where: str) -> Mask | None:
    segmentation = annotation.get("segmentation")
    if annotation.get("iscrowd"):
        losses.add(_CROWDS, where=where)
        return None
    if not segmentation:
        losses.add(_BOXES, where=where)
        return None
    gathered = Gathered()
    if isinstance(segmentation, Mapping):
        if segmentation.get("size", list(size)) != list(size):
            raise InputError(
                f"{where} has run lengths of size {segmentation['size']!r:.40}; expected {list(size)}."
            )
        counts = segmentation.get("counts")
        if not isinstance(counts, (str, list)):
            raise InputError(f"{where} has no counts; expected run lengths.")
        gathered.runs.append(counts if isinstance(counts, str) else tuple(counts))
    elif isinstance(segmentation, list):
        for polygon in segmentation:
            if isinstance(polygon, list) and len(polygon) < 6:
                losses.add(_SHORT, where=where)
            else:
                gathered.polygons.append(checked_outline(polygon, size, where))
    else:
        raise InputError(
            f"{where} has a segmentation {segmentation!r:.40}; expected polygons or run lengths."
        )
    try:
        return gathered.shapes().mask(size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
