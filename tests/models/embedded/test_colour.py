from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from skimage.color import rgb2lab

from softmatch_jax.models.embedded import colour

srgb_to_lab = jax.jit(colour.srgb_to_lab)


def test_agrees_with_scikit_image():
    levels = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), -1) / 255
    # float32 against float64: cube roots to an ulp, times the 500 of the a axis.
    np.testing.assert_allclose(srgb_to_lab(jnp.asarray(levels, jnp.float32)), rgb2lab(levels), atol=1e-3)


def test_greys_have_no_colour_and_grow_lighter():
    grey = jnp.repeat(jnp.linspace(0, 1, 50)[:, None], 3, axis=1)
    lab = np.asarray(srgb_to_lab(grey))
    # The primaries, given to six digits, sum to the white point within 8e-5: b is 200 * 8e-5 / 3.
    np.testing.assert_allclose(lab[:, 1:], 0, atol=6e-3)
    assert (np.diff(lab[:, 0]) > 0).all()
    np.testing.assert_allclose(lab[[0, -1], 0], [0, 100], atol=1e-4)


def test_slope_is_finite_at_black_and_at_the_joins():
    joins = jnp.asarray([[0.0, 0.0, 0.0], [0.04045] * 3, [1.0, 0.0, 0.5]])
    assert np.isfinite(jax.jacobian(srgb_to_lab)(joins)).all()
