"""Decoded pictures kept in memory, because decoding a JPEG takes longer than a step of training with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeAlias

import cv2
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.data.regions import LabelMaps, RegionPicture
from softmatch_jax.imaging import fit_longest, resize_image

MOST_BYTES = 2 * 1024**3
"""Memory for decoded pictures: about 900 photographs of 481 x 321 with five label maps each."""

LONGEST = 1024
"""Longer side that larger pictures are shrunk to when they are read."""

_Decoded: TypeAlias = tuple[Image, LabelMaps]


class RegionCache:
    """The pictures that were used last, as many as fit; may be shared by threads.

    Two threads that miss the same picture may both read it. What is handed out must not be written to.

    Args:
        most_bytes: Memory to fill. A picture that is larger is read every time.
        longest: Pictures with a longer side are shrunk to it, their maps by the nearest pixel.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, longest: int = LONGEST) -> None:
        if most_bytes < 0 or longest < 1:
            raise InputError(
                f"most_bytes is {most_bytes} and longest {longest}; expected 0 or more bytes and 1 or more "
                "pixels."
            )
        self.most_bytes, self.longest = most_bytes, longest
        self._kept: OrderedDict[RegionPicture, _Decoded] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Memory taken by what is kept."""
        return self._bytes

    def read(self, picture: RegionPicture) -> _Decoded:
        """See :meth:`softmatch_jax.data.regions.RegionPicture.read`; the arrays are read-only."""
        with self._lock:
            if picture in self._kept:
                self._kept.move_to_end(picture)
                return self._kept[picture]
        decoded = _shrunk(picture.read(), self.longest)
        for array in decoded:
            array.flags.writeable = False
        with self._lock:
            if picture not in self._kept:
                self._kept[picture] = decoded
                self._bytes += _size(decoded)
            while self._bytes > self.most_bytes:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return decoded

    def __getstate__(self) -> dict[str, int]:
        return {"most_bytes": self.most_bytes, "longest": self.longest}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _size(decoded: _Decoded) -> int:
    return sum(array.nbytes for array in decoded)


def _shrunk(decoded: _Decoded, longest: int) -> _Decoded:
    image, maps = decoded
    size = fit_longest((image.shape[0], image.shape[1]), longest, enlarge=False)
    if size == image.shape[:2]:
        return image, maps
    shrunk = [cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for labels in maps]
    return resize_image(image, size), np.stack(shrunk)
