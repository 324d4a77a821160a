"""Squashing as the published code does."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax.data.episodes import AnnotatedPicture, Truth
from softmatch_jax.evaluation.preparing import squash


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_masks_are_squashed_as_by_torch(height, width, new_height, new_width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    picture = AnnotatedPicture(np.zeros((height, width, 3), np.uint8), Truth(mask, ~mask))
    got = squash(picture, (new_height, new_width)).truth
    want = torch.nn.functional.interpolate(
        torch.tensor(mask)[None, None].float(), (new_height, new_width), mode="nearest"
    )
    # Torch reckons the scale in float32, which can put a pixel on the other side of a border it lies on.
    assert np.mean(got.mask != want[0, 0].numpy().astype(bool)) <= 0.1
    np.testing.assert_array_equal(got.void, ~got.mask)


def test_the_papers_sizes_agree_with_torch_exactly():
    rng = np.random.default_rng(0)
    for size, raster in (((224, 224), (518, 518)), ((375, 500), (512, 512)), ((480, 640), (512, 512))):
        mask = rng.random(size) < 0.5
        picture = AnnotatedPicture(np.zeros((*size, 3), np.uint8), Truth(mask))
        want = torch.nn.functional.interpolate(
            torch.tensor(mask)[None, None].float(), raster, mode="nearest"
        )[0, 0].numpy()
        np.testing.assert_array_equal(squash(picture, raster).truth.mask, want.astype(bool))


def test_pictures_are_averaged_when_they_shrink():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, ::2] = 200
    picture = squash(AnnotatedPicture(image, Truth(np.zeros((8, 8), bool))), (2, 2))
    assert np.abs(picture.image.astype(int) - 100).max() <= 15 and picture.truth.void is None


def test_nothing_is_done_to_pictures_of_the_size():
    picture = AnnotatedPicture(np.zeros((4, 6, 3), np.uint8), Truth(np.zeros((4, 6), bool)))
    assert squash(picture, None) is picture and squash(picture, (4, 6)) is picture
