"""Outlines, run lengths and bits of masks, judged by pycocotools, OpenCV and decoders of their own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from format_pictures import full, grid, ragged, ring, touching
from pycocotools import mask as coco_mask
from scipy import ndimage

from softmatch_jax._checks import InputError
from softmatch_jax.data.formats.labelled import Losses
from softmatch_jax.data.formats.objects import Assembly, Region, cropped, regions
from softmatch_jax.data.formats.packing import pack_brush, pack_coco, unpack_brush
from softmatch_jax.data.formats.tracing import joined, trace
from softmatch_jax.data.outlines import decode_rle, encode_rle, polygon_mask

# pycocotools 2.0 hands NumPy 2 an object that does not know copies; its masks are right all the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

MASKS = {
    "ring": ring(),
    "touching": touching(),
    "full": full(),
    "pixel": np.ones((1, 1), np.uint16),
    "column": np.ones((9, 1), np.uint16),
    "chequered": (np.indices((9, 10)).sum(axis=0) % 2).astype(np.uint16),
    **{f"ragged {seed}": ragged(seed, share=0.2 + 0.15 * seed) for seed in range(5)},
    "grid": grid(),
}


@pytest.fixture(params=MASKS)
def labels(request: pytest.FixtureRequest) -> np.ndarray:
    return MASKS[request.param]


def test_regions_put_back_are_the_mask(labels: np.ndarray) -> None:
    again = np.zeros_like(labels)
    for number, region in regions(labels):
        again[region.pasted(labels.shape)] = number
        assert region.mask[0].any() and region.mask[-1].any()
        assert region.mask[:, 0].any() and region.mask[:, -1].any()
    np.testing.assert_array_equal(again, labels)


def test_runs_down_columns_are_those_of_the_encoder(labels: np.ndarray) -> None:
    for number, region in regions(labels):
        runs = region.runs(labels.shape, "columns")
        assert tuple(runs.tolist()) == encode_rle(labels == number)
        turned = Region(region.left, region.top, region.mask.T).runs(labels.T.shape, "rows")
        np.testing.assert_array_equal(turned, runs)


def test_packed_runs_are_those_of_pycocotools(labels: np.ndarray) -> None:
    for number, region in regions(labels):
        mask = labels == number
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        text = pack_coco(region.runs(labels.shape, "columns"))
        assert text == expected
        np.testing.assert_array_equal(decode_rle(text, labels.shape), mask)


def test_outlines_fill_to_the_mask_by_the_rule_of_pycocotools(labels: np.ndarray) -> None:
    height, width = labels.shape
    for number, region in regions(labels):
        mask = labels == number
        rings = [part.outline() for part in trace(region)]
        polygons = [ring.ravel().astype(float).tolist() for ring in rings]
        merged = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        np.testing.assert_array_equal(merged.astype(bool), mask)
        whole = joined(trace(region)).ravel().astype(float).tolist()
        one = coco_mask.decode(coco_mask.frPyObjects([whole], height, width))[..., 0]
        np.testing.assert_array_equal(one.astype(bool), mask)
        np.testing.assert_array_equal(polygon_mask(whole, labels.shape), mask)


def test_parts_and_holes_are_those_of_the_mask(labels: np.ndarray) -> None:
    for number, region in regions(labels):
        mask = labels == number
        parts = trace(region)
        blobs, count = ndimage.label(mask)
        assert len(parts) == count
        for index, part in enumerate(parts, start=1):
            # What is not this part hangs together by corners too: one piece outside, the others are holes.
            outside = np.pad(blobs != index, 1, constant_values=True)
            pieces = ndimage.label(outside, np.ones((3, 3)))[1]
            assert len(part.holes) + 1 == pieces
            for corners in (part.outer, *part.holes):
                steps = np.abs(np.roll(corners, -1, axis=0) - corners)
                assert ((steps == 0).sum(axis=1) == 1).all(), "outlines run along the edges, corner to corner"


def test_holes_run_the_other_way_round() -> None:
    (_, region), *_ = regions(ring())
    first = trace(region)[0]

    def area(ring: np.ndarray) -> int:
        x, y = ring.T
        return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) // 2

    assert area(first.outer) == 80
    assert sorted(area(hole) for hole in first.holes) == [-25, -1]
    assert area(first.outline()) == 80 - 26


def test_outlines_are_filled_by_opencv_but_for_their_line() -> None:
    (_, region), *_ = regions(ring((40, 50)).repeat(5, axis=0).repeat(5, axis=1))
    outline = joined(trace(region))
    mask = region.pasted((200, 250))
    drawn = np.zeros((200, 250), np.uint8)
    cv2.fillPoly(drawn, [outline.astype(np.int32)], 1)
    line = np.zeros_like(drawn)
    cv2.polylines(line, [outline.astype(np.int32)], True, 1)
    np.testing.assert_array_equal((drawn > 0) & (line == 0), mask & (line == 0))


def brush_decoder(data: list[int]) -> np.ndarray:
    """Label Studio's bits, read as a text of zeros and ones: written apart from the package's decoder."""
    text = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def bits(number: int) -> int:
        nonlocal position
        position += number
        return int(text[position - number : position], 2)

    count, word = bits(32), bits(5) + 1
    sizes = [bits(4) + 1, bits(4) + 1, bits(4) + 1, bits(4) + 1]
    values: list[int] = []
    while len(values) < count:
        repeats = bits(1) == 1
        length = bits(sizes[bits(2)]) + 1
        values.extend([bits(word)] * length if repeats else [bits(word) for _ in range(length)])
    assert len(text) - position < 8, "nothing but padding is left"
    return np.array(values, np.uint8)


def test_brush_bits_are_the_picture(labels: np.ndarray) -> None:
    for number, region in list(regions(labels))[:20]:
        mask = labels == number
        data = pack_brush(region.runs(labels.shape, "rows"), labels.shape)
        pixels = brush_decoder(data).reshape(*labels.shape, 4)
        np.testing.assert_array_equal(pixels, np.repeat(mask[..., None] * np.uint8(255), 4, axis=2))
        np.testing.assert_array_equal(unpack_brush(data, labels.shape, "here"), mask)


def test_brush_runs_longer_than_a_block() -> None:
    mask = np.zeros((300, 400), bool)
    mask[100:250] = True
    region = cropped(mask)
    assert region is not None
    data = pack_brush(region.runs(mask.shape, "rows"), mask.shape)
    np.testing.assert_array_equal(brush_decoder(data).reshape(300, 400, 4)[..., 3] > 0, mask)


def test_brush_values_that_do_not_repeat_are_read() -> None:
    # 4 values of 8 bits: 0, 0, 0, 7, in one block without repetition, sizes of 3 4 8 16 bits.
    bits = (
        f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
        + f"0{0:02b}{3:03b}"
        + "".join(f"{v:08b}" for v in (0, 0, 0, 7))
    )
    data = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert unpack_brush(data, (1, 1), "here").tolist() == [[True]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("AAAA", "no run lengths"),
        ([0, 1, 256], "no run lengths"),
        ([True, 1], "no run lengths"),
        ([], "damaged"),
        ([0, 0, 0, 4], "damaged"),
        ([255, 255, 255, 255, 57, 27, 240, 0], "4,294,967,295 values"),
    ],
)
def test_damaged_brush_bits(data: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        unpack_brush(data, (1, 1), "here")


def test_brush_bits_cut_short() -> None:
    labels = ring()
    (_, region), *_ = regions(labels)
    data = pack_brush(region.runs(labels.shape, "rows"), labels.shape)
    with pytest.raises(InputError, match="damaged"):
        unpack_brush(data[:-3], labels.shape, "here")


def test_of_two_objects_on_a_pixel_the_smaller_is_kept_and_the_loss_is_counted() -> None:
    losses = Losses()
    assembly = Assembly((10, 10), losses, "x.png")
    small, large, hidden = (np.zeros((10, 10), bool) for _ in range(3))
    small[2:5, 2:5] = True
    large[:8, :8] = True
    hidden[2:5, 2:5] = True
    assembly.add("cat", small)
    assembly.add("cat", large)
    assembly.add("cat", hidden)
    assembly.add("cat", np.zeros((10, 10), bool))
    labels = assembly.masks()["cat"]
    assert np.bincount(labels.ravel()).tolist() == [36, 0, 55, 9]
    said = " ".join(losses.sentences())
    assert "18 pixels" in said and "1 objects lie wholly" in said and "1 objects cover no pixel" in said
