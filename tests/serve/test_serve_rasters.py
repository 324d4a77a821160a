from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from softmatch_jax import InputError
from softmatch_jax.prompting import draw_polyline
from softmatch_jax.serve.project.documents import BrushStroke
from softmatch_jax.serve.project.rasters import (
    MAX_PIXELS,
    decode_labels,
    digest_of,
    encode_labels,
    labels_png,
    paint,
)

_HEADER = struct.Struct("<4sBBIII")
_LABELS = npst.arrays(
    np.uint16,
    npst.array_shapes(min_dims=2, max_dims=2, max_side=20),
    elements=st.sampled_from([0, 1, 2, 65535]),
)


def stroke(*points: tuple[float, float], width: float = 3.0, add: bool = True) -> BrushStroke:
    return BrushStroke(points=points, width=width, add=add)


@given(_LABELS)
@settings(deadline=None, max_examples=60)
def test_a_raster_comes_back_as_it_was(labels: np.ndarray) -> None:
    data = encode_labels(labels)
    back = decode_labels(data)
    assert back.dtype == np.uint16
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, labels)
    assert digest_of(data) == digest_of(encode_labels(np.asfortranarray(labels)))


def test_noise_takes_no_more_than_its_values_and_a_mask_takes_little() -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (100, 100)).astype(np.uint16)
    assert len(encode_labels(noise)) < 2 * noise.size + 100
    np.testing.assert_array_equal(decode_labels(encode_labels(noise)), noise)
    y, x = np.mgrid[:960, :1280]
    disc = (np.hypot(y - 480, x - 640) < 300).astype(np.uint16)
    assert len(encode_labels(disc)) < 4000


def test_what_is_no_raster_is_refused() -> None:
    for labels in (np.zeros((4, 4), np.uint8), np.zeros((0, 4), np.uint16), np.zeros(4, np.uint16)):
        with pytest.raises(InputError, match="expected a non-empty uint16"):
            encode_labels(labels)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_damage_is_found_or_harmless(data: st.DataObject) -> None:
    whole = encode_labels(np.tile(np.arange(5, dtype=np.uint16).repeat(4), (6, 1)))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError):
        decode_labels(whole[:cut])
    changed = bytearray(whole)
    changed[cut] ^= data.draw(st.integers(1, 255))
    try:
        # A header that promises another shape of as many pixels is found by the digest alone.
        assert decode_labels(bytes(changed)).size == 120
    except InputError as error:
        assert "raster" in str(error)


