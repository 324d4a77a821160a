"""Annotations for training, as pixels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import TrainingAnnotator, annotated_pixels
from softmatch_jax.data.episodes import Truth
from softmatch_jax.data.published_annotations import resize_nearest
from softmatch_jax.imaging import read_mask
from softmatch_jax.prompting import Box, Points, draw_disc, point_radius

KINDS = ("mask", "scribble", "box", "point")
MODES = ("published", "fixed")


def ellipse(size=(300, 400)):
    y, x = np.mgrid[: size[0], : size[1]]
    return ((y - size[0] / 2) / (size[0] / 4)) ** 2 + ((x - size[1] / 2) / (size[1] / 3)) ** 2 < 1


MASK = ellipse()


def marked(kind, mode, index, mask=MASK, **options):
    return TrainingAnnotator(kind=kind, mode=mode, **options)(Truth(mask), seed=3, index=index)


@pytest.mark.parametrize("raster", [None, (96, 64)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_the_object(kind, mode, raster):
    mask = MASK if raster is None else resize_nearest(MASK, raster)
    drawn = [marked(kind, mode, index, raster=raster) for index in range(12)]
    assert all(pixels.shape == mask.shape and pixels.dtype == bool for pixels in drawn)
    np.random.seed(0)
    again = pickle.loads(pickle.dumps(TrainingAnnotator(kind=kind, mode=mode, raster=raster)))
    np.testing.assert_array_equal(again(Truth(MASK.copy()), seed=3, index=7), drawn[7])
    different = len({pixels.tobytes() for pixels in drawn})
    fixed = kind == "mask" or (kind, mode) == ("box", "published")
    assert different == 1 if fixed else different > 9
    if kind == "mask":
        assert (drawn[0] == mask).all() and drawn[0] is not MASK
    elif kind != "box":
        inside = sum((pixels & mask).sum() for pixels in drawn) / sum(pixels.sum() for pixels in drawn)
        assert inside == 1 if mode == "published" else inside > 0.8
        assert mode == "published" or all((pixels & mask).any() for pixels in drawn)


def test_published_points_are_single_and_up_to_twenty():
    counts = [int(marked("point", "published", index).sum()) for index in range(400)]
    assert min(counts) == 1 and max(counts) == 20 and len(set(counts)) == 20
    assert abs(np.mean(counts) - 10.5) < 4 * np.sqrt((20**2 - 1) / 12 / 400)


def test_fixed_points_are_discs():
    size = MASK.shape
    disc = int(draw_disc((200.5, 150.5), point_radius(size), size).sum())
    areas = np.array([marked("point", "fixed", index, points=4).sum() for index in range(60)]) / disc
    assert areas.max() <= 4 and areas.min() == 1
    shares = [np.mean(np.round(areas) == count) for count in (1, 2, 3, 4)]
    assert min(shares) > 0.08
    assert {int(marked("point", "fixed", index, points=1).sum()) for index in range(9)} == {disc}


def test_boxes_are_filled_and_jittered():
    rows, columns = np.flatnonzero(MASK.any(1)), np.flatnonzero(MASK.any(0))
    tight = np.zeros(MASK.shape, bool)
    tight[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    for options in ({"mode": "published"}, {"mode": "fixed", "jitter": 0.0}):
        np.testing.assert_array_equal(marked("box", index=0, **options), tight)
    height, width = len(rows), len(columns)
    sides = []
    for index in range(80):
        box = marked("box", "fixed", index, jitter=0.2)
        y, x = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        assert box.sum() == len(y) * len(x)
        sides.append([(y[0] - rows[0]) / height, (x[-1] - columns[-1]) / width])
    assert np.abs(sides).max() <= 0.2 + 1 / height and np.abs(sides).max() > 0.15
    assert (np.abs(np.mean(sides, 0)) < 0.06).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_any_size(kind, mode):
    pixel = np.zeros((60, 50), bool)
    pixel[3, 4] = True
    assert not marked(kind, mode, 0, np.zeros((60, 50), bool)).any()
    assert not marked(kind, mode, 0, pixel, raster=(10, 10)).any()  # rows 0, 6, ... are looked at
    for mask in (pixel, np.ones((60, 50), bool)):
        for index in range(5):
            pixels = marked(kind, mode, index, mask)
            assert pixels.any() or (kind, mode) == ("scribble", "published")


def test_pixels_of_an_annotation():
    assert annotated_pixels(Box(0, 0, 8, 6), (6, 8)).all()
    assert annotated_pixels(Box(2, 1, 4, 5), (6, 8)).sum() == 8
    points = annotated_pixels(Points(((10.5, 10.5), (30.5, 30.5)), (True, False)), (40, 40))
    np.testing.assert_array_equal(points, draw_disc((10.5, 10.5), 2, (40, 40)))
    with pytest.raises(InputError, match="The box lies entirely outside"):
        annotated_pixels(Box(20, 20, 30, 30), (6, 8))


def test_bad_options():
    for options, words in (
        ({"kind": "lasso"}, "kind is 'lasso'"),
        ({"mode": "best"}, "mode is 'best'"),
        ({"points": 0}, "points is 0"),
        ({"jitter": 0.5}, "jitter is 0.5"),
        ({"raster": (0, 5)}, r"raster is \(0, 5\)"),
    ):
        with pytest.raises(InputError, match=words):
            TrainingAnnotator(**options)
    with pytest.raises(InputError, match="index is -1"):
        marked("box", "fixed", -1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_photographed_objects(kind, mode, data_dir):
    mask = read_mask(data_dir / "perseg" / "cat" / "00.png")
    for raster in (None, (512, 512)):
        pixels = marked(kind, mode, 1, mask, raster=raster)
        assert pixels.shape == (raster or mask.shape)
        shown = mask if raster is None else resize_nearest(mask, raster)
        assert (pixels & shown).sum() > (0.3 if kind == "box" else 0.8) * pixels.sum() > 0
