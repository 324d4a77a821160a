import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.evaluation import intersection_over_union


def test_counts_pixels():
    found, truth = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    found[:2], truth[1:3] = True, True
    assert intersection_over_union(found, truth) == pytest.approx(4 / 12)
    assert intersection_over_union(found, found) == 1
    assert intersection_over_union(found, ~found) == 0


def test_two_empty_masks_agree():
    empty = np.zeros((3, 5), bool)
    assert intersection_over_union(empty, empty) == 1


def test_another_size_is_refused():
    with pytest.raises(InputError, match="same size"):
        intersection_over_union(np.zeros((3, 5), bool), np.zeros((5, 3), bool))
