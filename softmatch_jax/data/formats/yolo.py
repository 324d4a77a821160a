"""YOLO for segmentation: a text file of outlines for each picture, and ``data.yaml``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.folder_names import read_name_list, read_yaml_names
from softmatch_jax.data.folder_outlines import checked_outline
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
from softmatch_jax.data.formats.names import is_picture, without_suffix
from softmatch_jax.data.formats.objects import Assembly, Region
from softmatch_jax.data.formats.reading import renamed, size_of
from softmatch_jax.data.formats.sinks import Sink
from softmatch_jax.data.formats.sources import Source, read_utf8
from softmatch_jax.data.formats.tracing import joined, trace
from softmatch_jax.data.outlines import polygon_mask

_DATA = "data.yaml"
_DATA_FILES = (_DATA, "data.yml", "dataset.yaml", "dataset.yml")
_LISTS = ("classes.txt", "labels/classes.txt")
_STRAY = 0.5  # of the picture's side: a position farther outside is not a fraction of it
_HOLES = "{count} objects have holes, which are tied to their outline by lines of no width."
_PARTS = "{count} objects have several parts, which are joined to one outline by lines of no width."
_NO_SIZE = (
    "{count} label files have no picture here, so that their fractions mean no pixels; they are left out."
)


class Yolo:
    """See :class:`Format`. One line is one object; holes and parts are joined to one outline."""

    name = "yolo"
    title = "YOLO segmentation"
    suffixes: tuple[str, ...] = (".txt", ".yaml")
    options: tuple[str, ...] = ()

    def losses(self, classes: Sequence[LabelledClass], options: ExportOptions) -> list[str]:
        """See :class:`Format`."""
        joined_parts = "Parts of an object are joined to one outline by lines of no width."
        return [joined_parts, DRAWN_OUTLINES, *colours_lost(classes)]

    def recognises(self, source: Source) -> bool:
        """See :class:`Format`."""
        return _base(source) is not None

    def write(
        self,
        sink: Sink,
        classes: Sequence[LabelledClass],
        pictures: Iterable[LabelledPicture],
        options: ExportOptions,
    ) -> Written:
        """See :class:`Format`."""
        writing = Writing(sink, classes, options)
        for picture in writing.each(pictures):
            lines = [
                _line(index, region, picture, writing.losses) for index, _, region in writing.objects(picture)
            ]
            sink.write(f"labels/{without_suffix(picture.name)}.txt", "".join(lines).encode())
        names = [f"  {index}: {_quoted(entry.name)}\n" for index, entry in enumerate(writing.classes)]
        head = "path: .\ntrain: images\nval: images\n" + (f"nc: {len(names)}\nnames:\n" if names else "")
        sink.write(_DATA, (head + "".join(names)).encode())
        return writing.done()

    def read(self, source: Source, known: Mapping[str, Size]) -> LabelledSet:
        """See :class:`Format`."""
        base = _base(source)
        if base is None:
            raise InputError(f"{source.title} has no labels; expected labels/x.txt for images/x.jpg.")
        names = _names(source, base)
        labels = _labels(source, base)
        if names is None:
            numbers = sorted({_number(line, at) for at, line in _lines(source, labels)})
            names = {number: f"class {number}" for number in numbers}
        listed = tuple(LabelledClass(name=names[number]) for number in sorted(names))
        check_classes(listed)
        losses = Losses()
        pictures = _pictures(source, base, labels, names, known, losses)
        return LabelledSet(classes=listed, pictures=pictures, losses=losses)


def _quoted(name: str) -> str:
    """A name in YAML's double quotes; what some readers take for the end of a line is escaped."""
    text = json.dumps(name, ensure_ascii=False)
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _line(index: int, region: Region, picture: LabelledPicture, losses: Losses) -> str:
    parts = trace(region)
    losses.add(_HOLES, any(part.holes for part in parts), picture.name)
    losses.add(_PARTS, len(parts) > 1, picture.name)
    height, width = picture.size
    # Seven digits are exact to a hundredth of a pixel up to 100,000 pixels; they are read to a tenth.
    flat = [f"{x / width:.7g} {y / height:.7g}" for x, y in joined(parts).tolist()]
    return f"{index} {' '.join(flat)}\n"


