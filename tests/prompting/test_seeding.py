from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import (
    Box,
    MaskAnnotation,
    Painted,
    Points,
    Polyline,
    Scribbles,
    draw_disc,
    draw_polyline,
    fill_box,
    seeds,
)

SIZE = (30, 50)
ACROSS = Polyline(((5, 15), (45, 15)), 4)
DOWN = Polyline(((25, 2), (25, 28)), 4, positive=False)


def square():
    mask = np.zeros(SIZE, bool)
    mask[5:20, 10:30] = True
    return mask


def test_later_stroke_wins():
    across, down = draw_polyline(ACROSS.points, 4, SIZE), draw_polyline(DOWN.points, 4, SIZE)
    last_negative = seeds(Scribbles((ACROSS, DOWN)), SIZE)
    np.testing.assert_array_equal(last_negative.foreground, across & ~down)
    np.testing.assert_array_equal(last_negative.background, down)
    last_positive = seeds(Scribbles((DOWN, ACROSS)), SIZE)
    np.testing.assert_array_equal(last_positive.foreground, across)
    np.testing.assert_array_equal(last_positive.background, down & ~across)
    assert last_positive.region is None and not last_positive.exact


def test_points_are_discs_of_a_size_that_follows_the_picture():
    found = seeds(Points(((10, 10), (40, 20)), (True, False)), SIZE)
    np.testing.assert_array_equal(found.foreground, draw_disc((10, 10), 2, SIZE))
    np.testing.assert_array_equal(found.background, draw_disc((40, 20), 2, SIZE))
    large = seeds(Points(((500, 500),), (True,)), (1000, 2000))
    np.testing.assert_array_equal(large.foreground, draw_disc((500, 500), 10, (1000, 2000)))


def test_box_is_a_region():
    found = seeds(Box(-5, 3, 20, 12), SIZE)
    np.testing.assert_array_equal(found.region, fill_box((0, 3, 20, 12), SIZE))
    np.testing.assert_array_equal(found.background, ~found.region)
    assert not found.foreground.any() and not found.exact


def test_mask_is_exact_and_painting_is_not():
    exact = seeds(MaskAnnotation(square()), SIZE)
    np.testing.assert_array_equal(exact.foreground, square())
    np.testing.assert_array_equal(exact.background, ~square())
    assert exact.exact
    unknown = np.zeros(SIZE, bool)
    assert not seeds(Painted(square(), unknown), SIZE).exact


def test_strokes_are_clipped():
    found = seeds(Scribbles((Polyline(((-20, 15), (20, 15)), 4),)), SIZE)
    assert found.foreground[13:17, :20].all()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Scribbles(()), "no positive stroke among its 0"),
        (Scribbles((DOWN,)), "no positive stroke among its 1"),
        (Points(((5, 5),), (False,)), "no positive point"),
        (
            Scribbles((ACROSS, Polyline(((10, 45), (20, 48))))),
            r"stroke 1 lies entirely outside.*x 10 to 20 and y 45 to 48.*50 wide and 30 high.*\(x, y\)",
        ),
        (Points(((5, 5), (5, 45)), (True, True)), r"point 1 .*outside.*\(x, y\)"),
        (Box(60, 5, 70, 10), r"box .*outside.*x 60 to 70"),
        (Scribbles((ACROSS, Polyline(ACROSS.points, 9, False))), "covered by a later negative"),
        (MaskAnnotation(np.zeros(SIZE, bool)), "empty"),
        (MaskAnnotation(np.ones(SIZE, bool)), "whole picture"),
        (MaskAnnotation(np.ones((50, 30), bool)), "30x50 pixels but its image is 50x30"),
        (Painted(np.zeros(SIZE, bool), square()), "no pixel of the object"),
        (Painted(np.ones((9, 9), bool), np.zeros((9, 9), bool)), "9x9 pixels"),
    ],
)
def test_unusable_annotations_say_why(annotation, message):
    with pytest.raises(InputError, match=message):
        seeds(annotation, SIZE)


def test_size_is_checked():
    with pytest.raises(InputError, match=r"\(height, width\)"):
        seeds(Scribbles((ACROSS,)), (0, 5))
