"""Label Studio: tasks in JSON with brush masks or polygons, and the labelling config that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

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
from softmatch_jax.data.formats.packing import pack_brush, unpack_brush
from softmatch_jax.data.formats.reading import check_said, field, only, size_of
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source, read_json
from softmatch_jax.data.formats.tracing import trace
from softmatch_jax.data.formats.xml import parse_xml
from softmatch_jax.data.outlines import polygon_mask

_TASKS = "tasks.json"
_CONFIG = "label_config.xml"
_HEAD = 1 << 16
_BRUSH, _POLYGON = "brushlabels", "polygonlabels"
_PARTS = "{count} objects have several parts, each of which becomes a polygon of its own."
_SPLIT = "Polygons: parts of an object become objects of their own."
_OTHER = "{count} results are boxes, points or texts and not masks; they are left out."
_SECOND = "{count} further annotations of tasks that have several are left out; the first is taken."
_TURNED = "{count} results were drawn on a turned picture and are left out."


class LabelStudio:
    """See :class:`Format`. Objects stay apart; brush masks are exact."""

    name = "label_studio"
    title = "Label Studio JSON"
    suffixes: tuple[str, ...] = (".json",)
    options: tuple[str, ...] = ("polygons",)

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """See :class:`Format`."""
        return [_SPLIT, DRAWN_OUTLINES] if options.polygons else []

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
        kind = _POLYGON if options.polygons else _BRUSH
        tasks: list[str] = []
        for picture in writing.each(pictures):
            results: list[dict[str, Any]] = []
            for _, entry, region in writing.objects(picture):
                score = picture.scores.get(entry.name)
                values = _values(region, picture, options.polygons, writing.losses)
                for value in values:
                    label = f"p{len(tasks) + 1}o{len(results) + 1}"
                    results.append(_result(label, kind, {**value, kind: [entry.name]}, picture.size, score))
            # Local files are served under this address when the folder is Label Studio's document root.
            address = "/data/local-files/?d=" + quote(f"images/{picture.name}")
            task = {"data": {"image": address}, "annotations": [{"result": results}]}
            tasks.append(json.dumps(task, ensure_ascii=False, separators=(",", ":")))
        sink.write(_TASKS, ("[" + ",\n".join(tasks) + "]\n").encode())
        sink.write(_CONFIG, _config(writing.classes, kind))
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`."""
        place = only(source, _candidates(source), "JSON file of Label Studio")
        where = f"{source.title}: {place}"
        tasks = read_json(source, place)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise InputError(f"{where} is not Label Studio's; expected a list of tasks.")
        found = {entry.name: entry for entry in _configured(source, place)}
        losses = Losses()
        results = [_results(task, losses, f"{where}: [{index}]") for index, task in enumerate(tasks)]
        for task_results in results:
            for spot, result in task_results:
                for name in _labels(result, spot):
                    found.setdefault(name, LabelledClass(name=name))
        classes = tuple(found.values())
        check_classes(classes)
        base = place.removesuffix(PurePosixPath(place).name)
        pictures = _pictures(source, base, tasks, results, known, losses, where)
        return LabelledSet(classes=classes, pictures=pictures, losses=losses)


def _values(region: Region, picture: LabelledPicture, polygons: bool, losses: Losses) -> list[dict[str, Any]]:
    """The value of each result of an object, without its label."""
    if not polygons:
        return [{"format": "rle", "rle": pack_brush(region.runs(picture.size, "rows"), picture.size)}]
    height, width = picture.size
    parts = trace(region)
    losses.add(_PARTS, len(parts) > 1, picture.name)
    rings = [part.outline().tolist() for part in parts]
    return [
        {"points": [[100 * x / width, 100 * y / height] for x, y in ring], "closed": True} for ring in rings
    ]


def _result(
    label: str, kind: str, value: Mapping[str, Any], size: Size, score: float | None
) -> dict[str, Any]:
    result = {
        "id": label,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value,
    }
    return result if score is None else {**result, "score": float(score)}


def _config(classes: Sequence[LabelledClass], kind: str) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    tag = {_BRUSH: "BrushLabels", _POLYGON: "PolygonLabels"}[kind]
    labels = ElementTree.SubElement(view, tag, name="label", toName="image")
    for entry in classes:
        colour = {} if entry.colour is None else {"background": entry.colour}
        ElementTree.SubElement(labels, "Label", {"value": entry.name, **colour})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8", xml_declaration=True)


