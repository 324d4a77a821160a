"""From a path to a decoded, upright Pillow image, or to one sentence saying why not.

Pillow's plugins are called directly instead of through ``PIL.Image.open``: that function compares
every header with a process-wide pixel limit and warns or raises by it, so a caller could neither
raise the limit for one file nor do so in a thread without changing it for all the others.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypeAlias

import PIL.Image
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Size

PathLike: TypeAlias = str | os.PathLike[str]

# Decoding and converting hold up to about 20 bytes per pixel at their peak, so this is 2 GB: room
# for a medium-format camera, too little for a forged header to exhaust a server.
DEFAULT_MAX_PIXELS = 100_000_000

# MPO is the JPEG with embedded previews that phones write; Pillow opens it as a JPEG.
IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp"})
"""File name endings, in lower case, to look for when a folder is listed."""

_Factory: TypeAlias = Callable[[IO[bytes], str], ImageFile]

# The first bytes decide, never the suffix: files are renamed more often than converted.
_FACTORIES: dict[bytes, _Factory] = {
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
} | dict.fromkeys(TiffImagePlugin.PREFIXES, TiffImagePlugin.TiffImageFile)

# Only to name the format in the refusal: (offset, signature, name).
_REFUSED = (
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIC"),
    (128, b"DICM", "DICOM"),
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def load_upright(path: PathLike, max_pixels: int) -> PIL.Image.Image:
    """Decodes the first frame of ``path`` and turns it upright by its EXIF orientation.

    Returns:
        A loaded Pillow image in the file's own mode; ``format`` is one of ``IMAGE_FORMATS``.

    Raises:
        InputError: The file cannot be opened, is no image of a known format, is damaged, or has
            more than ``max_pixels`` pixels; the last is found before any pixel is decoded.
    """
    with _opened(path, max_pixels) as image:
        with _sentences(path):
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                _spare_pillows_limit(image)
            image.load()
        # Pillow itself turns a TIFF when it loads it, and takes the orientation away.
        method = _UPRIGHT.get(_orientation(image))
        if method is None:
            return image
        upright = image.transpose(method)
        upright.format = image.format
        return upright


def upright_size(path: PathLike, max_pixels: int) -> Size:
    """The ``(height, width)`` of the upright ``path``, from its header; raises as ``load_upright``."""
    with _opened(path, max_pixels) as image:
        width, height = image.size
        # The header of a TIFF is already read in upright order.
        turned = image.format != "TIFF" and _orientation(image) >= 5
        return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: PathLike, max_pixels: int) -> Iterator[ImageFile]:
    """The image with its header read and its size checked; the file is open inside the block."""
    check_positive("max_pixels", max_pixels)
    _check_file(path)
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below; only the opening is guarded)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the file's permissions.") from None
    with file:
        factory = _factory(path, file.read(144))
        file.seek(0)
        with _sentences(path):
            image = factory(file, "")
        width, height = image.size
        if width * height > max_pixels:
            raise InputError(
                f"{path} has {width}x{height} = {width * height:,} pixels, more than the limit of "
                f"{max_pixels:,}; shrink it, or raise the limit (max_pixels, --max-pixels)."
            )
        yield image


def _check_file(path: PathLike) -> None:
    """Raises ``InputError`` unless ``path`` is a regular file with content."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist; check the spelling and the folder.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); check its name and permissions.") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder; expected an image file.")
    if not stat.S_ISREG(status.st_mode):
        # Opening a named pipe would wait for ever.
        raise InputError(f"{path} is not a regular file; expected an image file.")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again.")


def _factory(path: PathLike, head: bytes) -> _Factory:
    """The Pillow plugin for a file that begins with ``head``."""
    for signature, factory in _FACTORIES.items():
        if head.startswith(signature):
            return factory
    expected = "expected JPEG, PNG, TIFF, WebP or BMP"
    for offset, signature, name in _REFUSED:
        if head[offset:].startswith(signature):
            raise InputError(
                f"{path} is a {name} file, which is not supported; {expected} (convert it to PNG)."
            )
    raise InputError(f"{path} is not an image file that can be read; {expected}.")


@contextmanager
def _sentences(path: PathLike) -> Iterator[None]:
    """Turns whatever a decoder raises into one ``InputError`` that names ``path``."""
    try:
        yield
    except MemoryError:
        raise
    except PIL.Image.DecompressionBombError:
        # Only WebP comes here: its plugin asks Pillow's own limit before it gives the size.
        raise InputError(
            f"{path} has more pixels than Pillow decodes in this format; convert it to PNG or shrink it."
        ) from None
    except Exception as error:
        # Decoders answer damaged bytes with nearly any exception: OSError, SyntaxError, KeyError,
        # struct.error, zlib.error and more. None of them is a fault of ours.
        raise InputError(f"{path} is damaged or cut short ({error}); copy or export it again.") from error


def _spare_pillows_limit(image: TiffImagePlugin.TiffImageFile) -> None:
    """Gives a TIFF its pixel memory now; allocating it later asks Pillow's process-wide limit."""
    stored = (image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH])
    image.im = PIL.Image.new(image.mode, stored).im


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation 1..8; 1 where there is none that can be read."""
    try:
        if isinstance(image, PngImagePlugin.PngImageFile) and not _ends_in_metadata(image):
            # Pillow's PNG plugin decodes the pixels in search of late metadata; there is none.
            exif = PIL.Image.Image.getexif(image)
        else:
            exif = image.getexif()
        return int(exif.get(_ORIENTATION_TAG, 1))
    except Exception:
        # A broken EXIF block does not spoil the pixels: every viewer shows them as stored.
        return 1


def _ends_in_metadata(image: PngImagePlugin.PngImageFile) -> bool:
    """Whether a PNG has text or EXIF chunks behind its pixels, where some writers put the orientation."""
    file = image.fp
    if file is None:
        return False  # Loaded: all chunks have been read.
    position = file.tell()
    try:
        file.seek(8)
        seen_pixels = False
        while len(head := file.read(8)) == 8:
            kind = head[4:]
            seen_pixels = seen_pixels or kind == b"IDAT"
            if seen_pixels and kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(position)
