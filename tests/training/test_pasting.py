from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.training.pasting import paste
from softmatch_jax.training.region_config import Pasting

ALL = Pasting(share=1, most=9, min_area=0, max_area=1)


def view(size, colour, regions=()):
    """An image of one colour, and its label map at twice the side with squares ``(y, x, side)`` in it."""
    labels = np.zeros((2 * size[0], 2 * size[1]), np.uint16)
    for number, (y, x, side) in enumerate(regions, 1):
        labels[y : y + side, x : x + side] = number
    return np.full((*size, 3), colour, np.uint8), labels


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_region_is_pasted_where_it_is():
    image, labels = view((8, 10), 50, [(0, 0, 8)])
    other, other_labels = view((8, 10), 250, [(4, 6, 6)])
    copies = [array.copy() for array in (image, labels, other, other_labels)]
    shown, mixed = paste(rng(), image, labels, other, other_labels, ALL)
    expected = np.full((8, 10), 50, np.uint8)
    expected[2:5, 3:6] = 250
    np.testing.assert_array_equal(shown, np.repeat(expected[..., None], 3, -1))
    expected_labels = labels.copy()
    expected_labels[4:10, 6:12] = 2  # the first number that is free, and above what was there
    np.testing.assert_array_equal(mixed, expected_labels)
    assert shown.dtype == np.uint8 and mixed.dtype == np.uint16
    for array, copy in zip((image, labels, other, other_labels), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_pixels_on_the_outline_are_mixed_by_their_cover():
    image, labels = view((4, 4), 0)
    other, other_labels = view((4, 4), 200)
    other_labels[2:6, 3:6] = 7  # of pixel column 1 the right half
    other_labels[6, 3] = 7
    shown, _ = paste(rng(), image, labels, other, other_labels, ALL)
    assert shown[..., 0].tolist() == [[0, 0, 0, 0], [0, 100, 200, 0], [0, 100, 200, 0], [0, 50, 0, 0]]


@pytest.mark.parametrize("size", [(6, 4), (12, 20), (6, 20)])
def test_views_of_other_sizes(size):
    image, labels = view((10, 8), 0)
    other, other_labels = view(size, 9)
    other_labels[:] = 3
    shown, mixed = paste(rng(), image, labels, other, other_labels, ALL)
    covered = np.zeros((10, 8), bool)
    covered[: size[0], : size[1]] = True
    np.testing.assert_array_equal(shown[..., 1] == 9, covered)
    np.testing.assert_array_equal(mixed == 1, np.kron(covered, np.ones((2, 2), bool)))


def test_regions_of_the_right_size_up_to_the_most():
    image, labels = view((20, 20), 0)
    squares = [(0, 0, 2), (0, 10, 4), (10, 0, 6), (10, 10, 6), (20, 0, 16)]
    other, other_labels = view((20, 20), 1, squares)
    # Shares of 1600 samples: 0.0025, 0.01, 0.0225 twice, 0.16.
    pasting = Pasting(share=1, most=2, min_area=0.01, max_area=0.1)
    counts, seen = [], set()
    for seed in range(100):
        _, mixed = paste(rng(seed), image, labels, other, other_labels, pasting)
        numbers = set(np.unique(mixed).tolist()) - {0}
        assert numbers == set(range(1, len(numbers) + 1))
        sources = {tuple(np.unique(other_labels[mixed == number]).tolist()) for number in numbers}
        assert len(sources) == len(numbers)  # each is a region of its own
        counts.append(len(numbers))
        seen |= sources
    assert seen == {(2,), (3,), (4,)}
    assert set(counts) == {1, 2} and 0.3 < np.mean(np.array(counts) == 1) < 0.7


def test_nothing_of_the_right_size():
    image, labels = view((6, 6), 3, [(0, 0, 4)])
    other, other_labels = view((6, 6), 4)
    shown, mixed = paste(rng(), image, labels, other, other_labels, ALL)
    np.testing.assert_array_equal(shown, image)
    np.testing.assert_array_equal(mixed, labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "share is 1.5; expected a share"),
        ({"min_area": 0.3, "max_area": 0.3}, "expected min_area below max_area"),
        ({"most": 0}, "most of 1 or more"),
    ],
)
def test_pasting_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Pasting(**settings)
