"""Truths that lie in a file of the picture's size: a mask, or an indexed map of several classes.

Sizes are compared with the picture's by :meth:`softmatch_jax.data.episodes.Sample.read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from softmatch_jax._types import Size
from softmatch_jax.data.episodes import Truth
from softmatch_jax.imaging import read_image, read_labels, read_mask


@dataclass(frozen=True)
class ThresholdTruth:
    """The object in a mask file, grey or with a palette.

    Attributes:
        path: The file.
        threshold: Values from this one on are object, in the file's own units. ``None`` for a file of two
            values, of which the larger is object; see :func:`softmatch_jax.imaging.read_mask`.
    """

    path: Path
    threshold: int | None = None

    def read(self, size: Size) -> Truth:
        """Reads the mask.

        Raises:
            InputError: The file cannot be read as a mask.
        """
        return Truth(read_mask(self.path, threshold=self.threshold))


@dataclass(frozen=True)
class GreyTruth:
    """The object in a mask file by the grey level of what the file shows, as most published code has it.

    Unlike :class:`ThresholdTruth` it takes the colours of a palette instead of its indices, and coloured
    masks. A file of the levels 0 and 1 alone is a mask as it stands: no threshold could be meant for it, and
    the samples in FSS-1000's repository are such files, while those in its archive reach 255.

    Attributes:
        path: The file.
        threshold: Grey levels (ITU-R 601 luma, 0 to 255) from this one on are object.
    """

    path: Path
    threshold: int

    def read(self, size: Size) -> Truth:
        """Reads the mask; empty where nothing reaches the threshold.

        Raises:
            InputError: The file cannot be read as a picture.
        """
        grey = np.asarray(PIL.Image.fromarray(read_image(self.path)).convert("L"))
        return Truth(grey >= (1 if grey.max() <= 1 else self.threshold))


@dataclass(frozen=True)
class LabelTruth:
    """Some values of an indexed map, palette or grey.

    Attributes:
        path: The file.
        values: Indices of the object, 0 to 255.
        void: Indices of pixels that do not count. Those among ``values`` too are object.
    """

    path: Path
    values: tuple[int, ...]
    void: tuple[int, ...] = ()

    def read(self, size: Size) -> Truth:
        """Reads both masks.

        Raises:
            InputError: The file cannot be read as an indexed map.
        """
        labels = read_labels(self.path)
        mask = np.isin(labels, self.values)
        return Truth(mask, np.isin(labels, self.void) & ~mask if self.void else None)
