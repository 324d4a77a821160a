"""Contact sheets: captioned thumbnails in rows, for looking at many results at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from softmatch_jax._checks import InputError, check_image, check_positive
from softmatch_jax._types import Image, Size
from softmatch_jax.imaging.resizing import fit_longest, resize_image

_PAPER, _INK, _FRAME = (250, 250, 248), (52, 52, 56), (222, 222, 218)
_SMALLEST_THUMBNAIL = 48


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        image: ``uint8 [H, W, 3]``.
        caption: One line below it, cut with an ellipsis where it is wider than its column; empty
            for none. Pillow's bundled font has Latin letters.
    """

    image: Image
    caption: str = ""


@dataclass(frozen=True)
class _Layout:
    """Where things lie, in pixels: ``columns`` and ``rows`` are the boxes' widths and heights."""

    thumbnail: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    margin: int
    gap: int
    font: int
    caption: int  # Height of a caption's strip.
    note: int  # Height of the strip at the foot that says what is left out; 0 for none.

    @property
    def size(self) -> Size:
        height = sum(self.rows) + len(self.rows) * self.caption + (len(self.rows) - 1) * self.gap
        width = sum(self.columns) + (len(self.columns) - 1) * self.gap
        return (height + 2 * self.margin + self.note, width + 2 * self.margin)


def contact_sheet(
    tiles: Sequence[Sequence[Tile]], *, thumbnail: int = 320, max_pixels: int = 24_000_000
) -> Image:
    """Lays out rows of captioned thumbnails on light paper.

    Aspect is kept and small pictures are enlarged to the common size. A sheet that would be too
    large gets smaller thumbnails, and where that is not enough fewer rows, with a note at its foot
    saying how many are left out.

    Args:
        tiles: Rows of tiles, not necessarily of equal length.
        thumbnail: Length of a thumbnail's longer side in pixels.
        max_pixels: Bound on the sheet's height times width.

    Returns:
        ``uint8 [H, W, 3]``; equal input gives an equal picture.

    Raises:
        InputError: There is no tile, an image is not ``uint8 [H, W, 3]``, or not even one row of
            the smallest thumbnails fits ``max_pixels``.
    """
    check_positive("thumbnail", thumbnail)
    check_positive("max_pixels", max_pixels)
    rows = [list(row) for row in tiles if len(row)]
    if not rows:
        raise InputError("tiles is empty; expected at least one row with one tile.")
    for row in rows:
        for tile in row:
            check_image("tile.image", tile.image)
    layout = _fitting_layout(rows, thumbnail, max_pixels)
    canvas = PIL.Image.new("RGB", layout.size[::-1], _PAPER)
    y = layout.margin
    for row, height in zip(rows, layout.rows, strict=False):
        x = layout.margin
        for tile, width in zip(row, layout.columns, strict=False):
            _draw_tile(canvas, tile, (x, y), (width, height), layout)
            x += width + layout.gap
        y += height + layout.caption + layout.gap
    if layout.note:
        left = len(rows) - len(layout.rows)
        text = f"{left} more row{'s' if left > 1 else ''} not shown"
        _write(canvas, text, (layout.margin, y - layout.gap), layout.size[1] - 2 * layout.margin, layout)
    return np.array(canvas)


def _fitting_layout(rows: list[list[Tile]], thumbnail: int, max_pixels: int) -> _Layout:
    """The largest layout within ``max_pixels``: thumbnails shrink first, then rows go."""
    smallest = min(thumbnail, _SMALLEST_THUMBNAIL)
    while True:
        layout = _layout(rows, len(rows), thumbnail)
        if _area(layout) <= max_pixels:
            return layout
        if thumbnail == smallest:
            break
        thumbnail = max(smallest, thumbnail * 9 // 10)
    for shown in range(len(rows) - 1, 0, -1):
        layout = _layout(rows, shown, thumbnail)
        if _area(layout) <= max_pixels:
            return layout
    raise InputError(
        f"one row of {max(map(len, rows))} tiles needs {_area(layout):,} pixels, more than the limit of "
        f"{max_pixels:,}; split the row or raise max_pixels."
    )


def _layout(rows: list[list[Tile]], shown: int, thumbnail: int) -> _Layout:
    """The layout of the first ``shown`` rows; columns are as wide as their widest thumbnail."""
    sizes = [[fit_longest(_size(tile), thumbnail) for tile in row] for row in rows[:shown]]
    columns = tuple(max(row[i][1] for row in sizes if i < len(row)) for i in range(max(map(len, sizes))))
    font = max(11, round(thumbnail * 0.05))
    strip = font * 2 if any(tile.caption for row in rows[:shown] for tile in row) else 0
    return _Layout(
        thumbnail=thumbnail,
        columns=columns,
        rows=tuple(max(height for height, _ in row) for row in sizes),
        margin=max(10, thumbnail // 12),
        gap=max(6, thumbnail // 24),
        font=font,
        caption=strip,
        note=font * 2 if shown < len(rows) else 0,
    )


def _draw_tile(
    canvas: PIL.Image.Image, tile: Tile, corner: tuple[int, int], box: tuple[int, int], layout: _Layout
) -> None:
    """Draws ``tile`` into the ``(width, height)`` ``box`` at ``corner``, standing on its caption."""
    height, width = fit_longest(_size(tile), layout.thumbnail)
    x, y = corner[0] + (box[0] - width) // 2, corner[1] + box[1] - height
    canvas.paste(PIL.Image.fromarray(resize_image(tile.image, (height, width))), (x, y))
    # Without the frame a white picture would dissolve in the paper.
    ImageDraw.Draw(canvas).rectangle((x - 1, y - 1, x + width, y + height), outline=_FRAME)
    _write(canvas, tile.caption, (corner[0], corner[1] + box[1]), box[0], layout)


def _write(canvas: PIL.Image.Image, text: str, corner: tuple[int, int], width: int, layout: _Layout) -> None:
    """Writes one centred line into the strip of ``width`` below ``corner``."""
    font = _font(layout.font)
    line = _elided(" ".join(text.split()), width, font)
    if line:
        centre = (corner[0] + width / 2, corner[1] + layout.font)
        ImageDraw.Draw(canvas).text(centre, line, fill=_INK, font=font, anchor="mm")


def _elided(text: str, width: float, font: Any) -> str:
    """``text``, or as much of its beginning as fits ``width`` pixels with an ellipsis behind it."""
    if font.getlength(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while fits + 1 < too_long:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…" if fits else ""


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _size(tile: Tile) -> Size:
    return tile.image.shape[:2]


def _area(layout: _Layout) -> int:
    height, width = layout.size
    return height * width
