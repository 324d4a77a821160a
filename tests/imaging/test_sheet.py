"""The contact sheet: everything is on it, at its aspect, within its bounds."""

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import Tile, contact_sheet
from softmatch_jax.imaging.sheet import _elided, _font

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flat(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def box(sheet, colour):
    """Top, left, height and width of what has ``colour``."""
    ys, xs = np.nonzero((sheet == colour).all(axis=2))
    return ys.min(), xs.min(), ys.max() + 1 - ys.min(), xs.max() + 1 - xs.min()


def test_tiles_keep_their_aspect_and_stand_in_rows_and_columns():
    tiles = [
        [Tile(flat(30, 60, RED), "wide"), Tile(flat(90, 45, GREEN), "tall")],
        [Tile(flat(10, 10, BLUE))],
    ]
    sheet = contact_sheet(tiles, thumbnail=80)
    red, green, blue = (box(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert red[2:] == (40, 80) and green[2:] == (80, 40) and blue[2:] == (80, 80)
    assert red[0] + red[2] == green[0] + green[2]  # One baseline, above the captions.
    assert red[1] + red[3] < green[1] and red[1] == blue[1] and blue[0] > green[0] + 80
    assert (sheet[0] > 240).all() and (sheet[-1] > 240).all()
    assert (sheet[:, 0] > 240).all() and (sheet[:, -1] > 240).all()


def test_captions_are_written_below_their_tile():
    def ink(caption):
        sheet = contact_sheet(
            [[Tile(flat(50, 50, RED), caption), Tile(flat(50, 50, RED), "x")]], thumbnail=100
        )
        top, left, height, _ = box(sheet, RED)
        return (sheet[top + height + 1 :, left : left + 100] < 128).all(axis=2).sum()

    assert ink("") == 0
    assert ink("cat 0.93") > ink("cat") > 0


def test_a_sheet_without_captions_has_no_strip_for_them():
    with_caption = contact_sheet([[Tile(flat(9, 9, RED), "x")]])
    assert contact_sheet([[Tile(flat(9, 9, RED))]]).shape[0] < with_caption.shape[0]


def test_long_captions_are_elided_to_their_width():
    font = _font(16)
    text = "a caption that will not fit"
    short = _elided(text, 100, font)
    assert short.endswith("…") and text.startswith(short[:-1])
    assert font.getlength(short) <= 100 < font.getlength(text[: len(short) + 1] + "…")
    assert _elided(text, 1000, font) == text
    assert _elided(text, 1, font) == ""
    assert _elided("", 10, font) == ""


def test_a_large_sheet_shrinks_then_loses_rows_with_a_note():
    tiles = [[Tile(flat(20, 20, RED), "a")] * 4] * 6
    full = contact_sheet(tiles, thumbnail=200)
    bound = full.shape[0] * full.shape[1] // 4
    smaller = contact_sheet(tiles, thumbnail=200, max_pixels=bound)
    assert bound / 2 < smaller.shape[0] * smaller.shape[1] <= bound

    def rows(sheet):
        red = (sheet == RED).all(axis=2).any(axis=1)
        return int((np.diff(red.astype(int)) == 1).sum())

    assert rows(full) == rows(smaller) == 6
    tiny = contact_sheet(tiles, thumbnail=200, max_pixels=60_000)
    assert 0 < rows(tiny) < 6 and tiny.shape[0] * tiny.shape[1] <= 60_000
    top, _, height, _ = box(tiny, RED)
    assert (tiny[top + height + 25 :] < 128).all(axis=2).any()  # The note at the foot.
    with pytest.raises(InputError, match="max_pixels"):
        contact_sheet(tiles, max_pixels=1000)


def test_the_same_tiles_give_the_same_sheet():
    tiles = [[Tile(np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8), "caption")]]
    np.testing.assert_array_equal(contact_sheet(tiles), contact_sheet(tiles))


@pytest.mark.parametrize("tiles", [[], [[]], [[Tile(np.zeros((2, 2)))]]])
def test_unusable_tiles(tiles):
    with pytest.raises(InputError, match="expected"):
        contact_sheet(tiles)
