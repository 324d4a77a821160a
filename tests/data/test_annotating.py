from __future__ import annotations

import math
import pickle

import cv2
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.episodes import Truth
from softmatch_jax.imaging import read_mask
from softmatch_jax.prompting import Box, MaskAnnotation, Points, Scribbles, draw_polyline, seeds

KINDS = ("mask", "scribble", "box", "point")
MODES = ("published", "fixed")
EPISODE = {"seed": 3, "index": 1, "shot": 0}


def blob(size=(300, 400)):
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, (size[1] // 2, size[0] // 2), (size[1] // 3, size[0] // 4), 30, 0, 360, 1, -1)
    return mask.astype(bool)


def pixel():
    return np.pad(np.ones((1, 1), bool), ((64, 63), (192, 63)))


def line():
    mask = np.zeros((200, 300), bool)
    mask[100, 20:280] = True
    return mask


MASKS = {"blob": blob(), "pixel": pixel(), "line": line(), "full": np.ones((60, 50), bool)}


def values(annotation):
    """What two equal annotations share."""
    return annotation.mask.tobytes() if isinstance(annotation, MaskAnnotation) else annotation


def annotate(kind, mode, mask, **episode):
    return Annotator(kind=kind, mode=mode)(Truth(mask), **(EPISODE | episode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_pure_in_its_arguments(kind, mode):
    mask, annotator = blob((512, 512)), Annotator(kind=kind, mode=mode)
    first = annotator(Truth(mask), **EPISODE)
    np.random.seed(0)
    again = pickle.loads(pickle.dumps(annotator))
    assert again == annotator and again.name == f"{kind} ({mode})"
    second = again(Truth(mask.copy()), **EPISODE)
    assert (first is None) == (second is None)
    assert first is None or values(first) == values(second)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["scribble", "point"])
def test_each_reference_is_annotated_anew(kind, mode):
    numbers = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 0)]
    mask = np.ones((512, 512), bool) if mode == "published" else blob()
    drawn = [annotate(kind, mode, mask, seed=s, index=i, shot=k) for s, i, k in numbers]
    kept = [values(d) for d in drawn if d is not None]
    assert kept and len(set(kept)) == len(kept)
    assert len(kept) == len(drawn) or (kind, mode) == ("point", "published")


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_fixed_annotations_are_true(kind, name):
    mask = MASKS[name]
    for index in range(3):
        made = annotate(kind, "fixed", mask, index=index)
        match kind:
            case "mask":
                assert np.array_equal(made.mask, mask)
            case "box":
                rows, columns = np.nonzero(mask)
                assert made == Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            case "point":
                assert isinstance(made, Points) and made.positive == (True,) * 3
                assert all(mask[int(y), int(x)] for x, y in made.xy)
            case "scribble":
                assert isinstance(made, Scribbles) and len(made.strokes) == 3
                assert all(not (draw_polyline(s.points, 1, mask.shape) & ~mask).any() for s in made.strokes)


def test_fixed_numbers_may_be_chosen():
    assert len(Annotator(kind="point", mode="fixed", points=5)(Truth(blob()), **EPISODE).xy) == 5
    assert len(Annotator(kind="scribble", mode="fixed", strokes=2)(Truth(blob()), **EPISODE).strokes) == 2


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_published_annotations_of_any_object(kind, name):
    mask = MASKS[name]
    for index in range(20):
        made = annotate(kind, "published", mask, index=index)
        if made is None:
            # A row of the line is row 256 of the raster, which the grid keeps: its box is never lost.
            assert kind in ("scribble", "point")
            continue
        assert made.mask.shape == mask.shape and made.mask.any()
        if kind == "mask":
            assert np.array_equal(made.mask, mask)
        if name != "full":
            seeds(made, mask.shape)


@pytest.mark.parametrize("kind", ["scribble", "point"])
def test_published_cells_hang_from_pixels_of_the_object(kind):
    mask = blob((512, 512))
    for index in range(20):
        made = annotate(kind, "published", mask, index=index)
        if made is not None:
            cells = made.mask.reshape(64, 8, 64, 8)
            assert np.array_equal(cells.any(axis=(1, 3)), cells.all(axis=(1, 3)))
            assert mask[::8, ::8][cells[:, 0, :, 0]].all()


def test_published_box_begins_at_the_next_cell():
    mask = np.zeros((512, 512), bool)
    mask[9:17, 16:30] = True
    made = annotate("box", "published", mask)
    rows, columns = np.nonzero(made.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 23, 16, 31)
    assert made.mask.sum() == 8 * 16
    mask[16:] = False
    assert annotate("box", "published", mask) is None  # rows 9 to 15 hold no pixel that the grid looks at


def test_published_points_say_nothing_in_most_episodes():
    mask, trials, empty = blob((512, 512)), 150, (63 / 64) ** 20
    lost = sum(annotate("point", "published", mask, index=index) is None for index in range(trials))
    assert abs(lost - trials * empty) < 4 * math.sqrt(trials * empty * (1 - empty))


def test_no_object():
    nothing = np.zeros((20, 30), bool)
    for kind in KINDS:
        assert annotate(kind, "published", nothing) is None
        with pytest.raises(InputError, match="reference mask is empty"):
            annotate(kind, "fixed", nothing)
    speck = np.zeros((2000, 2000), bool)
    speck[1, 1] = True  # between the pixels that are kept at 512x512
    assert annotate("box", "published", speck) is None


def test_errors():
    with pytest.raises(InputError, match="kind is 'lasso'"):
        Annotator(kind="lasso")
    with pytest.raises(InputError, match="mode is 'best'"):
        Annotator(mode="best")
    with pytest.raises(InputError, match="points is 0"):
        Annotator(points=0)
    with pytest.raises(InputError, match="strokes is -1"):
        Annotator(strokes=-1)
    with pytest.raises(InputError, match="shot is -1"):
        annotate("box", "fixed", blob(), shot=-1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_photographs(kind, mode, data_dir):
    mask = read_mask(data_dir / "perseg" / "cat" / "00.png")
    made = annotate(kind, mode, mask)
    if made is None:
        assert (kind, mode) == ("point", "published")
        return
    marked = seeds(made, mask.shape)
    if kind == "box":
        covered = made.mask if mode == "published" else marked.region
        assert (covered & mask).sum() > 0.98 * mask.sum()
    else:
        assert (marked.foreground & mask).sum() > 0.6 * marked.foreground.sum()
