"""Images, masks, label maps and paintings from files, turned upright, in the package's array types.

Formats: JPEG (and MPO), PNG, TIFF, WebP, BMP; of several frames or pages the first. Colour
profiles are ignored: values are taken as sRGB. A file that cannot be read raises ``InputError``
with its path and the cure; nothing is repaired silently.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, IndexedMask, Mask, Size
from softmatch_jax.imaging.opening import DEFAULT_MAX_PIXELS, PathLike, load_upright, upright_size

_BITS_PER_SAMPLE_TAG = 258
# Masks that went through a colour conversion or compression have channels a level or two apart.
_GREY_TOLERANCE = 8
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def read_image(path: PathLike, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image:
    """Reads a picture as RGB.

    Transparent pixels are laid over white, the page on which cut-outs are made to be seen; the
    colour stored beneath full transparency is arbitrary. Grey of more than 8 bits is scaled by the
    range of its type, never by its content, so that the pictures of a series stay comparable:
    12 and 16 bits by 4095 and 65535, 32-bit integers (which must lie in 0..65535) as 16 bits, and
    floats (which must lie in 0..1) by 1.

    Args:
        path: The file.
        max_pixels: Refuse larger pictures, by their header and before any memory is taken.

    Returns:
        ``uint8 [H, W, 3]``, upright by the EXIF orientation; a fresh, writable array.

    Raises:
        InputError: The file is missing, unreadable, damaged, of another format or too large, or
            its values lie outside the range given above.
    """
    image = load_upright(path, max_pixels)
    if image.mode in _WIDE_MODES:
        grey = _eight_bits(path, image)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, _rgba(image))
    return np.array(image.convert("RGB"))


def image_size(path: PathLike, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Size:
    """The ``(height, width)`` that ``read_image`` would return, from the file's header alone.

    Raises:
        InputError: As ``read_image``, except for damage behind the header.
    """
    return upright_size(path, max_pixels)


def read_mask(path: PathLike, *, threshold: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS) -> Mask:
    """Reads a binary mask.

    The values are palette indices where the file has a palette, else grey levels (1 bit counts as
    0 and 255). A palette of which just black and white are used counts as grey, because image
    optimisers reorder palettes. Without a threshold the file must hold at most two values, of
    which the larger is the object; a file of one value is all object, or empty if that value is
    0. Whether an empty or full mask makes sense is for the caller to say.

    Args:
        path: The file.
        threshold: Values from this one on are object; in the file's own units.
        max_pixels: As in ``read_image``.

    Returns:
        ``bool [H, W]``, upright by the EXIF orientation.

    Raises:
        InputError: As ``read_image``; or the file is coloured or partly transparent, or holds more
            than two values and no threshold was given; or the threshold lies above all values of a
            file that is not all 0.
    """
    if threshold is not None and threshold < 1:
        raise InputError(f"threshold is {threshold}; expected at least 1, else every pixel is object.")
    image = load_upright(path, max_pixels)
    if image.mode == "1" or _is_black_and_white_palette(image):
        image = image.convert("L")
    values = _plain_values(path, image, "mask", tolerance=_GREY_TOLERANCE)
    low, high = values.min(), values.max()
    if threshold is not None:
        if 0 < high < threshold:
            # Such as 128 on a file of 0 and 1: an empty mask would hide the mistake.
            raise InputError(
                f"{path} holds values from {low} to {high}, all below the threshold {threshold}; lower it, "
                "or leave it out if the file has two values."
            )
        return values >= threshold
    if not np.all((values == low) | (values == high)):
        raise InputError(
            f"{path} holds {np.unique(values).size} distinct values, from {low} to {high}, but a mask has "
            "two; give the smallest value that is object (threshold, for instance --mask-threshold 128)."
        )
    return values == high if low != high else np.full(values.shape, high != 0)


def read_labels(path: PathLike, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> IndexedMask:
    """Reads a class index for every pixel: palette indices, or grey levels as they stand.

    Returns:
        ``uint8 [H, W]``, upright by the EXIF orientation; a 1-bit file gives 0 and 1.

    Raises:
        InputError: As ``read_image``; or the file is a JPEG (its compression invents values),
            coloured, partly transparent, or holds values that are not integers in 0..255.
    """
    image = load_upright(path, max_pixels)
    if image.format in ("JPEG", "MPO"):
        raise InputError(
            f"{path} is a JPEG, whose compression blurs class indices; export the labels as PNG."
        )
    values = _plain_values(path, image, "label map")
    if values.min() < 0 or values.max() > 255 or not np.array_equal(values, np.floor(values)):
        raise InputError(
            f"{path} holds values from {values.min()} to {values.max()}; expected class indices, integers "
            "in 0..255 (export an 8-bit palette or grey PNG)."
        )
    return values.astype(np.uint8)


def read_painting(
    path: PathLike, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Reads a picture on which scribbles were painted, with its transparency.

    Returns:
        ``uint8 [H, W, 4]`` RGBA, not premultiplied, upright by the EXIF orientation. Alpha 0 is
        unpainted; a file without transparency is 255 everywhere.

    Raises:
        InputError: As ``read_image``.
    """
    image = load_upright(path, max_pixels)
    if image.mode in _WIDE_MODES:
        image = PIL.Image.fromarray(_eight_bits(path, image))
    return np.array(_rgba(image))


