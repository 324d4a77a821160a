from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import infer_colours, split_painting

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
CLASSES = {"duck": RED, "pond": BLUE}


def layer():
    """A transparent layer with a red, a blue and a green stroke."""
    rgba = np.zeros((20, 30, 4), np.uint8)
    for row, colour in ((2, RED), (8, BLUE), (14, GREEN)):
        rgba[row : row + 4, 3:27] = (*colour, 255)
    return rgba


def rows(first):
    mask = np.zeros((20, 30), bool)
    mask[first : first + 4, 3:27] = True
    return mask


def test_classes_are_each_others_background():
    split = split_painting(layer(), classes=CLASSES, background=GREEN)
    np.testing.assert_array_equal(split["duck"].foreground, rows(2))
    np.testing.assert_array_equal(split["duck"].background, rows(8) | rows(14))
    np.testing.assert_array_equal(split["pond"].foreground, rows(8))
    np.testing.assert_array_equal(split["pond"].background, rows(2) | rows(14))


def test_without_a_background_colour_other_colours_say_nothing():
    split = split_painting(layer(), classes=CLASSES, background=None)
    np.testing.assert_array_equal(split["duck"].background, rows(8))


def test_blended_edges_are_left_out():
    rgba = layer()
    rgba[2, 3:27, 3] = 100  # half transparent edge
    rgba[5, 3:27, :3] = (128, 0, 127)  # halfway between red and blue
    rgba[4, 3:27, :3] = (235, 20, 5)  # red as a JPEG would store it
    duck = split_painting(rgba, classes=CLASSES, background=None)["duck"].foreground
    assert duck[3:5, 3:27].all() and duck.sum() == 2 * 24


def test_equally_near_colours_are_left_out():
    rgba = np.full((4, 4, 4), 255, np.uint8)
    rgba[..., :3] = (100, 0, 0)
    rgba[0, :, 0], rgba[1, :, 0] = 90, 110
    split = split_painting(rgba, classes={"a": (90, 0, 0), "b": (110, 0, 0)}, background=None)
    assert split["a"].foreground.sum() == split["b"].foreground.sum() == 4


def test_opaque_painting_is_compared_with_its_picture():
    base = np.zeros((20, 30, 3), np.uint8)
    base[:, :10] = RED  # the picture itself is red here
    rgba = np.dstack([base, np.full((20, 30), 255, np.uint8)])
    rgba[2:6, 15:25, :3], rgba[10:14, 5:25, :3] = RED, BLUE
    rgba[18, 1, :3] = (250, 5, 3)  # compression noise, not paint
    split = split_painting(rgba, classes=CLASSES, background=None, base_image=base)
    expected = np.zeros((20, 30), bool)
    expected[2:6, 15:25] = True
    np.testing.assert_array_equal(split["duck"].foreground, expected)
    assert infer_colours(rgba, base_image=base) == [(BLUE, 80), (RED, 40)]


def test_colours_are_listed_by_frequency():
    rgba = layer()
    rgba[0, 0] = (9, 9, 9, 255)
    rgba[2, 3:7] = (1, 2, 3, 127)
    assert infer_colours(rgba) == [(BLUE, 96), (GREEN, 96), (RED, 92)]
    assert infer_colours(rgba, minimum=1)[-1] == ((9, 9, 9), 1)
    assert infer_colours(np.zeros((2, 2, 4), np.uint8)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": {"duck": (9, 9, 9)}}, r"\(9, 9, 9\) of class 'duck'.*\(0, 0, 255\) \(96 pixels\)"),
        ({"classes": {}}, "classes is empty"),
        ({"classes": {"a": RED, "b": RED}}, "'a' and 'b' have the same colour"),
        ({"background": RED}, "'duck' and 'background'"),
        ({"classes": {"a": (0, 0, 256)}}, "0 to 255"),
        ({"base_image": np.zeros((5, 6, 3), np.uint8)}, "30x20 pixels but its picture is 6x5"),
        ({"rgba": np.zeros((5, 6, 3), np.uint8)}, r"\[H, W, 4\]"),
        ({"tolerance": 300}, "tolerance"),
    ],
)
def test_errors(options, message):
    options = {"rgba": layer(), "classes": CLASSES, "background": None} | options
    with pytest.raises(InputError, match=message):
        split_painting(options.pop("rgba"), **options)


def test_nothing_painted():
    with pytest.raises(InputError, match="nothing is painted"):
        split_painting(np.zeros((5, 5, 4), np.uint8), classes=CLASSES, background=None)