def _base(source: Source) -> str | None:
    """The folder of the data file, or that of ``labels``; None where there are neither."""
    for name in sorted(source.names, key=lambda name: (name.count("/"), name)):
        before, _, last = name.rpartition("/")
        if last.lower() in _DATA_FILES:
            return before + "/" if before else ""
    for name in source.names:
        before, found, last = ("/" + name).rpartition("/labels/")
        if found and last.endswith(".txt"):
            return before[1:] + "/" if before else ""
    return None


def _names(source: Source, base: str) -> dict[int, str] | None:
    for name in (*_DATA_FILES, *_LISTS):
        entry = base + name
        if entry not in source.names:
            continue
        with source.local(entry) as path, renamed(source, path, entry):
            names = read_yaml_names(path) if name in _DATA_FILES else read_name_list(path)
        if names is not None:
            return names
    # A data file without names is one of a set without classes, as ours are.
    return {} if base + _DATA in source.names and not _labels(source, base) else None


def _labels(source: Source, base: str) -> list[str]:
    return [
        name
        for name in source.names
        if name.startswith(base)
        and "labels" in name.removeprefix(base).split("/")[:-1]
        and name.endswith(".txt")
        and name.rpartition("/")[2] not in ("classes.txt", "labels.txt")
    ]


def _lines(source: Source, labels: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The words of each line that has some, and where it is."""
    for name in labels:
        for number, line in enumerate(read_utf8(source, name).splitlines(), start=1):
            if words := line.split():
                yield f"{source.title}: {name}, line {number},", words


def _pictures(
    source: Source,
    base: str,
    labels: Sequence[str],
    names: Mapping[int, str],
    known: Mapping[str, Size],
    losses: Losses,
) -> Iterator[LabelledPicture]:
    entries = {without_suffix(name): name for name in source.names if is_picture(name)}
    elsewhere = {without_suffix(name): name for name in known}
    for label in labels:
        folders = label.removeprefix(base).split("/")
        at = len(folders) - 2 - folders[-2::-1].index("labels")
        stem = without_suffix("/".join([*folders[:at], *folders[at + 1 :]]))
        inside = without_suffix("/".join([*folders[:at], "images", *folders[at + 1 :]]))
        entry = entries.get(base + inside) or entries.get(base + stem) or entries.get(without_suffix(label))
        if entry is not None:
            size, name = size_of(source, entry), stem + entry[len(without_suffix(entry)) :]
        elif stem in elsewhere:
            name = elsewhere[stem]
            size = known[name]
        else:
            losses.add(_NO_SIZE, where=label)
            continue
        assembly = Assembly(size, losses, name)
        for where, words in _lines(source, [label]):
            number = _number(words, where)
            if number not in names:
                raise InputError(f"{where} is of class {number}, which has no name; add it to {_DATA}.")
            assembly.add(names[number], polygon_mask(_outline(words, size, where), size))
        yield LabelledPicture(name=name, size=size, masks=assembly.masks(), entry=entry)


def _number(words: Sequence[str], where: str) -> int:
    if not (words[0].isascii() and words[0].isdigit() and len(words[0]) <= 6):
        raise InputError(f"{where} begins with {words[0]!r:.40}; expected the number of a class.")
    return int(words[0])


def _outline(words: Sequence[str], size: Size, where: str) -> tuple[float, ...]:
    """The outline in pixels of a line ``class x1 y1 x2 y2 ...`` in fractions of the sides."""
    if len(words) == 5:
        raise InputError(
            f"{where} is a class and a box; boxes are not masks, expected outlines (export for segmentation)."
        )
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{where} holds a word that is no number; expected class x1 y1 x2 y2 ...") from None
    if not all(math.isfinite(value) and -_STRAY <= value <= 1 + _STRAY for value in values):
        raise InputError(f"{where} holds numbers that are no fractions of the picture's sides, 0 to 1.")
    return checked_outline([v * size[1 - k % 2] for k, v in enumerate(values)], size, where)