def _candidates(source: Source) -> list[str]:
    """JSON files that begin as a list of tasks."""
    found = []
    for name in source.names:
        if name.endswith(".json"):
            head = source.head(name, _HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
            if (head[:1] == b"[" and b'"data"' in head) or name.rpartition("/")[2] == _TASKS:
                found.append(name)
    return found


def _configured(source: Source, place: str) -> list[LabelledClass]:
    """The classes of the labelling config, if one lies beside the tasks."""
    config = place.removesuffix(PurePosixPath(place).name) + _CONFIG
    if config not in source.names:
        return []
    labels = parse_xml(source, config).iter("Label")
    named = {label.get("value") or label.get("alias") or "": label.get("background") for label in labels}
    colour = re.compile(r"#[0-9a-fA-F]{6}")
    return [
        LabelledClass(name=name, colour=shade.lower() if shade and colour.fullmatch(shade) else None)
        for name, shade in named.items()
    ]


_Results = list[tuple[str, Mapping[str, Any]]]


def _results(task: Mapping[str, Any], losses: Losses, where: str) -> _Results:
    """The masks of a task's first annotation that was not cancelled, with their places."""
    annotations = task.get("annotations", [])
    if not isinstance(annotations, list) or not all(isinstance(entry, dict) for entry in annotations):
        raise InputError(
            f"{where} has annotations that are no list of objects; export it as JSON, not JSON-MIN."
        )
    made = [(i, entry) for i, entry in enumerate(annotations) if not entry.get("was_cancelled")]
    losses.add(_SECOND, max(0, len(made) - 1), where)
    found: _Results = []
    for at, annotation in made[:1]:
        results = annotation.get("result")
        if not isinstance(results, list):
            raise InputError(f"{where}: annotations[{at}] has no list result; export it again.")
        for index, result in enumerate(results):
            spot = f"{where}: annotations[{at}].result[{index}]"
            if field(result, "type", str, spot) not in (_BRUSH, _POLYGON):
                losses.add(_OTHER, where=spot)
            elif result.get("image_rotation"):
                losses.add(_TURNED, where=spot)
            else:
                found.append((spot, result))
    return found


def _labels(result: Mapping[str, Any], where: str) -> list[str]:
    value = field(result, "value", dict, where)
    labels = value.get(result["type"])
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{where} has no {result['type']}; expected a list of names.")
    return labels


def _pictures(
    source: Source,
    base: str,
    tasks: Sequence[Mapping[str, Any]],
    results: Sequence[_Results],
    known: Mapping[str, Size],
    losses: Losses,
    where: str,
) -> Iterator[LabelledPicture]:
    entries, seen = frozenset(source.names), set()
    for index, (task, found) in enumerate(zip(tasks, results, strict=True)):
        place = f"{where}: [{index}]"
        name = _name(task, place, known)
        if name in seen:
            raise InputError(f"{place} is a second task of {name}; expected each picture once.")
        seen.add(name)
        entry = find_picture(entries, base, name)
        said = {(result.get("original_height"), result.get("original_width")) for _, result in found}
        if len(said) > 1:
            raise InputError(f"{place} has results for pictures of several sizes; expected one size.")
        if not said and entry is None and name not in known:
            continue  # A task without masks and without a picture says nothing.
        size = said.pop() if said else known[name] if entry is None else size_of(source, entry)
        size = check_picture_size(size, f"{place} ({name})")
        check_said(source, entry, size, place)
        assembly = Assembly(size, losses, name)
        for spot, result in found:
            mask = _mask(result, size, spot)
            for label in _labels(result, spot):
                assembly.add(label, mask)
        yield LabelledPicture(name=name, size=size, masks=assembly.masks(), entry=entry)


def _name(task: Mapping[str, Any], where: str, known: Mapping[str, Size]) -> str:
    """The picture's name from its address: of a local file, or of an upload, whose name got a prefix."""
    data = field(task, "data", dict, where)
    address = data.get("image") if isinstance(data.get("image"), str) else None
    address = address or next((value for value in data.values() if isinstance(value, str)), None)
    if address is None:
        raise InputError(f"{where} has no picture; expected its address at data.image.")
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    path = local[0] if local else unquote(parts.path)
    if not local and (parts.scheme or path.startswith("/")):
        path = PurePosixPath(path).name
    path = path.lstrip("/").removeprefix("images/")
    uploaded = re.match(r"[0-9a-f]{8}-(.+)", path)
    if path not in known and uploaded and uploaded[1] in known:
        path = uploaded[1]
    return check_inside(path, where)


def _mask(result: Mapping[str, Any], size: Size, where: str) -> Mask:
    value = result["value"]
    if result["type"] == _BRUSH:
        return unpack_brush(value.get("rle"), size, where)
    points = value.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise InputError(f"{where} has no points; expected a list of [x, y] in per cent.")
    flat = checked_numbers([number for point in points for number in point], where)
    outline = [number * size[1 - k % 2] / 100 for k, number in enumerate(flat)]
    return polygon_mask(checked_outline(outline, size, where), size)
