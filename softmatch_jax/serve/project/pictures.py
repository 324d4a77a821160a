"""The pictures of a project as files named by the SHA-256 of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import atomic_write_bytes, fit_longest, image_size, read_image, resize_image
from softmatch_jax.serve.project.documents import Digest
from softmatch_jax.serve.project.errors import NotFoundError, TooLargeError
from softmatch_jax.serve.project.failing import writing

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_LIMIT = 2**62
_STALE = 24 * 3600  # seconds; an upload that old was cut off together with the server
_SIDES = (16, 4096)


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A picture that is on the disk; width and height are those of the upright picture, size is in bytes."""

    digest: Digest
    width: int
    height: int
    size: int


class Pictures:
    """The pictures of the project in ``folder``.

    Args:
        folder: The project's.
        max_bytes: Largest file that is taken.
        max_pixels: Largest picture that is taken, by its header.
    """

    def __init__(self, folder: Path, *, max_bytes: float = 50e6, max_pixels: float = 64e6) -> None:
        self.folder = Path(folder)
        self.max_bytes = int(max_bytes)
        self.max_pixels = int(max_pixels)
        self._remove_stale()

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Takes a picture piece by piece; unless it is finished inside the block, nothing of it stays."""
        folder = self.folder / "images" / "incoming"
        temporary = folder / secrets.token_hex(16)
        with writing(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "xb")  # noqa: SIM115  (closed by Incoming)
        incoming = Incoming(self, temporary, file)
        try:
            yield incoming
        finally:
            incoming.close()

    def path(self, digest: Digest) -> Path:
        """The file of a picture; raises ``NotFoundError`` where it is missing."""
        path = picture_path(self.folder, digest) if _DIGEST.fullmatch(digest) else None
        if path is None or not path.is_file():
            raise NotFoundError(
                f"The file images/{digest[:2]}/{digest[:64]} is missing in the project's folder; put it "
                "back, or take the picture out of the project."
            )
        return path

    def preview(self, digest: Digest, side: int) -> bytes:
        """A JPEG of the upright picture, its longer side at most ``side`` pixels; made once, then cached.

        Raises:
            NotFoundError: The picture's file is missing.
            InputError: It can no longer be read, or ``side`` is outside 16..4096.
        """
        if not _SIDES[0] <= side <= _SIDES[1]:
            raise InputError(f"side is {side}; expected {_SIDES[0]} to {_SIDES[1]} pixels.")
        path = self.path(digest)
        cached = self.folder / "cache" / "previews" / digest[:2] / f"{digest}-{side}.jpg"
        with contextlib.suppress(OSError):
            return cached.read_bytes()
        try:
            image = read_image(path, max_pixels=self.max_pixels)
        except InputError as error:
            raise InputError(str(error).replace(str(path), "The picture's file")) from error
        size = fit_longest((image.shape[0], image.shape[1]), side)
        if max(image.shape[:2]) > side:
            image = resize_image(image, size)
        buffer = io.BytesIO()
        PIL.Image.fromarray(image).save(buffer, "JPEG", quality=87)
        # A preview that cannot be cached is still one.
        with contextlib.suppress(OSError, InputError):
            cached.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(cached, buffer.getvalue())
        return buffer.getvalue()

    def _remove_stale(self) -> None:
        """Removes what uploads left behind that a crash cut off."""
        with contextlib.suppress(OSError):
            for path in (self.folder / "images" / "incoming").iterdir():
                if path.stat().st_mtime < time.time() - _STALE:
                    path.unlink()


class Incoming:
    """A picture on its way in."""

    def __init__(self, pictures: Pictures, temporary: Path, file: io.BufferedWriter) -> None:
        self._pictures = pictures
        self._temporary = temporary
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes.

        Raises:
            TooLargeError: The file is larger than is taken.
            FullDiskError: There is no room for it.
        """
        self._size += len(chunk)
        if self._size > self._pictures.max_bytes:
            raise TooLargeError(
                f"The picture is larger than {self._pictures.max_bytes / 1e6:g} MB, the most that is taken; "
                "shrink it, or save it as JPEG."
            )
        self._hash.update(chunk)
        with writing(self._pictures.folder):
            self._file.write(chunk)

    def finish(self) -> StoredPicture:
        """Checks that it is a picture that can be read, and keeps it.

        Raises:
            TooLargeError: It has too many pixels.
            InputError: It is no picture of a known format, or damaged.
            FullDiskError: There is no room for it.
        """
        with writing(self._pictures.folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        height, width = self._checked_size()
        digest = self._hash.hexdigest()
        target = picture_path(self._pictures.folder, digest)
        with writing(self._pictures.folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._temporary, target)
            _sync_folder(target.parent)
        return StoredPicture(digest=digest, width=width, height=height, size=self._size)

    def close(self) -> None:
        """Removes what was not finished."""
        # Closing writes what is buffered, which a full disk refuses once more.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _checked_size(self) -> tuple[int, int]:
        """``(height, width)`` of the upright picture, after decoding it once."""
        try:
            height, width = image_size(self._temporary, max_pixels=_NO_LIMIT)
            if height * width > self._pictures.max_pixels:
                raise TooLargeError(
                    f"The picture has {width}x{height} = {height * width:,} pixels, more than the "
                    f"{self._pictures.max_pixels:,} that are taken; shrink it."
                )
            height, width = read_image(self._temporary, max_pixels=self._pictures.max_pixels).shape[:2]
        except TooLargeError:
            raise
        except InputError as error:
            raise InputError(str(error).replace(str(self._temporary), "The picture")) from error
        return height, width


def picture_path(folder: Path, digest: Digest) -> Path:
    """Where a project keeps the file of a picture, whether it is there or not."""
    return folder / "images" / digest[:2] / digest


def _sync_folder(folder: Path) -> None:
    """Puts a folder's list of files on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
