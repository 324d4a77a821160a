"""Masks as other tools keep them: written with what is lost said, read with nothing trusted."""

from __future__ import annotations

from softmatch_jax._checks import InputError
from softmatch_jax.data.formats.coco import Coco
from softmatch_jax.data.formats.cvat import Cvat
from softmatch_jax.data.formats.format import Format
from softmatch_jax.data.formats.indexed import Indexed
from softmatch_jax.data.formats.label_studio import LabelStudio
from softmatch_jax.data.formats.labelled import (
    ExportOptions,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Losses,
    Written,
)
from softmatch_jax.data.formats.labelme import Labelme
from softmatch_jax.data.formats.names import distinct_names
from softmatch_jax.data.formats.sinks import FolderSink, Sink, ZipSink
from softmatch_jax.data.formats.sources import FolderSource, Limits, Source, ZipSource, open_source
from softmatch_jax.data.formats.yolo import Yolo

FORMATS: dict[str, Format] = {
    each.name: each for each in (Coco(), Indexed(), Yolo(), Labelme(), LabelStudio(), Cvat())
}
"""All formats by name."""


def format_named(name: str) -> Format:
    """A format; raises ``InputError`` if there is none of this name."""
    if name not in FORMATS:
        raise InputError(f"{name!r} is not a format; expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def recognise(source: Source) -> Format:
    """The only format that a source looks like; raises ``InputError`` if there is none, or several."""
    found = [each for each in FORMATS.values() if each.recognises(source)]
    if len(found) != 1:
        state = (
            "looks like " + " and ".join(each.title for each in found) if found else "holds no known masks"
        )
        raise InputError(f"{source.title} {state}; expected one of {', '.join(FORMATS)} (say which).")
    return found[0]


__all__ = [
    "FORMATS",
    "ExportOptions",
    "FolderSink",
    "FolderSource",
    "Format",
    "LabelledClass",
    "LabelledPicture",
    "LabelledSet",
    "Limits",
    "Losses",
    "Sink",
    "Source",
    "Written",
    "ZipSink",
    "ZipSource",
    "distinct_names",
    "format_named",
    "open_source",
    "recognise",
]
