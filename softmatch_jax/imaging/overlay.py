"""Pictures of results: labels, strokes, points and maps drawn over the image they belong to.

Everything drawn on a photograph carries a thin halo of the opposite brightness, so that it reads
on any background. Line widths follow the image's size, so a drawing looks the same at any scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from softmatch_jax._checks import InputError, check_finite, check_image, check_mask, check_rank, check_shape
from softmatch_jax._types import Image, IndexedMask, Map, Mask
from softmatch_jax.imaging.resizing import resize_map

# Red, green, blue, 0 to 255.
_Colour: TypeAlias = Sequence[int] | np.ndarray[Any, np.dtype[Any]]

_DARK, _GREY, _BRIGHT = (24, 24, 24), (70, 70, 70), (255, 255, 255)

# Okabe and Ito's colours, which stay apart under every common colour blindness, ordered to stand
# out on photographs and with the sky blue, now first, made stronger; then three of Paul Tol's.
_HAND_PICKED = (
    (0, 158, 255), (230, 159, 0), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178),
    (136, 34, 85), (51, 34, 136), (153, 153, 51),
)  # fmt: skip

# OpenCV draws at integer coordinates plus fractions of this many bits.
_SHIFT = 6


def class_palette(n: int) -> UInt8[np.ndarray, "n_plus_1 3"]:
    """Colours for ``n`` classes behind black for the background.

    The first ten are picked by hand; each further one is the colour of a fixed lattice that is
    farthest from all before it and from black and white. So ``class_palette(k)`` begins every
    larger palette: a class keeps its colour when classes are added.

    Args:
        n: How many classes, 0 to 255.

    Returns:
        ``uint8 [n + 1, 3]`` RGB, all rows distinct; row 0 is the background.

    Raises:
        InputError: ``n`` is outside 0..255.
    """
    if not 0 <= n <= 255:
        raise InputError(f"n is {n}; expected 0..255 classes, the indices a palette file can hold.")
    return _full_palette()[: n + 1].copy()


@lru_cache(maxsize=1)
def _full_palette() -> UInt8[np.ndarray, "256 3"]:
    levels = np.arange(0, 256, 32) + 15
    lattice = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen = [(0, 0, 0), *_HAND_PICKED]
    nearest = np.min([_redmean(lattice, np.array(c)) for c in (*chosen, _BRIGHT)], axis=0)
    while len(chosen) < 256:
        red, green, blue = (int(v) for v in lattice[np.argmax(nearest)])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _redmean(lattice, np.array(chosen[-1])))
    return np.array(chosen, np.uint8)


def _redmean(colours: Int[np.ndarray, "n 3"], other: _Colour) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A squared perceptual distance of RGB colours, in integers and so equal on every machine."""
    red = (colours[:, 0] + other[0]) // 2
    dr, dg, db = ((colours - other) ** 2).T
    return ((512 + red) * dr >> 8) + 4 * dg + ((767 - red) * db >> 8)


def overlay_labels(
    image: Image,
    labels: IndexedMask,
    palette: UInt8[np.ndarray, "n 3"],
    *,
    alpha: float = 0.45,
    outline: int | None = None,
) -> Image:
    """Tints every class with its colour and outlines it; background (0) is left as it is.

    Inside a class a pixel becomes ``(1 - alpha) * image + alpha * colour``, rounded.

    Args:
        image: ``uint8 [H, W, 3]``.
        labels: ``uint8 [H, W]``, indices into ``palette``.
        palette: ``uint8 [n, 3]`` RGB, for instance from ``class_palette``.
        alpha: Strength of the tint, 0 to 1.
        outline: Width of the outline in pixels, before antialiasing widens it by about one on each
            side; 0 for none, by default about 1/250 of the image's shorter side.

    Returns:
        A new picture, ``uint8 [H, W, 3]``.

    Raises:
        InputError: Sizes differ, a label has no colour, or ``alpha`` is outside 0..1.
    """
    check_image("image", image)
    check_shape("labels", labels, image.shape[:2], "H, W of the image")
    if labels.dtype != np.uint8:
        raise InputError(f"labels are {labels.dtype}; expected uint8 class indices.")
    _check_palette(palette)
    _check_alpha(alpha)
    present = [int(k) for k in np.flatnonzero(np.bincount(labels.ravel())) if k]
    if present and present[-1] >= len(palette):
        raise InputError(
            f"labels hold index {present[-1]} but palette has {len(palette)} colours; "
            "expected a colour for every index (class_palette makes one)."
        )
    tinted = cv2.addWeighted(palette[labels], alpha, image, 1.0 - alpha, 0)
    result = np.where(labels[:, :, None] > 0, tinted, image)
    width = _line_width(image) if outline is None else outline
    if width > 0:
        _outline(result, [(labels == k, palette[k]) for k in present], width)
    return result


