from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import resize_image
from softmatch_jax.training.augmenting import View, draw_view, recolour
from softmatch_jax.training.region_config import Colours, Framing

STILL = {name: 0.0 for name in ("brightness", "contrast", "saturation", "hue", "grey", "blurred", "noisy")}


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered(height=30, width=40):
    """A region for every pixel, and a picture that tells where its pixels are."""
    labels = np.arange(1, height * width + 1, dtype=np.uint16).reshape(height, width)
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 5, x + y], axis=-1).astype(np.uint8), labels


def test_whole_views_show_all():
    for size in ((30, 40), (40, 30), (32, 32)):
        view = draw_view(rng(), size, 64, Framing(whole=1, mirrored=0))
        assert (view.x, view.y, view.height, view.width) == (0, 0, *size)
        assert view.content == tuple(round(64 * s / max(size)) for s in size)


def test_cut_squares_are_in_the_picture_and_spread_over_scales():
    framing, sides = Framing(whole=0), []
    for seed in range(600):
        view = draw_view(rng(seed), (100, 150), 64, framing)
        assert view.x >= 0 and view.x + view.width <= 150
        assert view.y >= 0 and view.y + view.height <= 100
        sides.append(view.width)
        assert view.height == min(view.width, 100)
        assert view.content[1] == 64 and abs(view.content[0] - 64 * view.height / view.width) <= 1
    # Uniform by logarithm from 40 to 150: half below the geometric mean.
    assert min(sides) >= 40 and max(sides) <= 150
    assert 0.45 < np.mean(np.array(sides) < math.sqrt(40 * 150)) < 0.55


def test_shares_of_framing():
    framing = Framing(whole=0.25, mirrored=0.5, upside_down=0.1)
    views = [draw_view(rng(seed), (100, 150), 64, framing) for seed in range(1500)]
    assert 0.22 < np.mean([view.width == 150 for view in views]) < 0.29
    assert 0.46 < np.mean([view.mirrored for view in views]) < 0.54
    assert 0.08 < np.mean([view.upside_down for view in views]) < 0.12
    assert all(view.angle == 0 for view in views)
    assert len({view.x for view in views}) > 50


def test_aimed_views_show_the_pixel():
    for seed in range(200):
        aim = (int(rng(seed).integers(150)), int(rng(seed + 1).integers(100)))
        view = draw_view(rng(seed), (100, 150), 64, Framing(), aim=aim)
        assert view.x <= aim[0] < view.x + view.width <= 150
        assert view.y <= aim[1] < view.y + view.height <= 100
        assert view.x >= 0 and view.y >= 0


def test_picture_and_labels_stay_together():
    """A label says where its pixel was, and the picture has the colours of that place."""
    image, labels = numbered()
    for mirrored in (False, True):
        for upside_down in (False, True):
            view = View(4, 6, 20, 16, 20, 1.0, mirrored=mirrored, upside_down=upside_down)
            cut, regions = view.cut(image), view.cut_labels(labels, view.content)
            assert cut.shape == (16, 20, 3) and regions.shape == (16, 20)
            places = regions.astype(int) - 1
            np.testing.assert_array_equal(image.reshape(-1, 3)[places], cut)
            corner = labels[6 + 15 * upside_down, 4 + 19 * mirrored]
            assert regions[0, 0] == corner


@pytest.mark.parametrize("side", [16, 128])
def test_sizes_are_changed_as_everywhere(side):
    image = rng().integers(0, 256, (32, 40, 3), np.uint8)
    view = View(0, 0, 40, 32, side, side / 40)
    expected = resize_image(image, view.content).astype(int)
    assert np.abs(view.cut(image).astype(int) - expected).max() <= 2


def test_labels_are_those_of_the_nearest_pixel():
    _, labels = numbered()
    view = View(0, 0, 40, 30, 80, 2.0)
    np.testing.assert_array_equal(view.cut_labels(labels, (60, 80)), np.kron(labels, np.ones((2, 2))))
    half = view.cut_labels(labels, (10, 8))
    np.testing.assert_array_equal(half, labels[1::3, 2::5])


