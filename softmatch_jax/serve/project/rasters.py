"""Masks with their objects told apart, as small immutable blobs, as pictures for the page, and brushed."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable

import cv2
import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax._types import MOST_OBJECTS, Labels, Mask, Size
from softmatch_jax.prompting.rasterise import polyline_window
from softmatch_jax.serve.project.documents import BrushStroke, Digest

MAX_PIXELS = 100_000_000
"""Largest raster that is read."""

_HEADER = struct.Struct("<4sBBIII")  # magic, version, coding, height, width, number of runs
_MAGIC, _VERSION = b"SMLR", 1
_RUNS, _PLAIN = 0, 1
_INDICES = np.append(np.uint8(0), (np.arange(65535) % 255 + 1).astype(np.uint8))
_RUN_BYTES = 6  # uint16 value, uint32 length


def encode_labels(labels: Labels) -> bytes:
    """Packs a raster: runs along its rows, or the values as they stand where runs would take more, deflated.

    Deflating harder saves a sixth and takes five times as long.

    Raises:
        InputError: It is no non-empty ``uint16 [H, W]``.
    """
    if labels.ndim != 2 or labels.dtype != np.uint16 or labels.size == 0:
        raise InputError(
            f"The raster is {labels.dtype} {list(labels.shape)}; expected a non-empty uint16 [H, W] array."
        )
    values = np.ascontiguousarray(labels).ravel()
    starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
    if _RUN_BYTES * starts.size < 2 * values.size:
        lengths = np.diff(starts, append=values.size)
        body = values[starts].astype("<u2").tobytes() + lengths.astype("<u4").tobytes()
        coding, count = _RUNS, starts.size
    else:
        body, coding, count = values.astype("<u2").tobytes(), _PLAIN, values.size
    return _HEADER.pack(_MAGIC, _VERSION, coding, *labels.shape, count) + zlib.compress(body, 1)


def decode_labels(data: bytes) -> Labels:
    """Unpacks a raster.

    Returns:
        ``uint16 [H, W]``, read-only.

    Raises:
        InputError: The blob is damaged, of a newer version, or has more than ``MAX_PIXELS`` pixels.
    """
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise InputError("The raster is damaged: it does not begin as one; restore the project from a copy.")
    _, version, coding, height, width, count = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise InputError(f"The raster is of version {version}; expected {_VERSION} (use a newer softmatch).")
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"The raster has {width}x{height} pixels; expected 1 to {MAX_PIXELS:,} in all.")
    body = _inflated(data[_HEADER.size :], 2 * height * width)
    if coding == _PLAIN and count == height * width and len(body) == 2 * count:
        values = np.frombuffer(body, "<u2").astype(np.uint16)
    elif coding == _RUNS and len(body) == _RUN_BYTES * count:
        values = _unrolled(body, count, height * width)
    else:
        raise InputError("The raster is damaged: its length is wrong; restore the project from a copy.")
    values.flags.writeable = False
    return values.reshape(height, width)


def digest_of(data: bytes) -> Digest:
    """SHA-256 in hexadecimal, under which a blob is kept."""
    return hashlib.sha256(data).hexdigest()


def labels_png(labels: Labels) -> bytes:
    """Draws a raster for the page: a PNG of 8-bit palette indices.

    Index 0 is transparent. Object ``n`` has the index ``(n - 1) % 255 + 1``, which is opaque and whose red,
    green and blue are the index itself, so that a canvas gives it back.
    """
    image = PIL.Image.fromarray(np.take(_INDICES, labels))
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=b"\0", compress_level=3)
    return buffer.getvalue()


def heat_png(heat: np.ndarray) -> bytes:
    """Draws a match map ``uint8 [h, w]`` as a grey PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(heat).save(buffer, "PNG")
    return buffer.getvalue()


