"""Drawings say what they should and leave the rest of the picture alone."""

import cv2
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import class_palette, heat_map, overlay_labels, overlay_points, overlay_strokes

rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 256, (80, 100, 3), np.uint8)
PALETTE = class_palette(3)
LABELS = np.zeros((80, 100), np.uint8)
LABELS[20:50, 10:40], LABELS[20:50, 40:70] = 1, 2


def grown(mask, by):
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0


def test_palette_is_distinct_and_grows_without_changing():
    full = class_palette(255)
    assert full.dtype == np.uint8 and full.shape == (256, 3)
    assert (full[0] == 0).all()
    assert len(np.unique(full, axis=0)) == 256
    for n in (0, 1, 10, 40):
        np.testing.assert_array_equal(class_palette(n), full[: n + 1])
    first = cv2.cvtColor(full[None, :21].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1)[~np.eye(21, dtype=bool)]
    assert distances.min() > 20  # About ten times what the eye can just tell apart.


def test_palette_is_the_callers_own():
    class_palette(3)[:] = 7
    assert (class_palette(3)[0] == 0).all()


@pytest.mark.parametrize("n", [-1, 256])
def test_palette_bounds(n):
    with pytest.raises(InputError, match=r"0\.\.255"):
        class_palette(n)


@pytest.mark.parametrize("alpha", [0.0, 0.45, 1.0])
def test_labels_are_tinted_and_background_is_left(alpha):
    result = overlay_labels(IMAGE, LABELS, PALETTE, alpha=alpha, outline=0)
    exact = alpha * PALETTE[LABELS] + (1 - alpha) * IMAGE
    assert np.abs(result - exact)[LABELS > 0].max() <= 0.5 + 1e-4  # The slack is for ties in float32.
    np.testing.assert_array_equal(result[LABELS == 0], IMAGE[LABELS == 0])


def test_outline_stays_near_the_rim_and_has_the_colour():
    width = 3
    plain = overlay_labels(IMAGE, LABELS, PALETTE, outline=0)
    result = overlay_labels(IMAGE, LABELS, PALETTE, outline=width)
    changed = (result != plain).any(axis=2)
    rims = np.zeros(LABELS.shape, bool)
    for region in (np.equal(LABELS, 1), np.equal(LABELS, 2)):
        rims |= grown(region, 1) & grown(~region, 1)
    assert changed.any() and not (changed & ~grown(rims, width + 2)).any()
    # The border of class 1 on the left: its colour on the rim, a dark halo outside, for it is bright.
    np.testing.assert_array_equal(result[35, 10], PALETTE[1])
    assert result[35, 7].max() < 100


def test_outline_width_follows_the_image():
    def changed(scale):
        image = np.full((250 * scale, 250 * scale, 3), 128, np.uint8)
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[50 * scale : 150 * scale, 50 * scale : 150 * scale] = 1
        plain = overlay_labels(image, labels, PALETTE, outline=0)
        return (overlay_labels(image, labels, PALETTE) != plain).any(axis=2).mean()

    assert changed(4) == pytest.approx(changed(2), rel=0.3)


def test_empty_labels_change_nothing_and_inputs_stay_as_they_were():
    image, labels = IMAGE.copy(), LABELS.copy()
    result = overlay_labels(image, np.zeros_like(labels), PALETTE)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)
    overlay_labels(image, labels, PALETTE)
    overlay_points(image, np.array([[3.0, 4.0]]), None, PALETTE)
    overlay_strokes(image, labels > 0, None, PALETTE[1])
    heat_map(labels / 2.0, image=image)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)


def test_strokes_have_ink_and_halo():
    foreground, background = LABELS == 1, np.zeros(LABELS.shape, bool)
    background[70:75, 20:80] = True
    result = overlay_strokes(IMAGE, foreground, background, (10, 200, 30))
    assert (result[foreground] == (10, 200, 30)).all()
    assert len(np.unique(result[background], axis=0)) == 1
    assert result[68:70, 50].min() > 200  # A bright halo around the dark background stroke.
    far = ~grown(foreground | background, 4)
    np.testing.assert_array_equal(result[far], IMAGE[far])


