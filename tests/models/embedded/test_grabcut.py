from __future__ import annotations

import cv2
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models import GrabCut, GrabCutConfig
from softmatch_jax.prompting import Prompt

GENERATOR = GrabCut()


def disc(size, x, y, radius):
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(columns - x, rows - y) <= radius


def painted(mask, seed=0):
    """Orange on the mask and teal beside it, with a little noise."""
    noise = np.random.default_rng(seed).integers(-12, 13, (*mask.shape, 3))
    return (np.where(mask[..., None], (220, 130, 40), (30, 120, 130)) + noise).astype(np.uint8)


def rough(mask, reach=8):
    """A prior that leaks over the rim and is sure of nothing."""
    return cv2.GaussianBlur(np.where(mask, 0.85, 0.15).astype(np.float32), (0, 0), reach)


def points(*xy, negative=()):
    everything = np.array([*xy, *negative], np.float32).reshape(-1, 2)
    return Prompt(everything, np.arange(len(everything)) < len(xy))


def box(x0, y0, x1, y1):
    return Prompt(np.zeros((0, 2)), np.zeros(0, bool), (x0, y0, x1, y1))


def decode(image, *prompts, prior=None, generator=GENERATOR):
    return generator.decode(generator.encode(image), prompts, prior=prior)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


SIZE = (120, 180)
ONE = disc(SIZE, 70, 55, 30)
TWO = ONE | disc(SIZE, 145, 75, 22)


def test_a_point_and_a_rough_prior_recover_the_disc():
    found = decode(painted(ONE), points((70, 55)), prior=rough(ONE))
    assert found.masks.shape == (1, *SIZE) and found.masks.dtype == np.bool_
    assert iou(found.masks[0], ONE) > 0.97
    assert found.prompts.tolist() == [0]
    np.testing.assert_allclose(found.scores, rough(ONE)[found.masks[0]].mean(), rtol=1e-6)


def test_a_shifted_prior_is_corrected_by_colour():
    prior = rough(disc(SIZE, 78, 61, 30))
    assert iou(prior > 0.5, ONE) < 0.7
    assert iou(decode(painted(ONE), points((70, 55)), prior=prior).masks[0], ONE) > 0.97


def test_a_point_without_prior_keeps_at_least_itself():
    """Nothing says how far the object reaches, so that nothing is all that may be claimed."""
    found = decode(painted(ONE), points((70, 55)))
    assert found.masks[0, 55, 70] and not (found.masks[0] & ~ONE).any()
    assert found.scores.tolist() == [0.5]


def test_a_box_finds_what_it_holds():
    found = decode(painted(TWO), box(35, 20, 105, 90))
    assert len(found.masks) == 1 and iou(found.masks[0], ONE) > 0.97


def test_nothing_lies_outside_the_boxes():
    found = decode(painted(np.ones(SIZE, bool)), box(40, 30, 90, 70))
    inside = np.zeros(SIZE, bool)
    inside[30:70, 40:90] = True
    assert not (found.masks & ~inside).any()


def test_only_the_prompted_disc_is_proposed():
    image = painted(TWO)
    for xy, expected in (((70, 55), ONE), ((145, 75), TWO & ~ONE)):
        found = decode(image, points(xy), prior=rough(TWO))
        assert len(found.masks) == 1 and iou(found.masks[0], expected) > 0.97


def test_each_prompt_answers_with_its_own_piece_once():
    prompts = [points((145, 75)), points((70, 55)), points((60, 50)), points((145, 75), (70, 55))]
    found = decode(painted(TWO), *prompts, prior=rough(TWO))
    # The third repeats the second, and is not said twice.
    assert found.prompts.tolist() == [0, 1, 3]
    for mask, expected in zip(found.masks, (TWO & ~ONE, ONE, TWO), strict=True):
        assert iou(mask, expected) > 0.97


def test_negative_points_lie_on_no_mask():
    negative = ((60, 50), (85, 60), (70, 75))
    for prior in (rough(ONE), np.full(SIZE, 0.9, np.float32), np.ones(SIZE, np.float32)):
        found = decode(painted(ONE), points((70, 55), negative=negative), prior=prior)
        assert found.masks[0, 55, 70]
        for x, y in negative:
            assert not found.masks[:, y, x].any()


def test_a_negative_point_takes_a_piece_away():
    """A prior that knows no better takes both discs; a word about one leaves the other."""
    gap = np.zeros(SIZE, bool)
    gap[:, 110:] = True
    purple = painted(TWO)
    purple[TWO & gap] = (120, 30, 160)
    found = decode(purple, points((70, 55), (145, 75)), prior=rough(TWO))
    assert iou(found.masks[0], TWO) > 0.95
    found = decode(purple, points((70, 55), negative=((145, 75),)), prior=rough(TWO))
    assert iou(found.masks[0], ONE) > 0.97


