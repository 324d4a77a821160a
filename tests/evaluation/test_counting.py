import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.metrics import intersection_over_union

KINDS = arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 5))
"""Kind of each pixel: tp, fp, fn, tn, void and found, void and not found."""


def mask(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_counted_by_hand():
    found = mask("##..", "##..", "....")
    truth = mask(".##.", ".##.", ".#..")
    counts = count(found, truth)
    assert counts == Counts(tp=2, fp=2, fn=3, tn=5)
    assert counts.iou == 2 / 7 and counts.background_iou == 5 / 10
    void = mask("#..#", "....", "....")
    assert count(found, truth, void) == Counts(tp=2, fp=1, fn=3, tn=4)


@given(KINDS)
def test_agrees_with_sets_of_pixels(kinds):
    found, truth, void = np.isin(kinds, (0, 1, 4)), np.isin(kinds, (0, 2)), kinds >= 4
    pixels = set(np.ndindex(kinds.shape)) - set(zip(*np.nonzero(void), strict=True))
    inside, wanted = ({p for p in pixels if m[p]} for m in (found, truth))
    counts = count(found, truth, void)
    assert counts == (
        len(inside & wanted), len(inside - wanted), len(wanted - inside), len(pixels - inside - wanted)
    )  # fmt: skip
    assert counts.iou == (len(inside & wanted) / len(inside | wanted) if inside | wanted else 1)
    assert all(type(number) is int for number in counts)


@given(KINDS)
def test_agrees_with_the_published_histograms(kinds):
    """Areas of agreement, prediction and truth by their label, those that are void out of range."""
    label, guess = np.where(kinds >= 4, 255, np.isin(kinds, (0, 2))), np.isin(kinds, (0, 1, 4)).astype(int)
    guess = np.where(kinds >= 4, 255, guess)
    area = [np.histogram(x, bins=2, range=(0, 1))[0] for x in (guess[guess == label], guess, label)]
    union = area[1] + area[2] - area[0]
    tp, fp, fn, tn = count(np.isin(kinds, (0, 1, 4)), np.isin(kinds, (0, 2)), kinds >= 4)
    assert (tn, tp) == tuple(area[0]) and (tn + fp + fn, tp + fp + fn) == tuple(union)


@given(KINDS)
def test_agrees_with_the_iou_of_masks(kinds):
    found, truth = kinds % 2 == 0, kinds % 3 == 0
    assert count(found, truth).iou == pytest.approx(intersection_over_union(found, truth))
    assert count(~found, ~truth).iou == pytest.approx(count(found, truth).background_iou)


def test_two_empty_masks_agree():
    empty = np.zeros((3, 4), bool)
    assert count(empty, empty).iou == 1 and count(~empty, ~empty).background_iou == 1
    assert count(~empty, empty).iou == 0 and count(~empty, empty).background_iou == 0
    assert count(~empty, empty, ~empty) == Counts() and Counts().iou == 1


def test_sums():
    parts = [Counts(1, 2, 3, 4), Counts(10, 20, 30, 40)]
    assert parts[0] + parts[1] == sum(parts, Counts()) == Counts(11, 22, 33, 44)
    with pytest.raises(TypeError):
        parts[0] + (1, 2, 3, 4)


def test_bad_masks_are_refused():
    ones = np.ones((2, 3), bool)
    with pytest.raises(InputError, match="truth and void share 6 pixels; expected none"):
        count(ones, ones, ones)
    with pytest.raises(InputError, match="found is 2x3 pixels"):
        count(ones.T, ones)
    with pytest.raises(InputError, match="void is 2x3 pixels"):
        count(ones, ones, ones.T)
    with pytest.raises(InputError, match="truth is uint8"):
        count(ones, ones.astype(np.uint8))
