"""Files written whole or not at all: a reader never meets half an image, nor a crash a lost one."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError, check_finite, check_image, check_rank
from softmatch_jax._types import Image, IndexedMask, Map
from softmatch_jax.imaging.opening import PathLike

MAP_SCALE = 65535
"""The grey level that ``write_map`` gives to 1: a reader divides by it."""


def atomic_write_bytes(path: PathLike, data: bytes) -> None:
    """Writes ``data`` to ``path`` in one step: complete and on the disk, or not at all.

    A temporary file in the same folder is written, synced, and renamed over ``path``; where
    ``path`` is a symbolic link, the file it points to is replaced.

    Raises:
        InputError: The folder is missing or not writable, ``path`` is a folder, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write.")
    # Opened by hand, not by tempfile, whose files only their owner may read.
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except FileNotFoundError:
        raise InputError(
            f"{path} cannot be written: its folder does not exist; make the folder first."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); check the folder's permissions and free space."
        ) from None


def atomic_write_text(path: PathLike, text: str) -> None:
    """Writes ``text`` as UTF-8 with its line ends as they are; see ``atomic_write_bytes``."""
    atomic_write_bytes(path, text.encode("utf-8"))


def write_image(path: PathLike, image: Image) -> None:
    """Writes an RGB picture; the suffix decides between PNG and JPEG (quality 95, no colour subsampling).

    Raises:
        InputError: Another suffix; not ``uint8 [H, W, 3]``; or the file cannot be written.
    """
    check_image("image", image)
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        data = _encoded(PIL.Image.fromarray(image), "PNG")
    elif suffix in (".jpg", ".jpeg"):
        data = _encoded(PIL.Image.fromarray(image), "JPEG", quality=95, subsampling=0)
    else:
        raise InputError(f"{path} ends in {suffix!r}; expected .png, .jpg or .jpeg.")
    atomic_write_bytes(path, data)


def write_indexed_mask(path: PathLike, labels: IndexedMask, palette: np.ndarray[Any, Any]) -> None:
    """Writes class indices as an 8-bit palette PNG; ``read_labels`` gives them back exactly.

    Equal input gives equal bytes (with one version of Pillow).

    Args:
        path: A name ending in ``.png``.
        labels: ``uint8 [H, W]``.
        palette: ``uint8 [n, 3]`` RGB with ``labels < n <= 256``, such as from ``class_palette``.

    Raises:
        InputError: Another suffix, shape or type; a label without a colour; or the file cannot be
            written.
    """
    _check_png(path)
    check_rank("labels", labels, 2, "[H, W]")
    colours = np.asarray(palette)
    if (
        colours.ndim != 2
        or colours.shape[1] != 3
        or not 1 <= len(colours) <= 256
        or colours.dtype != np.uint8
    ):
        raise InputError(f"palette is {colours.dtype} {list(colours.shape)}; expected uint8 [1..256, 3].")
    if labels.dtype != np.uint8 or labels.size == 0 or labels.max() >= len(colours):
        raise InputError(
            f"labels are {labels.dtype} {list(labels.shape)} with a palette of {len(colours)} colours; "
            "expected non-empty uint8 with every index below that number."
        )
    image = PIL.Image.fromarray(labels)
    # Pillow packs a palette of up to 16 colours into 1, 2 or 4 bits, which some labelling tools
    # cannot read; black behind it keeps the file at 8.
    image.putpalette(colours.tobytes().ljust(3 * 256, b"\0"))
    atomic_write_bytes(path, _encoded(image, "PNG"))


def write_map(path: PathLike, values: Map) -> None:
    """Writes a map of values in ``[0, 1]`` as a 16-bit grey PNG: ``round(65535 * value)``.

    Sixteen bits keep what eight would merge, and every image program opens them; dividing by
    ``MAP_SCALE`` gives the values back to within ``1 / (2 * MAP_SCALE)``.

    Raises:
        InputError: Another suffix; not a non-empty ``[H, W]`` of finite values in ``[0, 1]``; or
            the file cannot be written.
    """
    _check_png(path)
    check_rank("map", values, 2, "[H, W]")
    check_finite("map", values, "replace them before writing.")
    if values.size == 0 or values.min() < 0 or values.max() > 1:
        span = f"values from {values.min():g} to {values.max():g}" if values.size else "no values"
        raise InputError(f"map holds {span}; expected values in [0, 1] (scale it first).")
    levels = np.rint(np.asarray(values, np.float64) * MAP_SCALE).astype(np.uint16)
    atomic_write_bytes(path, _encoded(PIL.Image.fromarray(levels), "PNG"))


def _check_png(path: PathLike) -> None:
    """Raises ``InputError`` unless ``path`` ends in ``.png``."""
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} ends in {Path(path).suffix!r}; expected .png, which keeps values exactly.")


def _encoded(image: PIL.Image.Image, file_format: str, **options: Any) -> bytes:
    """The bytes of ``image`` in ``file_format``."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