def test_a_prompt_without_positive_points_or_box_proposes_nothing():
    found = decode(painted(ONE), Prompt(np.array([[5.0, 5.0]]), np.zeros(1, bool)), prior=rough(ONE))
    assert found.masks.shape == (0, *SIZE) and found.scores.shape == found.prompts.shape == (0,)


@pytest.mark.parametrize("sure", [1.0, 0.9])
def test_a_prior_that_is_all_object_is_taken_at_its_word(sure):
    found = decode(painted(ONE), points((70, 55)), prior=np.full(SIZE, sure, np.float32))
    assert found.masks.all() and found.scores == np.float32(sure)


def test_a_prior_that_is_nothing_leaves_the_points():
    found = decode(painted(ONE), points((70, 55)), prior=np.zeros(SIZE, np.float32))
    assert found.masks[0, 55, 70] and found.masks.sum() < 20
    assert found.scores == 0


def test_same_question_same_answer_whatever_opencv_drew_before():
    noise = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    prior = rough(ONE)
    answers = []
    for seed in range(1, 5):
        cv2.setRNGSeed(seed)
        answers.append(decode(image, points((70, 55)), prior=prior))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.masks, answers[0].masks)
        np.testing.assert_array_equal(answer.scores, answers[0].scores)


def test_decoding_leaves_its_inputs_alone():
    image, prior = painted(ONE), rough(ONE)
    embedding = GENERATOR.encode(image)
    before = image.copy(), prior.copy(), embedding.small.copy()
    GENERATOR.decode(embedding, [points((70, 55))], prior=prior)
    for a, b in zip(before, (image, prior, embedding.small), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [(90, 300), (400, 130)])
def test_masks_have_the_size_of_the_picture(size):
    generator = GrabCut(GrabCutConfig(longest=100))
    x, y = size[1] * 0.6, size[0] * 0.4
    object_ = disc(size, x, y, min(size) / 3)
    embedding = generator.encode(painted(object_))
    assert max(embedding.small.shape) == 100 and embedding.image_size == size
    found = generator.decode(embedding, [points((x, y))], prior=rough(object_))
    assert found.masks.shape == (1, *size)
    assert iou(found.masks[0], object_) > 0.9  # the copy's pixels are 3 to 4 wide


def test_small_pictures_are_not_enlarged():
    assert GENERATOR.encode(painted(disc((20, 30), 15, 10, 6))).small.shape == (20, 30, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 900), (3, 2000)])
def test_slivers(size):
    image = np.random.default_rng(5).integers(0, 256, (*size, 3), np.uint8)
    for prior in (None, np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)):
        found = decode(image, points((size[1] / 2, size[0] / 2)), prior=prior)
        assert found.masks.shape[1:] == size and len(found.masks) <= 1
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_points_keep_their_place_in_a_sliver_whose_sides_shrink_unlike():
    left = np.zeros((3, 2000), bool)
    left[:, :1000] = True
    for x, expected in ((900, left), (1100, ~left)):
        found = decode(
            painted(expected), points((x, 1.5)), prior=np.where(expected, 0.8, 0.2).astype(np.float32)
        )
        assert iou(found.masks[0], expected) > 0.98


def test_points_on_and_beyond_the_border_are_held_to_it():
    image = painted(disc(SIZE, 180, 60, 40))
    found = decode(image, points((180, 60), (500, 60)), prior=rough(disc(SIZE, 180, 60, 40)))
    assert iou(found.masks[0], disc(SIZE, 180, 60, 40)) > 0.95


def test_scores_stay_between_zero_and_one():
    prior = np.random.default_rng(6).random(SIZE).astype(np.float32)
    found = decode(painted(TWO), points((70, 55)), points((145, 75)), prior=prior)
    assert len(found.scores) and ((found.scores >= 0) & (found.scores <= 1)).all()
    assert found.scores.dtype == np.float32 and found.prompts.dtype == np.int32


def test_input_that_does_not_fit():
    embedding = GENERATOR.encode(painted(ONE))
    with pytest.raises(InputError, match="decode got no prompts; expected at least one"):
        GENERATOR.decode(embedding, [])
    with pytest.raises(InputError, match=r"prior is \[60, 90\] but the picture is \[120, 180\]"):
        GENERATOR.decode(embedding, [points((1, 1))], prior=np.zeros((60, 90), np.float32))
    with pytest.raises(InputError, match="prior holds 1 values that are NaN"):
        prior = rough(ONE)
        prior[3, 4] = np.nan
        GENERATOR.decode(embedding, [points((1, 1))], prior=prior)
    with pytest.raises(InputError, match=r"image is .*; expected a non-empty uint8"):
        GENERATOR.encode(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("wrong", [{"longest": 0}, {"iterations": 0}, {"certain": 0.5}, {"certain": 1.1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(InputError, match=r"out of range; expected longest >= 1"):
        GrabCutConfig(**wrong)