def overlay_uncertainty(image: Image, values: Map, *, least: float = 0.1) -> Image:
    """Hatches a picture where something is uncertain: the more so, the stronger the hatching.

    Diagonal lines, light and dark by turns so that they read on any ground, have the opacity ``values``.
    Below ``least`` there are none, so that the rims of masks, where a little doubt is usual, stay clear.

    Args:
        image: ``uint8 [H, W, 3]``, for instance from :func:`overlay_labels`.
        values: ``[H, W]`` in 0..1.
        least: Where hatching begins, 0 to 1.

    Returns:
        A new picture, ``uint8 [H, W, 3]``.

    Raises:
        InputError: Sizes differ, or a value is outside 0..1.
    """
    check_image("image", image)
    check_shape("values", values, image.shape[:2], "H, W of the image")
    check_finite("values", values, "replace them before drawing.")
    if values.size and not (values.min() >= 0 and values.max() <= 1 and 0 <= least <= 1):
        raise InputError(
            f"values lie in {values.min():g}..{values.max():g} and least is {least}; expected all in 0..1."
        )
    width = _line_width(image)
    place = np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])) % (8 * width)
    opacity = np.where(values >= least, values, 0).astype(np.float32)
    result = image.copy()
    for first, ink in ((0, _BRIGHT), (width, _DARK)):
        line = (place >= first) & (place < first + width) & (opacity > 0)
        share = opacity[line][:, None]
        result[line] = np.rint((1 - share) * image[line] + share * np.array(ink)).astype(np.uint8)
    return result


def overlay_strokes(
    image: Image,
    foreground: Mask,
    background: Mask | None,
    colour: _Colour,
) -> Image:
    """Shows a reference's annotation: foreground strokes in ``colour``, background strokes in dark grey.

    Args:
        image: ``uint8 [H, W, 3]``.
        foreground: ``bool [H, W]``, painted as object.
        background: ``bool [H, W]``, painted as not object, or None.
        colour: RGB of the foreground, for instance ``class_palette(1)[1]``.

    Raises:
        InputError: A mask is not ``bool`` of the image's size.
    """
    check_image("image", image)
    check_mask("foreground", foreground, image.shape[:2])
    strokes = [(foreground, colour)]
    if background is not None:
        check_mask("background", background, image.shape[:2])
        strokes.insert(0, (background, _GREY))
    result = image.copy()
    # A halo is its stroke's outline; the strokes then lie upon all halos.
    for mask, ink in strokes:
        width = 1 + 2 * _line_width(image)
        cv2.drawContours(result, _contours(mask), -1, _opposite(ink), width, cv2.LINE_AA)
    for mask, ink in strokes:
        result[mask] = ink
    return result


