from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax.studies.scoring import Scores, count_pixels

ONE = np.ones((1, 4))


def some_scores(seed: int = 0) -> Scores:
    counts = np.random.default_rng(seed).integers(1, 100, (4, 2, 4))
    return Scores(counts, ("a", "a", "b", "a"))


def test_pixels_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    masks, truth = rng.random((3, 5, 7)) < 0.5, rng.random((5, 7)) < 0.4
    void = (rng.random((5, 7)) < 0.3) & ~truth
    expected = np.zeros((3, 4), int)
    for k, i, j in np.ndindex(3, 5, 7):
        if not void[i, j]:
            kind = {(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}[int(masks[k, i, j]), int(truth[i, j])]
            expected[k, kind] += 1
    assert (count_pixels(masks, truth, void) == expected).all()
    assert (count_pixels(masks, truth, None).sum(axis=1) == 35).all()


def test_miou_is_the_mean_over_classes_of_pooled_ratios():
    scores = some_scores()
    expected = []
    for k in range(2):
        a, b = scores.counts[[0, 1, 3], k].sum(axis=0), scores.counts[2, k]
        expected.append(np.mean([a[0] / a[:3].sum(), b[0] / b[:3].sum()]))
    assert scores.miou(ONE)[0] == pytest.approx(np.mean(expected))
    assert scores.only(slice(1, 2)).miou(ONE)[0] == pytest.approx(expected[1])


def test_a_weight_of_two_is_the_episode_twice():
    scores = some_scores()
    again = np.array([0, 1, 1, 2, 3])
    doubled = Scores(scores.counts[again], tuple(scores.classes[i] for i in again))
    weights = np.array([[1.0, 2.0, 1.0, 1.0]])
    for name in ("miou", "mean_iou", "fb_iou"):
        one, other = getattr(scores, name)(weights), getattr(doubled, name)(np.ones((1, 5)))
        assert one == pytest.approx(other), name


def test_a_class_that_is_not_drawn_is_left_out():
    scores = some_scores()
    alone = Scores(scores.counts[[0, 1, 3]], ("a",) * 3)
    assert scores.miou(np.array([[1.0, 1.0, 0.0, 1.0]])) == pytest.approx(alone.miou(np.ones((1, 3))))


def test_fb_iou_is_the_mean_of_object_and_background():
    scores = some_scores().only(slice(0, 1))
    tp, fp, fn, tn = scores.counts.sum(axis=(0, 1))
    expected = (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
    assert scores.fb_iou(ONE)[0] == pytest.approx(expected)


def test_empty_masks():
    nothing = Scores(np.array([[[0, 0, 0, 9]]]), ("a",))
    assert nothing.iou[0] == 1  # found nothing where there is nothing
    assert nothing.miou(np.ones((1, 1)))[0] == 0  # as the published code has it
    assert np.isnan(nothing.part(np.ones((1, 1)), 0, (0, 2))[0])
