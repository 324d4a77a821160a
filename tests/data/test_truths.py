from __future__ import annotations

import pickle

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import Sample
from softmatch_jax.data.truths import GreyTruth, LabelTruth, ThresholdTruth

VALUES = np.array([[0, 1, 2, 3], [127, 128, 254, 255]], np.uint8)


@pytest.fixture
def grey(tmp_path):
    return save(tmp_path / "grey.png", VALUES)


def save(path, values):
    PIL.Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def test_threshold_is_the_first_value_of_the_object(grey):
    truth = ThresholdTruth(grey, 128).read((2, 4))
    assert truth.mask.tolist() == [[False] * 4, [False, True, True, True]]
    assert truth.void is None


def test_without_a_threshold_the_larger_of_two_values_is_object(tmp_path, grey):
    path = save(tmp_path / "two.png", [[3, 7], [7, 3]])
    assert ThresholdTruth(path).read((2, 2)).mask.tolist() == [[False, True], [True, False]]
    with pytest.raises(InputError, match="8 distinct values"):
        ThresholdTruth(grey).read((2, 4))


def test_labels_of_object_and_void(grey):
    truth = LabelTruth(grey, (1, 3), (255,)).read((2, 4))
    assert truth.mask.tolist() == [[False, True, False, True], [False] * 4]
    assert truth.void.tolist() == [[False] * 4, [False, False, False, True]]
    assert LabelTruth(grey, (1,)).read((2, 4)).void is None


def test_object_and_void_are_disjoint(grey):
    truth = LabelTruth(grey, (1, 255), (255, 0)).read((2, 4))
    assert not (truth.mask & truth.void).any()
    assert truth.mask.sum() == 2 and truth.void.sum() == 1


def test_grey_of_colours_is_as_pillow_converts(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    path = save(tmp_path / "colours.png", colours)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    mask = GreyTruth(path, 128).read((60, 70)).mask
    clear = np.abs(luma - 127.5) > 0.01  # where rounding does not decide
    assert np.array_equal(mask[clear], luma[clear] >= 127.5)
    with PIL.Image.open(path) as image:
        assert np.array_equal(mask, np.array(image.convert("L")) >= 128)


def test_grey_of_a_palette_is_of_its_colours(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 0])
    image.save(tmp_path / "palette.png")
    assert GreyTruth(tmp_path / "palette.png", 1).read((1, 3)).mask.tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [False, True]),
        ([0, 0], [False, False]),
        ([0, 2], [False, False]),
        ([127, 128], [False, True]),
    ],
)
def test_grey_takes_zeros_and_ones_as_they_stand(tmp_path, values, expected):
    path = save(tmp_path / "mask.png", [values])
    assert GreyTruth(path, 128).read((1, 2)).mask.tolist() == [expected]


@pytest.mark.parametrize(
    "truth", [ThresholdTruth, GreyTruth, lambda path, values: LabelTruth(path, (values,))]
)
def test_another_size_than_the_picture_is_refused(tmp_path, grey, truth):
    image = save(tmp_path / "image.png", np.zeros((2, 5, 3)))
    with pytest.raises(InputError, match=r"grey\.png is 4x2 pixels but its image is 5x2"):
        Sample(name="a", image=image, truth=truth(grey, 128)).read()


@pytest.mark.parametrize("truth", [ThresholdTruth, GreyTruth, lambda path, value: LabelTruth(path, (value,))])
def test_truths_compare_by_value_and_travel(grey, truth):
    one = truth(grey, 1)
    assert pickle.loads(pickle.dumps(one)) == one == truth(grey, 1) != truth(grey, 2)
    assert len({one, truth(grey, 1)}) == 1
    with pytest.raises(InputError, match=r"no\.png"):
        truth(grey.with_name("no.png"), 1).read((2, 4))
