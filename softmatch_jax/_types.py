"""Array aliases used throughout the package.

Coordinates are ``(x, y)`` in pixels of the original image; the centre of the top-left pixel is
at ``(0.5, 0.5)``. Sizes are ``(height, width)``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16

Image: TypeAlias = UInt8[np.ndarray, "H W 3"]
"""An RGB picture, ``uint8 [H, W, 3]``."""

Mask: TypeAlias = Bool[np.ndarray, "H W"]
"""A binary mask, ``bool [H, W]``; true on the object."""

IndexedMask: TypeAlias = UInt8[np.ndarray, "H W"]
"""A class index for every pixel, ``uint8 [H, W]``; 0 is background."""

Labels: TypeAlias = UInt16[np.ndarray, "H W"]
"""A mask with its objects told apart, ``uint16 [H, W]``: 0 beside them, from 1 on one number for each."""

MOST_OBJECTS = 65_535
"""Objects that such a mask can tell apart."""

Map: TypeAlias = Float[np.ndarray, "H W"]
"""A real value for every pixel, ``float32 [H, W]``."""

Size: TypeAlias = tuple[int, int]
"""``(height, width)`` in pixels."""
