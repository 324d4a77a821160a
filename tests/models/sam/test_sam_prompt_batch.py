from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax.models.sam.prompt_batch import TOKEN_STEPS, model_tokens, pad_tokens
from softmatch_jax.prompting import Prompt

HALF = np.array([0.5, 0.25], np.float32)


def points(*xy, box=None):
    return Prompt(np.reshape(np.array(xy, np.float32), (-1, 2)), np.arange(len(xy)) % 2 == 0, box)


def test_points_are_scaled_about_the_corner_of_the_picture():
    xy, labels = model_tokens(points((10, 20), (0, 0)), HALF)
    # SAM adds the half pixel itself; and a token that is no point ends a prompt without a box.
    np.testing.assert_allclose(xy[:2] + 0.5, [[5, 5], [0, 0]])
    assert labels.tolist() == [1, 0, -1]


def test_a_box_is_two_corners():
    xy, labels = model_tokens(points((10, 20), box=(2, 4, 30, 40)), HALF)
    np.testing.assert_allclose(xy + 0.5, [[5, 5], [1, 1], [15, 10]])
    assert labels.tolist() == [1, 2, 3]
    xy, labels = model_tokens(points(box=(2, 4, 30, 40)), HALF)
    np.testing.assert_allclose(xy + 0.5, [[1, 1], [15, 10]])
    assert labels.tolist() == [2, 3]


def test_coordinates_agree_with_transformers_when_nothing_is_scaled():
    """Its points are pixel indices: the pixel that it calls 7 has its centre at our 7.5."""
    xy, _ = model_tokens(points((7.5, 3.5)), np.ones(2, np.float32))
    np.testing.assert_array_equal(xy[0], [7, 3])


@pytest.mark.parametrize(
    ("count", "length"), [(1, 2), (2, 4), (7, 8), (8, 16), (31, 32), (63, 64), (64, 128)]
)
def test_prompts_are_padded_to_one_of_few_lengths(count, length):
    """A prompt of ``count`` points has one token more."""
    short, long = points((1, 2)), points(*[(i, i) for i in range(count)])
    xy, labels, valid = pad_tokens([model_tokens(prompt, HALF) for prompt in (short, long)], 5)
    assert xy.shape == (5, length, 2) and labels.shape == valid.shape == (5, length)
    assert length in TOKEN_STEPS or length % TOKEN_STEPS[-1] == 0
    assert valid.sum(axis=1).tolist() == [2, count + 1, 0, 0, 0]
    for row, prompt in enumerate((short, long)):
        own, kinds = model_tokens(prompt, HALF)
        np.testing.assert_array_equal(xy[row, valid[row]], own)
        np.testing.assert_array_equal(labels[row, valid[row]], kinds)
        assert (labels[row, ~valid[row]] == -1).all() and not xy[row, ~valid[row]].any()
    assert xy.dtype == np.float32 and labels.dtype == np.int32
