"""The geometry of resizing: where a pixel's centre goes, and what is conserved on the way."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import (
    crop_to,
    fit_longest,
    pad_image_edge,
    pad_to,
    resize_image,
    resize_labels,
    resize_map,
    resize_mask,
)

side = st.integers(1, 24)
sizes = st.tuples(side, side)
seeds = st.integers(0, 2**16)
quick = settings(max_examples=60, deadline=None)


def weights(length, out):
    """The definition, written out: row i holds what every input pixel gives to output pixel i."""
    w = np.zeros((out, length))
    for i in range(out):
        if out <= length:
            start, stop = i * length / out, (i + 1) * length / out
            for j in range(length):
                w[i, j] = max(0.0, min(stop, j + 1) - max(start, j)) * out / length
        else:
            x = min(max((i + 0.5) * length / out - 0.5, 0.0), length - 1.0)
            j = min(int(x), max(length - 2, 0))
            w[i, j] += 1 - (x - j)
            w[i, min(j + 1, length - 1)] += x - j
    return w


def oracle(array, size):
    rows, columns = (weights(a, b) for a, b in zip(array.shape, size, strict=False))
    return np.einsum("ih,hw...,jw->ij...", rows, array.astype(np.float64), columns)


@quick
@given(sizes, sizes, seeds)
def test_resizing_is_its_definition(size, out, seed):
    rng = np.random.default_rng(seed)
    values = rng.random(size).astype(np.float32)
    result = resize_map(values, out)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, oracle(values, out), atol=2e-6)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    # Half a level is the rounding; the slack is for ties.
    np.testing.assert_allclose(resize_image(image, out), oracle(image, out), atol=0.5 + 1e-3)


@quick
@given(sizes, sizes, seeds)
def test_mirror_images_stay_mirror_images(size, out, seed):
    rng = np.random.default_rng(seed)
    values, image = rng.random(size).astype(np.float32), rng.integers(0, 256, (*size, 3), np.uint8)
    mask = image[:, :, 0] > 127
    for flip in (np.flipud, np.fliplr):
        np.testing.assert_allclose(resize_map(flip(values), out), flip(resize_map(values, out)), atol=2e-6)
        a, b = resize_image(flip(image), out), flip(resize_image(image, out))
        assert np.abs(a.astype(int) - b).max() <= 1  # An exact half may round either way.
        np.testing.assert_array_equal(resize_mask(flip(mask), out), flip(resize_mask(mask, out)))


@pytest.mark.parametrize("out", [(6, 9), (24, 36), (5, 50), (40, 7)])
def test_a_ramp_keeps_its_values_at_pixel_centres(out):
    height, width = 12, 18
    y, x = np.mgrid[:height, :width] + 0.5
    result = resize_map((3 * x + 5 * y).astype(np.float32), out)
    yy, xx = np.mgrid[: out[0], : out[1]] + 0.5
    expected = 3 * xx * width / out[1] + 5 * yy * height / out[0]
    # Beyond the outermost centres an enlarged ramp is constant; elsewhere it is exact.
    margins = [int(np.ceil(o / (2 * i))) if o > i else 0 for i, o in zip((height, width), out, strict=True)]
    inner = np.s_[margins[0] : out[0] - margins[0], margins[1] : out[1] - margins[1]]
    # Where a cell's rim cuts through input pixels, their constant squares stand for the ramp: off
    # by at most an eighth of the slope per axis, weighted by the share of the cut pixel.
    cuts = [i / o if o < i and i % o else np.inf for i, o in zip((height, width), out, strict=True)]
    tolerance = 5 / (8 * cuts[0]) + 3 / (8 * cuts[1])
    np.testing.assert_allclose(result[inner], expected[inner], atol=1e-4 + tolerance)


def centroid(values):
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] + 0.5
    return np.array([(x * values).sum(), (y * values).sum()]) / values.sum()


@pytest.mark.parametrize("out", [(32, 48), (33, 47), (128, 192), (40, 200)])
def test_a_blob_stays_where_it_is(out):
    y, x = np.mgrid[:64, :96] + 0.5
    blob = np.exp(-((x - 37.3) ** 2 + (y - 22.8) ** 2) / 72).astype(np.float32)
    scale = np.array([out[1] / 96, out[0] / 64])
    np.testing.assert_allclose(centroid(resize_map(blob, out)), centroid(blob) * scale, atol=5e-3)
    image = np.repeat(np.rint(blob[:, :, None] * 255).astype(np.uint8), 3, axis=2)
    moved = centroid(resize_image(image, out)[:, :, 1].astype(float))
    np.testing.assert_allclose(moved, centroid(image[:, :, 1].astype(float)) * scale, atol=2e-2)


@pytest.mark.parametrize("factor", [2, 3])
def test_shrinking_by_a_whole_factor_takes_block_means(factor):
    values = np.random.default_rng(0).random((4 * factor, 5 * factor)).astype(np.float32)
    result = resize_map(values, (4, 5))
    np.testing.assert_allclose(result, values.reshape(4, factor, 5, factor).mean((1, 3)), atol=1e-6)
    np.testing.assert_allclose(result.mean(), values.mean(), atol=1e-6)


def test_enlarging_agrees_with_scipy():
    values = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    expected = ndimage.zoom(values, 3, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize_map(values, (15, 18)), expected, atol=1e-6)


@quick
@given(sizes, seeds)
def test_the_same_size_is_a_copy(size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    for function, array in (
        (resize_image, image),
        (resize_map, image[:, :, 0].astype(np.float32)),
        (resize_mask, image[:, :, 0] > 127),
        (resize_labels, image[:, :, 0]),
    ):
        result = function(array, size)
        np.testing.assert_array_equal(result, array)
        assert not np.shares_memory(result, array)


@pytest.mark.parametrize("out", [(1, 1), (4, 3), (1, 7)])
def test_one_pixel_fills_any_size(out):
    image = np.array([[[3, 77, 255]]], np.uint8)
    np.testing.assert_array_equal(resize_image(image, out), np.broadcast_to(image, (*out, 3)))
    assert resize_mask(np.array([[True]]), out).all()
    assert (resize_labels(np.array([[9]], np.uint8), out) == 9).all()


@pytest.mark.parametrize("out", [(50, 50), (37, 61), (160, 160), (211, 90)])
def test_a_mask_keeps_its_area_and_place(out):
    y, x = np.mgrid[:100, :120] + 0.5
    disc = (x - 55.2) ** 2 + (y - 48.7) ** 2 < 30**2
    result = resize_mask(disc, out)
    assert result.dtype == np.bool_
    assert abs(result.mean() - disc.mean()) < 0.01 * disc.mean()
    expected = centroid(disc.astype(float)) * (out[1] / 120, out[0] / 100)
    # The rim is rounded to whole pixels, some 100 of them; half a pixel of shift would be found.
    np.testing.assert_allclose(centroid(result.astype(float)), expected, atol=0.12)


def test_a_half_covered_pixel_is_object():
    assert resize_mask(np.array([[True, False, False, False]]), (1, 2)).tolist() == [[True, False]]
    assert resize_mask(np.array([[False, False, False, True]]), (1, 2)).tolist() == [[False, True]]


@quick
@given(sizes, sizes, seeds)
def test_labels_take_the_nearest_centre(size, out, seed):
    labels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    expected = np.empty(out, np.uint8)
    for i, j in np.ndindex(*out):
        expected[i, j] = labels[(2 * i + 1) * size[0] // (2 * out[0]), (2 * j + 1) * size[1] // (2 * out[1])]
    np.testing.assert_array_equal(resize_labels(labels, out), expected)


def test_labels_are_not_shifted_as_by_inter_nearest():
    labels = np.arange(9, dtype=np.uint8)[None]
    assert resize_labels(labels, (1, 3)).tolist() == [[1, 4, 7]]
    assert cv2.resize(labels, (3, 1), interpolation=cv2.INTER_NEAREST).tolist() == [[0, 3, 6]]


@pytest.mark.parametrize(
    ("size", "longest", "enlarge", "expected"),
    [
        ((480, 640), 320, True, (240, 320)),
        ((640, 480), 320, True, (320, 240)),
        ((48, 64), 128, True, (96, 128)),
        ((48, 64), 128, False, (48, 64)),
        ((128, 64), 128, False, (128, 64)),
        ((1000, 1), 10, True, (10, 1)),
        ((3, 2), 1, True, (1, 1)),
        ((4, 5), 2, True, (2, 2)),  # 1.6
        ((1, 4), 2, True, (1, 2)),  # 0.5, half up
        ((5, 8), 4, True, (3, 4)),  # 2.5, half up, where round() would give 2
    ],
)
def test_fit_longest(size, longest, enlarge, expected):
    assert fit_longest(size, longest, enlarge=enlarge) == expected


@quick
@given(sizes, side, side, seeds)
def test_cropping_undoes_padding(size, rows, columns, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    larger = (size[0] + rows, size[1] + columns)
    padded = pad_to(image, larger, value=7)
    assert padded.shape == (*larger, 3) and padded.dtype == image.dtype
    assert (padded[size[0] :] == 7).all() and (padded[:, size[1] :] == 7).all()
    edged = pad_image_edge(image, larger)
    for y, x in ((0, -1), (-1, 0), (-1, -1), (size[0], size[1])):
        source = image[min(y, size[0] - 1) if y >= 0 else -1, min(x, size[1] - 1) if x >= 0 else -1]
        np.testing.assert_array_equal(edged[y, x], source)
    for result in (padded, edged):
        np.testing.assert_array_equal(crop_to(result, size), image)


def test_padding_of_planes():
    assert pad_to(np.ones((2, 3), bool), (3, 3)).tolist() == [[True] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize(
    "call",
    [
        lambda: resize_image(np.zeros((2, 2), np.uint8), (1, 1)),
        lambda: resize_image(np.zeros((2, 2, 3), np.uint8), (0, 1)),
        lambda: resize_map(np.zeros((0, 2)), (1, 1)),
        lambda: resize_map(np.zeros((2, 2, 1)), (1, 1)),
        lambda: resize_mask(np.zeros((2, 2)), (1, 1)),
        lambda: resize_labels(np.zeros((2, 2), np.uint8), (1, -1)),
        lambda: pad_to(np.zeros((2, 2)), (1, 2)),
        lambda: pad_image_edge(np.zeros((2, 2, 3), np.uint8), (2, 1)),
        lambda: crop_to(np.zeros((2, 2)), (3, 2)),
        lambda: fit_longest((0, 3), 4),
        lambda: fit_longest((2, 3), 0),
    ],
)
def test_unusable_input_is_one_sentence(call):
    with pytest.raises(InputError, match="expected"):
        call()