@pytest.mark.parametrize(("x", "y"), [(30.5, 40.5), (12.5, 60.5), (70.0, 20.0), (50.25, 33.75)])
def test_points_lie_at_xy_with_centres_at_one_half(x, y):
    black = np.zeros((80, 100, 3), np.uint8)
    disc = overlay_points(black, np.array([[x, y]]), None, np.full((2, 3), 255, np.uint8))
    weight = disc[:, :, 0].astype(float)
    weight[weight <= 24] = 0  # The dark halo.
    ys, xs = np.mgrid[:80, :100] + 0.5
    centre = (xs * weight).sum() / weight.sum(), (ys * weight).sum() / weight.sum()
    np.testing.assert_allclose(centre, (x, y), atol=0.06)


def test_groups_choose_colours_and_wrap_around():
    points = np.array([[10.5, 10.5], [50.5, 10.5], [80.5, 10.5]])
    result = overlay_points(IMAGE, points, np.array([0, 2, 3]), PALETTE)
    for (x, y), colour in zip(points, (1, 3, 1), strict=True):
        np.testing.assert_array_equal(result[int(y), int(x)], PALETTE[colour])


def test_points_outside_and_none():
    np.testing.assert_array_equal(overlay_points(IMAGE, np.zeros((0, 2)), None, PALETTE), IMAGE)
    far = np.array([[-500.0, 3.0], [1e12, -1e12]])
    np.testing.assert_array_equal(overlay_points(IMAGE, far, None, PALETTE), IMAGE)


def test_heat_map_spans_its_own_range_monotonically():
    values = np.linspace(-3, 9, 256, dtype=np.float32)[None]
    result = heat_map(values)
    luma = result.astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(luma[0]) > -1).all() and luma[0, -1] > luma[0, 0] + 150
    np.testing.assert_array_equal(result, heat_map(values * 7 + 2))
    assert result[0, 0, 2] > result[0, 0, 1]  # Violet, not the olive of swapped channels.
    assert result[0, -1, 0] > 200 and result[0, -1, 2] < 100  # Yellow.


def test_heat_map_constant_and_over_an_image():
    assert len(np.unique(heat_map(np.full((3, 4), 0.5)).reshape(-1, 3), axis=0)) == 1
    values = rng.random((8, 10)).astype(np.float32)
    np.testing.assert_array_equal(heat_map(values, image=IMAGE, alpha=0), IMAGE)
    assert heat_map(values, image=IMAGE).shape == IMAGE.shape


@pytest.mark.parametrize(
    "call",
    [
        lambda: overlay_labels(IMAGE, LABELS[1:], PALETTE),
        lambda: overlay_labels(IMAGE, LABELS, PALETTE[:2]),
        lambda: overlay_labels(IMAGE, LABELS > 0, PALETTE),
        lambda: overlay_labels(IMAGE, LABELS, PALETTE / 255),
        lambda: overlay_labels(IMAGE, LABELS, PALETTE, alpha=1.5),
        lambda: overlay_strokes(IMAGE, LABELS, None, (0, 0, 0)),
        lambda: overlay_strokes(IMAGE, LABELS > 0, LABELS[1:] > 0, (0, 0, 0)),
        lambda: overlay_points(IMAGE, np.zeros((2, 3)), None, PALETTE),
        lambda: overlay_points(IMAGE, np.full((2, 2), np.nan), None, PALETTE),
        lambda: overlay_points(IMAGE, np.zeros((2, 2)), np.zeros(3, int), PALETTE),
        lambda: overlay_points(IMAGE, np.zeros((2, 2)), np.array([0, -1]), PALETTE),
        lambda: heat_map(np.full((2, 2), np.nan)),
        lambda: heat_map(np.zeros((2, 2)), image=IMAGE, alpha=-1),
        lambda: heat_map(np.zeros((0, 2))),
    ],
)
def test_unusable_input_is_an_input_error(call):
    with pytest.raises(InputError):
        call()
