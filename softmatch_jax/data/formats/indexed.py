"""Maps of class indices as palette PNGs, the way of PASCAL VOC."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import PIL.Image
from scipy import ndimage

from softmatch_jax._checks import InputError
from softmatch_jax._types import MOST_OBJECTS, IndexedMask, Labels, Size
from softmatch_jax.data.folder_names import read_name_list
from softmatch_jax.data.formats.format import Writing
from softmatch_jax.data.formats.labelled import (
    ExportOptions,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Losses,
    Written,
    check_classes,
)
from softmatch_jax.data.formats.names import is_picture, without_suffix
from softmatch_jax.data.formats.objects import Region
from softmatch_jax.data.formats.reading import check_said, renamed
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source
from softmatch_jax.imaging import class_palette, read_labels

_FOLDER = "masks/"
_NAMES = "classes.json"
_NAME_FILES = (_NAMES, "classes.txt", "labels.txt")
_VOID = 255
_COVERED = "{count} pixels are of several classes; each keeps the class of the smallest object there."
_MERGED = (
    "{count} objects touch others of their class and cannot be told apart from them in a map of classes."
)
_SPLIT = "{count} objects have several parts, which a map of classes does not hold together."
_UNNAMED = "{count} pixels are void (255) and belong to no class."


class Indexed:
    """See :class:`Format`. A pixel has one class, and objects are not told apart."""

    name = "indexed"
    title = "Indexed PNG"
    suffixes: tuple[str, ...] = (".png",)
    options: tuple[str, ...] = ()

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """See :class:`Format`."""
        found = ["Objects of one class are not told apart."]
        if len(classes) > 1:
            found.append(
                "A pixel has one class: where objects of several classes overlap, the smallest is kept."
            )
        if len(classes) >= _VOID:
            found.append(f"At most {_VOID - 1} classes can be written; there are {len(classes)}.")
        return found

    def recognises(self, source: Source) -> bool:
        """See :class:`Format`."""
        return any(_base(name) is not None for name in source.names)

    def write(
        self,
        sink: Sink,
        classes: Sequence[LabelledClass],
        pictures: Iterable[LabelledPicture],
        options: ExportOptions,
    ) -> Written:
        """See :class:`Format`; also raises ``InputError`` for more than 254 classes."""
        if len(classes) >= _VOID:
            raise InputError(
                f"There are {len(classes)} classes; expected at most {_VOID - 1}, as 0 is background and 255 "
                "void (choose another format)."
            )
        writing = Writing(sink, classes, options)
        palette = _palette(classes)
        for picture in writing.each(pictures):
            values = _flat(
                picture, [(index, region) for index, _, region in writing.objects(picture)], writing.losses
            )
            sink.write(_FOLDER + without_suffix(picture.name) + ".png", _png(values, palette))
        named = {str(index): entry.name for index, entry in enumerate(writing.classes, start=1)}
        sink.write(
            _NAMES, (json.dumps({"0": "background", **named}, ensure_ascii=False, indent=1) + "\n").encode()
        )
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`. What hangs together, also by corners, is one object."""
        bases = {base for name in source.names if (base := _base(name)) is not None}
        if len(bases) != 1:
            raise InputError(
                f"{source.title} has {len(bases)} folders called masks with PNG files; expected one."
            )
        base = bases.pop()
        names = _names(source, base)
        masks = [name for name in source.names if _base(name) == base]
        colours = _colours(source, masks[0])
        if names is None:
            names = {value: f"class {value}" for value in sorted(_values(source, masks)) if 0 < value < _VOID}
        listed = tuple(LabelledClass(name=names[v], colour=colours.get(v)) for v in sorted(names))
        check_classes(listed)
        losses = Losses()
        pictures = _pictures(source, base, masks, names, known, losses)
        return LabelledSet(classes=listed, pictures=pictures, losses=losses)


def _palette(classes: Sequence[LabelledClass]) -> bytes:
    palette = class_palette(len(classes))
    for index, entry in enumerate(classes, start=1):
        if entry.colour is not None:
            palette[index] = list(bytes.fromhex(entry.colour[1:]))
    # Black behind it keeps the file at 8 bits a pixel, which some labelling tools need.
    return palette.tobytes().ljust(3 * 256, b"\0")


