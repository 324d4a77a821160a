"""sRGB to CIE Lab, in JAX."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# IEC 61966-2-1 primaries, rows X Y Z, already divided by the D65 white point (0.95047, 1, 1.08883).
_RGB_TO_XYZ_D65 = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    np.float32,
) / np.array([[0.95047], [1.0], [1.08883]], np.float32)


def srgb_to_lab(image: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """Converts sRGB in ``[0, 1]`` to CIE Lab (D65, 2 degrees): L in ``[0, 100]``, a and b about +-100."""
    linear = jnp.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = linear @ _RGB_TO_XYZ_D65.T
    # The inner bound keeps the root's slope finite at black, where the line applies.
    cube_root = jnp.where(xyz > 0.008856, jnp.cbrt(jnp.maximum(xyz, 0.008856)), 7.787 * xyz + 16 / 116)
    x, y, z = cube_root[..., 0], cube_root[..., 1], cube_root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