def overlay_points(
    image: Image,
    points: Float[np.ndarray, "N 2"],
    groups: Sequence[int] | np.ndarray[Any, np.dtype[Any]] | None,
    palette: UInt8[np.ndarray, "n 3"],
) -> Image:
    """Marks points with discs, coloured by group.

    Args:
        image: ``uint8 [H, W, 3]``.
        points: ``[N, 2]`` as ``(x, y)`` in pixels, centres at ``+0.5``; what lies outside is cut.
        groups: Integers ``[N]`` from 0, such as clusters; group ``g`` has colour ``1 + g``, and
            colours recur when they run out. None is one group.
        palette: ``uint8 [n, 3]`` with at least 2 rows; row 0, the background's, is not used.

    Raises:
        InputError: Wrong shapes, points that are not finite, or negative groups.
    """
    check_image("image", image)
    check_shape("points", points, (None, 2), "N, (x, y)")
    check_finite("points", points, "drop those points.")
    _check_palette(palette)
    if groups is None:
        groups = np.zeros(len(points), np.int64)
    groups = np.asarray(groups)
    check_shape("groups", groups, (len(points),), "one group per point")
    if len(palette) < 2 or (groups < 0).any():
        raise InputError("groups must not be negative and palette needs 2 rows; row 0 is the background's.")
    result = image.copy()
    radius = 3 * _line_width(image) + 1
    for (x, y), group in zip(np.asarray(points, np.float64), groups, strict=True):
        colour = palette[1 + int(group) % (len(palette) - 1)]
        # OpenCV has pixel centres at integers. The clip keeps far points within its integers.
        centre = [round(float(np.clip(v - 0.5, -9999, 99999)) * 2**_SHIFT) for v in (x, y)]
        for size, ink in ((radius + 1, _opposite(colour)), (radius, colour)):
            cv2.circle(result, centre, size << _SHIFT, [int(v) for v in ink], cv2.FILLED, cv2.LINE_AA, _SHIFT)
    return result


def heat_map(values: Map, *, image: Image | None = None, alpha: float = 0.6) -> Image:
    """Shows a map in Viridis colours, dark violet for its smallest value to yellow for its largest.

    The map is scaled by its own range; a constant map is shown as its smallest value throughout.

    Args:
        values: Finite ``[H, W]``.
        image: A picture to lay the map over; the map is resized to it.
        alpha: Share of the map over ``image``, 0 to 1.

    Returns:
        ``uint8 [H, W, 3]``, of the size of ``image`` if there is one.

    Raises:
        InputError: ``values`` are not a finite, non-empty ``[H, W]``, or ``alpha`` is outside 0..1.
    """
    check_rank("values", values, 2, "[H, W]")
    check_finite("values", values, "replace them before drawing.")
    if values.size == 0:
        raise InputError(f"values have shape {list(values.shape)}; expected at least one pixel.")
    _check_alpha(alpha)
    if image is not None:
        check_image("image", image)
        values = resize_map(values, image.shape[:2])
    low, high = float(values.min()), float(values.max())
    span = high - low if high > low else 1.0
    levels = np.rint((np.asarray(values, np.float64) - low) / span * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    if image is None:
        return colours
    return np.rint(alpha * colours + (1.0 - alpha) * image).astype(np.uint8)


def _outline(canvas: Image, regions: list[tuple[Mask, Any]], width: int) -> None:
    """Draws every region's rim into ``canvas``: all halos first, so that none covers a neighbour's rim."""
    rims = [(_contours(mask), colour) for mask, colour in regions]
    halo = max(1, width // 2)
    for contours, colour in rims:
        cv2.drawContours(canvas, contours, -1, _opposite(colour), width + 2 * halo, cv2.LINE_AA)
    for contours, colour in rims:
        cv2.drawContours(canvas, contours, -1, [int(v) for v in colour], width, cv2.LINE_AA)


def _contours(mask: Mask) -> Any:
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]


def _opposite(colour: Any) -> tuple[int, int, int]:
    """Dark for a bright colour, bright for a dark one, by Rec. 601 luma."""
    luma = float(np.dot(np.asarray(colour, np.float64), (0.299, 0.587, 0.114)))
    return _DARK if luma > 100 else _BRIGHT


def _line_width(image: Image) -> int:
    return max(1, round(min(image.shape[:2]) / 250))


def _check_palette(palette: Any) -> None:
    check_shape("palette", palette, (None, 3), "n, RGB")
    if palette.dtype != np.uint8:
        raise InputError(f"palette is {palette.dtype}; expected uint8 (class_palette makes one).")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; expected 0 (image only) to 1 (overlay only).")