def paint(labels: Labels | None, size: Size, strokes: Iterable[BrushStroke]) -> Labels:
    """Brushes a raster, stroke by stroke.

    A piece that a stroke adds belongs to the object that it touches; where it touches several, each pixel to
    the one that is nearest within the piece; where it touches none, it is a new object. Strokes may leave the
    picture.

    Args:
        labels: The raster, or None for an empty one.
        size: ``(height, width)`` of the picture.
        strokes: In their order.

    Returns:
        A new array, ``uint16 [H, W]``.

    Raises:
        InputError: The raster is not of that size, or there are more than 65,535 objects.
    """
    if labels is not None and labels.shape != tuple(size):
        raise InputError(
            f"The raster is {labels.shape[1]}x{labels.shape[0]} pixels and its picture {size[1]}x{size[0]}; "
            "expected the same size."
        )
    painted = np.zeros(size, np.uint16) if labels is None else np.array(labels, np.uint16)
    for stroke in strokes:
        (rows, columns), covered = polyline_window(stroke.points, stroke.width, size)
        if not covered.any():
            continue
        if stroke.add:
            _add(painted, covered, rows.start, columns.start)
        else:
            painted[rows, columns][covered] = 0
    return painted


def _add(painted: Labels, covered: Mask, top: int, left: int) -> None:
    """Adds the pixels of a window, piece by piece."""
    height, width = covered.shape
    fresh = covered & (painted[top : top + height, left : left + width] == 0)
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats(fresh.astype(np.uint8), connectivity=8)
    for piece in range(1, count):
        x, y, w, h = (int(v) for v in boxes[piece, :4])
        # One pixel more on each side, where the objects that it touches begin.
        y0, x0 = max(top + y - 1, 0), max(left + x - 1, 0)
        around = painted[y0 : top + y + h + 1, x0 : left + x + w + 1]
        inside = np.zeros(around.shape, np.bool_)
        own = pieces[y : y + h, x : x + w] == piece
        inside[top + y - y0 :, left + x - x0 :][:h, :w] = own
        _add_piece(painted, around, inside)


def _add_piece(painted: Labels, around: Labels, inside: Mask) -> None:
    """Numbers the pixels of one piece; ``around`` is the part of ``painted`` about it."""
    rim = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_) & (around > 0)
    touched = np.unique(around[rim])
    if touched.size == 0:
        around[inside] = _new_number(painted)
    elif touched.size == 1:
        around[inside] = touched[0]
    else:
        from skimage.segmentation import watershed  # half a second, and rarely needed

        # On level ground a watershed is the way through the piece: its pixels go to the nearest object.
        markers = np.where(rim, around, 0).astype(np.int32)
        flooded = watershed(  # type: ignore[no-untyped-call]
            np.zeros(around.shape, np.uint8), markers, mask=inside | rim, connectivity=np.ones((3, 3))
        )
        around[inside] = flooded[inside]


def _new_number(painted: Labels) -> int:
    number = int(painted.max()) + 1
    if number <= MOST_OBJECTS:
        return number
    free = np.flatnonzero(np.bincount(painted.ravel(), minlength=number) == 0)
    free = free[free > 0]
    if free.size == 0:
        raise InputError("The raster has 65,535 objects, the most that there can be; erase some first.")
    return int(free[0])


def _inflated(data: bytes, limit: int) -> bytes:
    """Inflates at most ``limit`` bytes."""
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, limit)
        # Asked for one byte more, because all bytes may be there before the end has been read.
        more = b"" if inflater.eof else inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise InputError(f"The raster is damaged ({error}); restore the project from a copy.") from None
    if more or not inflater.eof or inflater.unused_data:
        raise InputError("The raster is damaged: its length is wrong; restore the project from a copy.")
    return body


def _unrolled(body: bytes, count: int, pixels: int) -> np.ndarray:
    values = np.frombuffer(body, "<u2", count)
    lengths = np.frombuffer(body, "<u4", count, offset=2 * count)
    if count == 0 or lengths.sum(dtype=np.uint64) != pixels:
        raise InputError("The raster is damaged: its runs do not fill it; restore the project from a copy.")
    return np.repeat(values, lengths).astype(np.uint16)
