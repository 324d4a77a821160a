import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from softmatch_jax.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from softmatch_jax.models.sam.aligned import aligned_corners, enlarge_aligned
from softmatch_jax.models.sam.fitting import input_size, square_pixels

SIDE = 64


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)


def test_published_is_what_vrp_sam_gives_to_sam(image):
    squashed = np.asarray(Pillow.fromarray(image).resize((SIDE // 2, SIDE // 2), Pillow.Resampling.BILINEAR))
    pixels = (torch.from_numpy(squashed.copy()).permute(2, 0, 1).float() / 255)[None]
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = torch.nn.functional.interpolate(
        (pixels - mean) / deviation, (SIDE, SIDE), mode="bilinear", align_corners=True
    )
    np.testing.assert_allclose(square_pixels(image, SIDE, "published"), expected, atol=2e-5)
    assert input_size((30, 50), SIDE, "published") == (SIDE, SIDE)


def test_aspect_leaves_zeros_beyond_the_picture(image):
    pixels = square_pixels(image, SIDE, "aspect")
    height, width = input_size((30, 50), SIDE, "aspect")
    assert (height, width) == (38, 64) and pixels.shape == (1, 3, SIDE, SIDE)
    assert not pixels[:, :, height:].any() and np.abs(pixels[:, :, :height]).min(axis=(0, 1)).max() > 0


@pytest.mark.parametrize(("old", "new"), [(16, 32), (16, 31), (5, 5), (7, 1)])
def test_aligned_corners_as_torch(old, new):
    rng = np.random.default_rng(1)
    raster = rng.standard_normal((old, old)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(raster)[None, None], (new, new), mode="bilinear", align_corners=True
    )[0, 0]
    np.testing.assert_allclose(enlarge_aligned(raster, new), expected, atol=1e-5)
    np.testing.assert_allclose(aligned_corners(old, new).sum(axis=1), 1, atol=1e-6)
