"""What the frozen models make of the pictures of a training, kept in memory and, where asked for, on disk."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.data.files import make_folder
from softmatch_jax.imaging import atomic_write_bytes
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.frozen_sam import FrozenSam, Scene
from softmatch_jax.models.prosam.predictor import PictureFeatures, see
from softmatch_jax.models.protocols import FeatureExtractor

MOST_BYTES = 4 * 1024**3
"""Memory for what is kept."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """A picture as both frozen models see it; arrays of NumPy.

    Attributes:
        features: What the prompt encoder is given.
        scene: What the frozen decoder is given.
        raster: The raster of its masks.
    """

    features: PictureFeatures
    scene: Scene
    raster: Proposals

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        arrays = [self.features.values, self.features.valid, *self.scene]
        return sum(array.nbytes for array in arrays if array is not None)


class FrozenStore:
    """Runs the frozen models once for each picture. May be shared by threads.

    Two threads that miss the same picture may both compute it.

    Attributes:
        features: The feature extractor.
        sam: The frozen SAM.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        sam: FrozenSam,
        *,
        most_bytes: int = MOST_BYTES,
        folder: Path | None = None,
    ) -> None:
        """Makes an empty store.

        Args:
            features: The feature extractor.
            sam: The frozen SAM.
            most_bytes: Memory to fill.
            folder: Where pictures are also kept in half precision, for the next training with the same
                models; they are then used so rounded from the start. Memory only when ``None``.

        Raises:
            InputError: The folder cannot be made.
        """
        self.features, self.sam, self._most_bytes = features, sam, most_bytes
        self._folder = None if folder is None else make_folder(folder)
        self._kept: OrderedDict[str, Frozen] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    @property
    def name(self) -> str:
        """Both models, and whether values are rounded."""
        half = "" if self._folder is None else ", in half precision"
        return f"{self.features.name} and {self.sam.name}{half}"

    def get(self, key: str, image: Callable[[], Image]) -> Frozen:
        """What the models make of a picture.

        Args:
            key: Names it.
            image: Makes it where it is not known.

        Raises:
            InputError: The picture cannot be read, its features are not finite, or the disk is full.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._make(key, image)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += made.nbytes
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made

    def _make(self, key: str, image: Callable[[], Image]) -> Frozen:
        picture = image()
        path = None
        if self._folder is not None:
            named = hashlib.sha256(f"{self.name} {picture.shape}".encode())
            named.update(np.ascontiguousarray(picture).tobytes())
            path = self._folder / f"{named.hexdigest()[:32]}.npz"
            stored = _read(path)
            if stored is not None:
                return self._with_geometry(picture, stored)
        encoded = self.sam.encode(picture)
        features = see(self.features, picture)
        arrays = {"values": np.asarray(features.values, np.float32)}
        arrays |= {name: np.asarray(a) for name, a in encoded.scene._asdict().items() if a is not None}
        if path is not None:
            with np.errstate(over="ignore"):  # found below
                arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InputError(
                    f"The {name} of {key} from {self.name} hold NaN or infinity; expected finite numbers "
                    "(the weights are broken, or half precision overflows: choose float32, or no folder)."
                )
        if path is not None:
            stream = io.BytesIO()
            np.savez(stream, allow_pickle=False, **arrays)
            atomic_write_bytes(path, stream.getvalue())
        return self._with_geometry(picture, arrays, encoded.raster)

    def _with_geometry(
        self, picture: Image, arrays: dict[str, np.ndarray], raster: Proposals | None = None
    ) -> Frozen:
        size = (picture.shape[0], picture.shape[1])
        grid = self.features.grid(size)
        whole: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
        features = PictureFeatures(whole.pop("values"), grid.valid(), grid)
        return Frozen(features, Scene(**whole), self.sam.raster(size) if raster is None else raster)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; ``None`` where there is no such file or it is damaged, to be made again."""
    if not path.is_file():
        return None
    try:
        # Not by its path: a damaged file would be left open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays: dict[str, Any] = dict(stored)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return arrays if "values" in arrays and "rows" in arrays else None