def _rgba(image: PIL.Image.Image) -> PIL.Image.Image:
    """``image`` in mode RGBA; Pillow reaches it from some modes only by way of another."""
    if image.mode == "La":
        image = image.convert("LA")
    elif not image.has_transparency_data:
        image = image.convert("RGB")
    return image.convert("RGBA")


def _eight_bits(path: PathLike, image: PIL.Image.Image) -> IndexedMask:
    """The grey levels of a picture of more than 8 bits, rounded to 8; see ``read_image``."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"{path} holds floats from {values.min():g} to {values.max():g}; expected finite values in "
                "0..1 (scale them, or export 8 or 16 bits)."
            )
        return (values * 255 + 0.5).astype(np.uint8)
    full = _full_scale(image)
    if values.min() < 0 or values.max() > full:
        raise InputError(
            f"{path} holds integers from {values.min()} to {values.max()}; expected 0..{full} "
            "(export 8 or 16 bits)."
        )
    return ((values.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)


def _full_scale(image: PIL.Image.Image) -> int:
    """The value of white: 4095 where a TIFF says that it stores 12 bits, else 65535."""
    tags = getattr(image, "tag_v2", {})
    return 4095 if tags.get(_BITS_PER_SAMPLE_TAG) == (12,) else 65535


def _is_black_and_white_palette(image: PIL.Image.Image) -> bool:
    """Whether exactly two palette entries are used, one pure black and one pure white."""
    if image.mode != "P":
        return False
    indices = np.asarray(image)
    low, high = int(indices.min()), int(indices.max())
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if low == high or high >= len(palette) or not np.all((indices == low) | (indices == high)):
        return False
    return sorted(palette[[low, high]].tolist()) == [[0, 0, 0], [255, 255, 255]]


def _plain_values(
    path: PathLike, image: PIL.Image.Image, kind: str, *, tolerance: int = 0
) -> np.ndarray[Any, Any]:
    """One number per pixel ``[H, W]``: palette index or grey level (the red one of nearly equal channels).

    Args:
        path: For the messages, as is ``kind``.
        image: Decoded, in any mode.
        kind: What the file is meant to be.
        tolerance: By how much the channels may differ and still count as grey.
    """
    if image.mode in ("P", "PA", *_WIDE_MODES):
        values = np.asarray(image.getchannel("P") if image.mode == "PA" else image)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"{path} holds NaN or infinite values; a {kind} needs finite ones.")
        return values
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if "A" in image.getbands() or "a" in image.getbands():
        image = _rgba(image)
        if image.getchannel("A").getextrema() != (255, 255):
            raise InputError(
                f"{path} is partly transparent, so its colour or its transparency could be the {kind}; "
                "export it without transparency."
            )
    if image.mode == "L":
        return np.asarray(image)
    rgb = np.asarray(image.convert("RGB"))
    grey = rgb[:, :, 0]
    apart = max(int(cv2.absdiff(grey, rgb[:, :, k]).max()) for k in (1, 2))
    if apart > tolerance:
        raise InputError(
            f"{path} is coloured; expected a {kind} in grey levels or with a palette (a picture with "
            "strokes painted on it is given as scribbles instead)."
        )
    return grey
