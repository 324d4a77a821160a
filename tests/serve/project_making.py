"""Projects for the tests: pictures, commands by their words, found masks."""

from __future__ import annotations

import hashlib
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pydantic import TypeAdapter

from softmatch_jax.serve.project.commands import Command
from softmatch_jax.serve.project.documents import FoundClass, FoundDocument, MaskDocument
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.store import Entry, Store

SIZE = (48, 64)
BASIS = "0" * 64
DOT = {"kind": "point", "xy": [20, 20]}

_COMMAND = TypeAdapter(Command)
_NUMBERS = itertools.count()


def unique() -> str:
    """An id that no call had before."""
    return f"test-{next(_NUMBERS)}"


def png(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    """A picture of noise as a file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def add_picture(store: Store, seed: int) -> str:
    """Adds a picture and gives its name."""
    with Pictures(store.folder).incoming() as incoming:
        incoming.write(png(seed))
        stored = incoming.finish()
    entry = store.add_image(f"{seed}.png", stored, id=unique())
    return next(iter(entry.changes)).partition("/")[2]


def command(do: str, image: str | None = None, cls: str | None = None, **fields: Any) -> Command:
    """A command by its words."""
    named = {"image": image, "class": cls}
    return _COMMAND.validate_python({"do": do} | {k: v for k, v in named.items() if v is not None} | fields)


def run(store: Store, do: str, image: str | None = None, cls: str | None = None, **fields: Any) -> Entry:
    """Runs a command."""
    return store.run(command(do, image, cls, **fields), id=unique())


def project(folder: Path, pictures: int = 2, classes: int = 2) -> Store:
    """A project with pictures i1, i2, ... and classes c1, c2, ..."""
    store = Store.open(folder)
    for number in range(pictures):
        add_picture(store, number)
    for number in range(classes):
        run(store, "add_class", name=f"class {number}")
    return store


def box_labels(x0: int, y0: int, x1: int, y1: int, number: int = 1) -> np.ndarray:
    """A raster with one rectangle."""
    labels = np.zeros(SIZE, np.uint16)
    labels[y0:y1, x0:x1] = number
    return labels


def derive_mask(store: Store, image: str, cls: str, labels: np.ndarray) -> str:
    """Says that a layer's prompts complete to a raster."""
    raster = store.put_raster(labels)
    store.derive({f"mask/{image}/{cls}": MaskDocument(basis=BASIS, raster=raster)}, what={})
    return raster


def derive_found(store: Store, image: str, **labels: np.ndarray) -> dict[str, str]:
    """Says that matching found rasters by class."""
    rasters = {cls: store.put_raster(raster) for cls, raster in labels.items()}
    classes = {cls: found(raster) for cls, raster in rasters.items()}
    document = FoundDocument(basis=BASIS, classes=classes, uncertainty=0.5)
    store.derive({f"found/{image}": document}, what={})
    return rasters


def found(raster: str | None, heat: str | None = None) -> FoundClass:
    """What was found of a class."""
    return FoundClass(
        raster=raster,
        absent=raster is None,
        reason=None,
        score=0.5,
        resemblance=0.5,
        log_evidence=0.0,
        instances=1,
        heat=heat,
    )


def made_by_hand(store: Store) -> dict[str, Any]:
    """All documents but the derived ones."""
    return {k: d for k, d in store.state().docs.items() if not k.startswith(("mask/", "found/"))}


def sha(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
