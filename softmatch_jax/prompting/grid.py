"""Where the patches of a feature map lie in the original picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Size


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """The geometry of patch features: original picture → resized input → rows and columns.

    A picture of ``image_size`` is resized to ``input_size`` and then padded at the right and the
    bottom; the network yields one feature for every ``stride`` pixels of the padded input. Patch
    ``(row, column)`` has its centre at ``offset + stride * (column, row)`` of the input, and its
    footprint is the cell of ``stride x stride`` input pixels about it. The grid is hashable, so it
    can be a static argument of a jitted function.

    Attributes:
        image_size: ``(H, W)`` of the original picture.
        input_size: ``(h, w)`` to which it was resized, before padding.
        stride: distance between patch centres, in input pixels.
        offset: position of the centre of patch ``(0, 0)`` on either axis, in input pixels.
        shape: ``(rows, columns)`` of the padded grid.

    Raises:
        InputError: if a number is out of range or no patch centre lies in the picture.
    """

    image_size: Size
    input_size: Size
    stride: int
    offset: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("image_size", "input_size", "shape"):
            pair = tuple(int(n) for n in getattr(self, name))
            if len(pair) != 2 or min(pair) < 1:
                raise InputError(f"PatchGrid.{name} is {pair}; expected two numbers of at least 1.")
            object.__setattr__(self, name, pair)
        check_positive("PatchGrid.stride", self.stride)
        if not math.isfinite(self.offset):
            raise InputError(f"PatchGrid.offset is {self.offset}; expected a position in input pixels.")
        if any(part.start >= part.stop for part in self.valid_slices()):
            raise InputError(
                f"PatchGrid has no patch centre inside its {self.input_size} input (offset {self.offset}, "
                f"stride {self.stride}, shape {self.shape}); expected at least one (use a larger input)."
            )

    def to_original(self, xy: ArrayLike) -> Float[np.ndarray, "*points 2"]:
        """Maps positions ``(x, y)`` of the input to the original picture, in float64."""
        return np.asarray(xy, dtype=np.float64) / self._scale()

    def to_input(self, xy: ArrayLike) -> Float[np.ndarray, "*points 2"]:
        """Maps positions ``(x, y)`` of the original picture to the input, in float64."""
        return np.asarray(xy, dtype=np.float64) * self._scale()

    def patch_centres(self) -> Float[np.ndarray, "rows columns 2"]:
        """Returns the centre ``(x, y)`` of every patch in the original picture, float32.

        Centres of patches in the padding lie outside the picture; see `valid`.
        """
        rows, columns = (self.offset + self.stride * np.arange(n) for n in self.shape)
        x, y = np.meshgrid(columns, rows)
        return self.to_original(np.stack([x, y], axis=-1)).astype(np.float32)

    def valid(self) -> Bool[np.ndarray, "rows columns"]:
        """Returns which patches have their centre in the picture rather than in the padding."""
        valid = np.zeros(self.shape, dtype=np.bool_)
        valid[self.valid_slices()] = True
        return valid

    def valid_slices(self) -> tuple[slice, slice]:
        """Returns the rows and the columns of the valid patches, which form a rectangle."""
        rows, columns = zip(self.input_size, self.shape, strict=True)
        return self._valid_slice(*rows), self._valid_slice(*columns)

    def patch_of(self, xy: ArrayLike) -> tuple[Int[np.ndarray, "*points"], Int[np.ndarray, "*points"]]:
        """Returns the row and the column of the valid patch that is nearest to each position.

        Inside the picture that is the patch whose footprint holds the position, unless the cell
        belongs to a patch in the padding; positions outside are moved to the edge.

        Args:
            xy: ``[..., 2]`` positions in the original picture.

        Returns:
            Two integer arrays of shape ``[...]``.
        """
        cells = np.floor((self.to_input(xy) - self.offset) / self.stride + 0.5).astype(np.int32)
        rows, columns = self.valid_slices()
        return (
            np.clip(cells[..., 1], rows.start, rows.stop - 1),
            np.clip(cells[..., 0], columns.start, columns.stop - 1),
        )

    def _scale(self) -> Float[np.ndarray, 2]:
        """Returns input pixels per original pixel, ``(x, y)``."""
        return np.asarray(self.input_size[::-1]) / np.asarray(self.image_size[::-1])

    def _valid_slice(self, length: int, count: int) -> slice:
        first = max(0, math.ceil(-self.offset / self.stride))
        return slice(first, min(count, math.ceil((length - self.offset) / self.stride)))