def _flat(picture: LabelledPicture, found: Sequence[tuple[int, Region]], losses: Losses) -> IndexedMask:
    values = np.zeros(picture.size, np.uint8)
    covered = np.zeros(picture.size, np.uint8)
    for index, region in sorted(found, key=lambda item: -item[1].area):
        height, width = region.mask.shape
        window = np.s_[region.top : region.top + height, region.left : region.left + width]
        values[window][region.mask] = index + 1
        covered[window] += region.mask & (covered[window] < 2)
    losses.add(_COVERED, int(np.count_nonzero(covered > 1)), picture.name)
    for labels in picture.masks.values():
        _count_objects(labels, picture.name, losses)
    return values


def _count_objects(labels: Labels, where: str, losses: Losses) -> None:
    """Counts the objects that reading the map will not give back."""
    blobs, count = ndimage.label(labels > 0, np.ones((3, 3)))
    inside = labels > 0
    meetings = np.unique(blobs[inside].astype(np.int64) << 16 | labels[inside])
    blob, number = meetings >> 16, meetings & 0xFFFF
    shared = np.unique(number[np.bincount(blob, minlength=count + 1)[blob] > 1])
    losses.add(_MERGED, len(shared), where)
    losses.add(_SPLIT, int(np.count_nonzero(np.bincount(number) > 1)), where)


def _png(values: IndexedMask, palette: bytes) -> bytes:
    image = PIL.Image.fromarray(values)
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _base(name: str) -> str | None:
    """What is before the ``masks/`` that a mask lies in; None for other files."""
    before, found, _ = ("/" + name).partition("/" + _FOLDER)
    return (before[1:] + "/").removeprefix("/") if found and name.lower().endswith(".png") else None


def _names(source: Source, base: str) -> dict[int, str] | None:
    """The classes by value, without background; None where no file names them."""
    found = [base + name for name in _NAME_FILES if base + name in source.names]
    if not found:
        return None
    with source.local(found[0]) as path, renamed(source, path, found[0]):
        names = read_name_list(path)
    classes = {v: name for v, name in names.items() if name.lower().strip("_") != "background" and v != 0}
    if 0 in names and names[0].lower().strip("_") != "background":
        raise InputError(
            f"{source.title}: {found[0]} names the value 0 {names[0]!r}; expected background there, and "
            "classes from 1 on."
        )
    return classes


def _colours(source: Source, name: str) -> dict[int, str]:
    """The colours of a mask's palette by value, where it has one."""
    with source.local(name) as path, renamed(source, path, name):
        read_labels(path)
        with PIL.Image.open(path, formats=("PNG",)) as image:
            flat = image.getpalette("RGB") if image.mode == "P" else None
    colours = bytes(flat or ())
    return {value: "#" + colours[3 * value : 3 * value + 3].hex() for value in range(len(colours) // 3)}


def _read(source: Source, name: str) -> IndexedMask:
    with source.local(name) as path, renamed(source, path, name):
        return read_labels(path)


def _values(source: Source, masks: Sequence[str]) -> set[int]:
    return {value for name in masks for value in np.unique(_read(source, name)).tolist()}


def _pictures(
    source: Source,
    base: str,
    masks: Sequence[str],
    names: Mapping[int, str],
    known: Mapping[str, Size],
    losses: Losses,
) -> Iterator[LabelledPicture]:
    folder = base + "images/"
    entries = {without_suffix(n): n for n in source.names if is_picture(n) and n.startswith(folder)}
    elsewhere = {without_suffix(name): name for name in known}
    for mask in masks:
        stem = without_suffix(mask.removeprefix(base + _FOLDER))
        entry = entries.get(folder + stem)
        name = elsewhere.get(stem, stem + ".png") if entry is None else entry.removeprefix(folder)
        values = _read(source, mask)
        size = (values.shape[0], values.shape[1])
        check_said(source, entry, size, f"{source.title}: {mask}")
        losses.add(_UNNAMED, int(np.count_nonzero(values == _VOID)) if _VOID not in names else 0, name)
        unknown = set(np.unique(values).tolist()) - {0, _VOID} - names.keys()
        if unknown:
            raise InputError(
                f"{source.title}: {mask} holds the value {min(unknown)}, which has no name; name it in "
                f"{_NAMES}."
            )
        found = {names[v]: _objects(values == v, name) for v in sorted(names) if (values == v).any()}
        yield LabelledPicture(name=name, size=size, masks=found, entry=entry)


def _objects(mask: np.ndarray, where: str) -> Labels:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count > MOST_OBJECTS:
        raise InputError(f"{where} has {count:,} objects of one class; expected at most {MOST_OBJECTS:,}.")
    return labels.astype(np.uint16)