@pytest.mark.parametrize(
    ("header", "body", "words"),
    [
        ((b"SMLR", 1, 0, 10**4, 10**5, 1), b"\x01\0" + b"\xff" * 4, "expected 1 to"),
        ((b"SMLR", 1, 0, 2**32 - 1, 2**32 - 1, 1), b"", "expected 1 to"),
        ((b"SMLR", 1, 1, 4, 4, 16), b"\0" * 10**7, "length"),
        ((b"SMLR", 1, 0, 4, 4, 2), struct.pack("<2H2I", 1, 2, 2**32 - 1, 17), "do not fill"),
        ((b"SMLR", 1, 0, 4, 4, 0), b"", "do not fill"),
        ((b"SMLR", 1, 7, 4, 4, 16), b"\0" * 32, "length"),
        ((b"SMLR", 2, 0, 4, 4, 1), b"\0" * 6, "newer"),
        ((b"nope", 1, 0, 4, 4, 1), b"\0" * 6, "does not begin"),
    ],
)
def test_bombs_and_lies_are_refused(header: tuple, body: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        decode_labels(_HEADER.pack(*header) + zlib.compress(body))
    assert MAX_PIXELS < 10**9


def test_trailing_bytes_are_damage() -> None:
    with pytest.raises(InputError, match="length"):
        decode_labels(encode_labels(np.ones((3, 3), np.uint16)) + b"x")


def test_the_page_reads_the_objects_from_the_png() -> None:
    labels = np.array([[0, 1, 2, 255, 256, 510, 511, 65535]], np.uint16)
    image = PIL.Image.open(io.BytesIO(labels_png(labels)))
    assert image.mode == "P"
    rgba = np.asarray(image.convert("RGBA"))[0]
    indices = [0, 1, 2, 255, 1, 255, 1, 65534 % 255 + 1]
    np.testing.assert_array_equal(rgba[:, 0], indices)
    np.testing.assert_array_equal(rgba[:, :3], np.repeat(rgba[:, :1], 3, axis=1))
    np.testing.assert_array_equal(rgba[:, 3], [0] + [255] * 7)
    assert labels_png(np.zeros((4, 4), np.uint16))[24] == 8  # bits per sample, in the header


def test_a_stroke_on_nothing_is_a_new_object() -> None:
    size = (40, 50)
    painted = paint(None, size, [stroke((5, 5), (20, 5)), stroke((5, 30), (20, 30))])
    np.testing.assert_array_equal(painted == 1, draw_polyline([(5, 5), (20, 5)], 3, size))
    np.testing.assert_array_equal(painted == 2, draw_polyline([(5, 30), (20, 30)], 3, size))


def test_a_stroke_that_touches_an_object_belongs_to_it() -> None:
    labels = np.zeros((40, 50), np.uint16)
    labels[10:20, 10:20] = 7
    before = labels.copy()
    painted = paint(labels, labels.shape, [stroke((19, 15), (30, 15))])
    assert set(np.unique(painted)) == {0, 7}
    assert (painted == 7).sum() > 100
    np.testing.assert_array_equal(labels, before)
    assert paint(labels, labels.shape, [stroke((24, 15), (30, 15), width=2)]).max() == 8


def test_a_piece_beside_an_object_touches_it_and_one_pixel_off_does_not() -> None:
    labels = np.zeros((9, 12), np.uint16)
    labels[:, :4] = 3
    assert paint(labels, labels.shape, [stroke((4.5, 4.5), width=1)])[4, 4] == 3
    assert paint(labels, labels.shape, [stroke((5.5, 4.5), width=1)])[4, 5] == 4


def test_a_bridge_is_shared_between_what_it_joins() -> None:
    labels = np.zeros((20, 60), np.uint16)
    labels[:, :10], labels[:, 50:] = 1, 2
    painted = paint(labels, labels.shape, [stroke((5, 10), (55, 10))])
    np.testing.assert_array_equal(painted[10, :28], 1)
    np.testing.assert_array_equal(painted[10, 32:], 2)
    assert painted[10].min() > 0


def test_nearest_is_measured_within_the_piece() -> None:
    # Object 2 is close to the loop's end through the air, but the loop leads to 1 first.
    labels = np.zeros((40, 40), np.uint16)
    labels[0:6, 0:6], labels[34:40, 0:6] = 1, 2
    labels[19:22, 0:30] = 9  # a wall
    painted = paint(labels, labels.shape, [stroke((3, 3), (36, 3), (36, 36), (3, 36), width=3)])
    for number in (1, 2):
        _, count = ndimage.label(painted == number, np.ones((3, 3)))
        assert count == 1
    assert painted[3, 30] == 1
    assert painted[36, 30] == 2


def test_erasing_takes_pixels_of_all_objects_and_nothing_else() -> None:
    labels = np.arange(1, 41, dtype=np.uint16).repeat(50).reshape(40, 50)
    wiped = draw_polyline([(10, 3), (12, 30)], 6, labels.shape)
    painted = paint(labels, labels.shape, [stroke((10, 3), (12, 30), width=6, add=False)])
    np.testing.assert_array_equal(painted, np.where(wiped, 0, labels))


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(-10, 40), st.integers(-10, 40)), min_size=1, max_size=4),
            st.integers(1, 12),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None, max_examples=60)
def test_the_union_is_what_the_strokes_cover_in_turn(strokes: list) -> None:
    size = (30, 34)
    labels = np.zeros(size, np.uint16)
    labels[4:12, 4:12], labels[20:28, 16:30] = 1, 2
    covered = labels > 0
    for points, width, add in strokes:
        drawn = draw_polyline(points, width, size)
        covered = covered | drawn if add else covered & ~drawn
    painted = paint(labels, size, [stroke(*p, width=w, add=a) for p, w, a in strokes])
    np.testing.assert_array_equal(painted > 0, covered)
    kept = (labels > 0) & (painted > 0)
    # Nothing that was there changes its object, unless it was erased and painted again.
    if all(add for *_, add in strokes):
        np.testing.assert_array_equal(painted[kept], labels[kept])


def test_strokes_outside_change_nothing_and_sizes_must_agree() -> None:
    labels = np.ones((10, 10), np.uint16)
    np.testing.assert_array_equal(paint(labels, (10, 10), [stroke((-50, 900), (-60, 800))]), labels)
    with pytest.raises(InputError, match="10x10 pixels and its picture 12x10"):
        paint(labels, (10, 12), [stroke((1, 1))])


def test_numbers_that_came_free_are_given_when_the_last_is_used() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[0, 0], labels[0, 2] = 65535, 1
    assert paint(labels, labels.shape, [stroke((10, 10))])[10, 10] == 2
    full = np.zeros((260, 260), np.uint16)
    full.ravel()[:65535] = np.arange(1, 65536)
    with pytest.raises(InputError, match="65,535 objects"):
        paint(full, full.shape, [stroke((200, 257), width=1)])