def test_turning_by_a_right_angle_is_rot90():
    image, labels = numbered(31, 31)
    view = View(0, 0, 31, 31, 62, 1.0, angle=90.0)
    assert view.content == (30, 30) or view.content == (32, 32)
    whole = View(0, 0, 31, 31, 62, 2.0, angle=90.0)
    regions = whole.cut_labels(labels, (31, 31))
    np.testing.assert_array_equal(regions, np.rot90(labels))
    turned = View(0, 0, 31, 31, 62, 2.0).cut(np.rot90(image))
    assert np.abs(whole.cut(image).astype(int) - turned).max() <= 3


def test_what_comes_in_from_outside_is_no_region():
    image, labels = numbered()
    view = View(0, 0, 40, 30, 40, 1.0, angle=20.0)
    regions = view.cut_labels(labels, (30, 40))
    assert regions[0, 0] == 0 and (regions == 0).mean() > 0.05
    inside = regions > 0
    places = regions[inside].astype(int) - 1
    apart = np.abs(view.cut(image)[inside].astype(int) - image.reshape(-1, 3)[places])
    assert np.median(apart) <= 3
    angles = [draw_view(rng(s), (30, 40), 40, Framing(turned=10)).angle for s in range(100)]
    assert -10 <= min(angles) < -7 and 7 < max(angles) <= 10


def test_nothing_changes_by_nothing():
    image = rng().integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(recolour(rng(), image, Colours(**STILL)), image)


def test_grey_is_the_luma():
    image = rng().integers(0, 256, (16, 16, 3), np.uint8)
    grey = recolour(rng(), image, Colours(**{**STILL, "grey": 1}))
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luma[..., None]).max() <= 0.6  # OpenCV's fixed point


def test_each_change_changes_what_it_says():
    image = rng(1).integers(60, 196, (32, 32, 3), np.uint8)
    luma = np.array([0.299, 0.587, 0.114])

    def changed(**by):
        return recolour(rng(3), image, Colours(**{**STILL, **by})).astype(float)

    shift = changed(brightness=0.1) - image
    assert np.ptp(shift) <= 1 and 1 < abs(shift.mean()) <= 26
    slope = (changed(contrast=0.2) - 127.5)[np.abs(image - 127.5) > 30] / (image - 127.5)[
        np.abs(image - 127.5) > 30
    ]
    assert np.ptp(slope) < 0.04 and 0.8 <= slope.mean() <= 1.2
    for kind in ("saturation", "hue"):
        other = changed(**{kind: 0.1})
        assert np.abs((other - image) @ luma).max() <= 1.01
        assert 1 < np.abs(other - image).max() < 80
    assert np.var(changed(blurred=1)) < np.var(image)
    noise = changed(noisy=1) - image
    assert abs(noise.mean()) < 1 and 0.5 < noise.std() < 8.5


def test_hue_turns_by_the_angle():
    """For weak colours the turn about the grey axis is that of the colour circle of HSV."""
    grey = np.full((2, 2, 3), 128, np.uint8) + np.array([60, 0, 0], np.uint8)
    hues = []
    for seed in range(60):
        pixel = recolour(rng(seed), grey, Colours(**{**STILL, "hue": 0.05}))[0, 0] / 255
        hues.append((colorsys.rgb_to_hsv(*pixel)[0] + 0.5) % 1 - 0.5)
    assert -0.06 < min(hues) < -0.03 and 0.03 < max(hues) < 0.06


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Framing(whole=1.5), "whole is 1.5; expected a share from 0 to 1"),
        (lambda: Framing(mirrored=float("nan")), "mirrored is nan"),
        (lambda: Framing(smallest=0), "smallest is 0; expected a share above 0"),
        (lambda: Framing(turned=-3), "turned is -3; expected an angle"),
        (lambda: Colours(noisy=-0.1), "noisy is -0.1"),
    ],
)
def test_settings_out_of_range(made, message):
    with pytest.raises(InputError, match=message):
        made()
