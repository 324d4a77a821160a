"""Pictures with masks that are hard to keep, and archives of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from softmatch_jax.data.formats import (
    ExportOptions,
    Format,
    LabelledClass,
    LabelledPicture,
    LabelledSet,
    Written,
    ZipSink,
    ZipSource,
)

CLASSES = (
    LabelledClass(name="cat", colour="#ff0010"),
    LabelledClass(name='Schönes Ding, <b>"1: #2"', colour="#00a0ff"),
    LabelledClass(name="never seen", colour="#123456"),
)


def ring(size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """An object with two holes, of which one holds an island of it, and a part elsewhere."""
    labels = np.zeros(size, np.uint16)
    labels[1:9, 1:11] = 1
    labels[2:7, 2:7] = 0
    labels[4, 4] = 1
    labels[3, 8] = 0
    labels[10:12, 13:15] = 1
    return labels


def touching() -> np.ndarray:
    """Two objects side by side, one that touches them in a corner, and one pixel in the last corner."""
    labels = np.zeros((12, 16), np.uint16)
    labels[0:3, 0:4], labels[0:3, 4:8], labels[3:5, 8:10] = 1, 2, 3
    labels[11, 15] = 4
    return labels


def ragged(seed: int, size: tuple[int, int] = (23, 31), objects: int = 3, share: float = 0.6) -> np.ndarray:
    """Noise: holes, parts and corners of all kinds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, objects + 1, size) * (rng.random(size) < share)
    return labels.astype(np.uint16)


def grid() -> np.ndarray:
    """Three hundred objects."""
    labels = np.zeros((60, 100), np.uint16)
    number = 0
    for row in range(15):
        for column in range(20):
            number += 1
            labels[4 * row : 4 * row + 3, 5 * column : 5 * column + 4] = number
    return labels


def full(size: tuple[int, int] = (5, 7)) -> np.ndarray:
    """An object that fills its picture."""
    return np.ones(size, np.uint16)


def picture_file(folder: Path, name: str, size: tuple[int, int], seed: int = 0) -> Path:
    """Writes a picture of noise."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path, "PNG")
    return path


def labelled(folder: Path, masks: Mapping[str, Mapping[str, np.ndarray]]) -> list[LabelledPicture]:
    """Pictures with files for masks by picture and class; of one without masks the size is 9 x 8."""
    found = []
    for seed, (name, by_class) in enumerate(masks.items()):
        size = next((labels.shape for labels in by_class.values()), (9, 8))
        path = picture_file(folder, name, (size[0], size[1]), seed)
        found.append(LabelledPicture(name=name, size=(size[0], size[1]), masks=by_class, path=path))
    return found


def hard(folder: Path, *, many: bool = False) -> list[LabelledPicture]:
    """All cases at once, but for a picture with 300 objects, which ``many`` adds."""
    cat, thing = CLASSES[0].name, CLASSES[1].name
    return labelled(
        folder,
        {
            "a/x.png": {cat: ring(), thing: touching()},
            "b/x.png": {thing: ring()},
            "Füße 日本.png": {cat: ragged(1), thing: ragged(2)},
            "empty.png": {},
            **({"grid.png": {cat: grid()}} if many else {}),
            "full.png": {cat: full()},
            "one.png": {cat: np.ones((1, 1), np.uint16)},
        },
    )


def zipped(
    form: Format, pictures: Sequence[LabelledPicture], options: ExportOptions | None = None
) -> tuple[bytes, Written]:
    """An export as a zip file."""
    stream = io.BytesIO()
    with ZipSink(stream) as sink:
        written = form.write(sink, CLASSES, iter(pictures), options or ExportOptions())
    return stream.getvalue(), written


def read_back(form: Format, data: bytes, known: Mapping[str, tuple[int, int]] | None = None) -> LabelledSet:
    """Reads a zip file, all pictures at once."""
    with ZipSource(io.BytesIO(data), "the archive") as source:
        found = form.read(source, known or {})
        found.pictures = iter(list(found.pictures))
        return found


def archive(files: Mapping[str, bytes | str]) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return stream.getvalue()


def union(masks: Mapping[str, np.ndarray], name: str, size: tuple[int, int]) -> np.ndarray:
    """Pixels of a class."""
    return masks[name] > 0 if name in masks else np.zeros(size, bool)
