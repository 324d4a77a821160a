"""The learning curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from softmatch_jax.imaging import write_image
from softmatch_jax.training.metrics import Record

FILE = "curves.png"
"""Name of the picture in the folder of a training."""

_LEFT_OUT = frozenset({"step", "seconds", "pictures_per_second", "waiting", "stepping", "other", "compiling"})
_WIDTH, _HEIGHT, _MARGIN, _COLUMNS = 360, 220, 34, 3
_FAR = 1000
_PAPER, _GRID, _INK, _LINE, _SMOOTH = "white", "#dddddd", "#333333", "#9bbbd9", "#1f5f99"


def draw_curves(folder: Path, history: Sequence[Record]) -> None:
    """Draws each quantity over the steps, with its running mean, into ``curves.png``.

    Nothing is drawn from fewer than two lines.

    Raises:
        InputError: The picture cannot be written.
    """
    names = [
        name for name in dict.fromkeys(key for record in history for key in record) if _told(name, history)
    ]
    if len(history) < 2 or not names:
        return
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    canvas = PIL.Image.new("RGB", (columns * _WIDTH, rows * _HEIGHT), _PAPER)
    draw = PIL.ImageDraw.Draw(canvas)
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        points = [
            (record["step"] or 0, value) for record in history if (value := record.get(name)) is not None
        ]
        _panel(draw, (column * _WIDTH, row * _HEIGHT), name, points)
    write_image(folder / FILE, np.array(canvas))


def _told(name: str, history: Sequence[Record]) -> bool:
    """Whether there is something to see: steps skipped are drawn if there are any."""
    values = [record.get(name) for record in history]
    return name not in _LEFT_OUT and (
        any(values) if name == "skipped" else any(v is not None for v in values)
    )


def _panel(
    draw: PIL.ImageDraw.ImageDraw, corner: tuple[int, int], name: str, points: list[tuple[float, float]]
) -> None:
    """One quantity in its frame, with the ends of both axes written beside.

    The axis is logarithmic where the values are too far apart for another.
    """
    x, y = np.array(points, np.float64).T
    apart = bool(name != "learning_rate" and y.min() > 0 and y.max() > _FAR * y.min())
    y = np.log10(y) if apart else y
    left, top = corner[0] + 58, corner[1] + _MARGIN
    right, bottom = corner[0] + _WIDTH - 14, corner[1] + _HEIGHT - _MARGIN
    low, high = float(y.min()), float(y.max())
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(values: np.ndarray) -> list[tuple[float, float]]:
        across = left + (right - left) * (x - x[0]) / max(x[-1] - x[0], 1)
        down = bottom - (bottom - top) * (values - low) / (high - low)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    font = PIL.ImageFont.load_default(12)
    for share in (0, 0.5, 1):
        height = bottom - share * (bottom - top)
        draw.line([(left, height), (right, height)], fill=_GRID)
        value = low + share * (high - low)
        text = f"{10**value if apart else value:.2g}"
        draw.text((left - 6, height), text, fill=_INK, font=font, anchor="rm")
    draw.line(place(y), fill=_LINE, width=1)
    draw.line(place(_smoothed(y)), fill=_SMOOTH, width=2)
    title = f"{name} (logarithmic)" if apart else name
    draw.text((left, top - 8), title, fill=_INK, font=font, anchor="ls")
    draw.text((left, bottom + 6), f"{x[0]:g}", fill=_INK, font=font, anchor="lt")
    draw.text((right, bottom + 6), f"step {x[-1]:g}", fill=_INK, font=font, anchor="rt")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over a window of a twentieth of the curve, shorter towards the ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, np.minimum(at, len(values) - 1 - at))
    return (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)
