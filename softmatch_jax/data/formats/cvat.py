"""CVAT: one XML file "CVAT for images 1.1" with masks or polygons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.folder_outlines import checked_numbers, checked_outline
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
from softmatch_jax.data.formats.reading import check_said, only
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source
from softmatch_jax.data.formats.tracing import trace
from softmatch_jax.data.formats.xml import parse_xml
from softmatch_jax.data.outlines import polygon_mask

_PLACE = "annotations.xml"
_OTHER = "{count} boxes, lines, points and the like are no masks and are left out."
_SHAPES = ("box", "polyline", "points", "ellipse", "cuboid", "skeleton", "tag")


class Cvat:
    """See :class:`Format`. Objects stay apart; masks are exact."""

    name = "cvat"
    title = "CVAT for images 1.1"
    suffixes: tuple[str, ...] = (".xml",)
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
        lines = ["<?xml version='1.0' encoding='utf-8'?>", "<annotations>", "<version>1.1</version>"]
        lines += ["<meta><task><labels>", *map(_label, writing.classes), "</labels></task></meta>"]
        for number, picture in enumerate(writing.each(pictures)):
            height, width = picture.size
            name = quoteattr(picture.name)
            lines.append(f'<image id="{number}" name={name} width="{width}" height="{height}">')
            for group, (_, entry, region) in enumerate(writing.objects(picture), start=1):
                lines += _shapes(entry.name, region, options.polygons, group)
            lines.append("</image>")
        sink.write(_PLACE, ("\n".join(lines) + "\n</annotations>\n").encode())
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`."""
        place = only(source, _candidates(source), "XML file of CVAT")
        where = f"{source.title}: {place}"
        root = parse_xml(source, place)
        if root.tag != "annotations" or root.find("track") is not None:
            raise InputError(f"{where} is not 'CVAT for images 1.1'; export it as that, not as video.")
        found = {entry.name: entry for entry in _classes(root)}
        for shape in root.iterfind("image/*"):
            if shape.tag in ("mask", "polygon"):
                name = _attribute(shape, "label", where)
                found.setdefault(name, LabelledClass(name=name))
        classes = tuple(found.values())
        check_classes(classes)
        losses = Losses()
        base = place.removesuffix(_PLACE)
        return LabelledSet(
            classes=classes, pictures=_pictures(source, base, root, losses, where), losses=losses
        )


def _label(entry: LabelledClass) -> str:
    element = ElementTree.Element("label")
    ElementTree.SubElement(element, "name").text = entry.name
    if entry.colour is not None:
        ElementTree.SubElement(element, "color").text = entry.colour
    ElementTree.SubElement(element, "attributes")
    return ElementTree.tostring(element, encoding="unicode")


def _shapes(name: str, region: Region, polygons: bool, group: int) -> list[str]:
    """An object as one mask, or a polygon for each part, held together by a group."""
    common = f'label={quoteattr(name)} source="manual" occluded="0"'
    if not polygons:
        height, width = region.mask.shape
        runs = Region(0, 0, region.mask).runs((height, width), "rows").tolist()
        box = f'left="{region.left}" top="{region.top}" width="{width}" height="{height}"'
        return [f'<mask {common} rle="{", ".join(map(str, runs))}" {box} z_order="0"></mask>']
    parts = trace(region)
    held = f' group_id="{group}"' if len(parts) > 1 else ""
    rings = [";".join(f"{x:.2f},{y:.2f}" for x, y in part.outline().tolist()) for part in parts]
    return [f'<polygon {common} points="{ring}" z_order="0"{held}></polygon>' for ring in rings]


def _candidates(source: Source) -> list[str]:
    return [name for name in source.names if ("/" + name).endswith("/" + _PLACE)]


def _classes(root: ElementTree.Element) -> Iterator[LabelledClass]:
    """The labels of the task, or of its project or job."""
    for label in root.iterfind("meta/*/labels/label"):
        name, colour = label.findtext("name"), label.findtext("color") or ""
        # Parts of skeletons are labels too, which have parents.
        if name and label.find("parent") is None:
            kept = colour.lower() if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) else None
            yield LabelledClass(name=name, colour=kept)


def _attribute(element: ElementTree.Element, key: str, where: str) -> str:
    value = element.get(key)
    if value is None:
        raise InputError(f"{where} has a {element.tag} without {key}; export it again.")
    return value


def _whole(element: ElementTree.Element, key: str, where: str) -> int:
    text = _attribute(element, key, where)
    if not re.fullmatch(r"[0-9]{1,9}(\.0+)?", text):
        raise InputError(f"{where} has a {element.tag} with {key} = {text!r:.40}; expected a whole number.")
    return int(text.partition(".")[0])


def _pictures(
    source: Source, base: str, root: ElementTree.Element, losses: Losses, where: str
) -> Iterator[LabelledPicture]:
    entries, seen = frozenset(source.names), set()
    for image in root.iterfind("image"):
        name = check_inside(_attribute(image, "name", where).replace("\\", "/"), where)
        if name in seen:
            raise InputError(f"{where} has the image {name} twice; expected each picture once.")
        seen.add(name)
        spot = f"{where}: {name}"
        size = check_picture_size((_whole(image, "height", spot), _whole(image, "width", spot)), spot)
        entry = find_picture(entries, base, name)
        check_said(source, entry, size, spot)
        assembly = Assembly(size, losses, name)
        for label, mask in _objects(image, size, losses, spot):
            assembly.add(label, mask)
        yield LabelledPicture(name=name, size=size, masks=assembly.masks(), entry=entry)


def _objects(
    image: ElementTree.Element, size: Size, losses: Losses, where: str
) -> Iterator[tuple[str, Mask]]:
    """Class and mask of each object; shapes of one label and group are one."""
    found: dict[tuple[str, object], Mask] = {}
    for index, shape in enumerate(image):
        if shape.tag in _SHAPES:
            losses.add(_OTHER, where=where)
        elif shape.tag in ("mask", "polygon"):
            label, group = _attribute(shape, "label", where), shape.get("group_id", "0")
            key = (label, index if group == "0" else ("group", group))
            mask = (_filled if shape.tag == "polygon" else _mask)(shape, size, where)
            found[key] = found[key] | mask if key in found else mask
    for (label, _), mask in found.items():
        yield label, mask


def _filled(shape: ElementTree.Element, size: Size, where: str) -> Mask:
    words = re.split(r"[;,]", _attribute(shape, "points", where))
    try:
        numbers = checked_numbers([float(word) for word in words], where)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} has a polygon whose points are no numbers; expected x,y;x,y;...") from None
    return polygon_mask(checked_outline(numbers, size, where), size)


def _mask(shape: ElementTree.Element, size: Size, where: str) -> Mask:
    """Run lengths along the rows of a box, the first outside."""
    left, top, width, height = (_whole(shape, key, where) for key in ("left", "top", "width", "height"))
    if left + width > size[1] or top + height > size[0]:
        raise InputError(
            f"{where} has a mask from ({left}, {top}) to ({left + width}, {top + height}); expected one "
            f"inside its picture of {size[1]}x{size[0]} pixels."
        )
    words = _attribute(shape, "rle", where).split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", word) for word in words):
        raise InputError(f"{where} has a mask whose rle is no list of lengths; export it again.")
    runs = list(map(int, words))
    if sum(runs) != width * height:
        raise InputError(
            f"{where} has a mask whose rle adds up to {sum(runs)} pixels; expected {width}x{height} = "
            f"{width * height}, those of its box."
        )
    mask = np.zeros(size, np.bool_)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + height, left : left + width] = inside.reshape(height, width)
    return mask
