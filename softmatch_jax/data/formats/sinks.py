"""Where an export is written to: a folder, or a zip file that is streamed."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import make_folder
from softmatch_jax.data.formats.names import check_inside
from softmatch_jax.imaging import atomic_write_bytes

_CHUNK = 1 << 20
_PACKED_SUFFIXES = (".json", ".xml", ".txt", ".yaml")


class Sink(Protocol):
    """Takes files one after the other."""

    def write(self, name: str, data: bytes) -> None:
        """Writes a file under a relative name; raises ``InputError`` where that fails."""

    def copy(self, name: str, path: Path) -> None:
        """Writes a file of the disk under a relative name; raises ``InputError`` where that fails."""


class FolderSink:
    """Writes into a folder, each file at once or not at all."""

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        """Takes the folder.

        Args:
            folder: Made if it does not exist.
            overwrite: Write into it even when it holds something; files of the same names are replaced.

        Raises:
            InputError: It cannot be made, or holds something and ``overwrite`` is not set.
        """
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; expected a folder, or a name ending in .zip.")
        self.folder = make_folder(folder)
        if not overwrite and any(folder.iterdir()):
            raise InputError(
                f"The folder {folder} is not empty; expected a new one, or --overwrite to write into it."
            )

    def write(self, name: str, data: bytes) -> None:
        """See :class:`Sink`."""
        atomic_write_bytes(self._place(name), data)

    def copy(self, name: str, path: Path) -> None:
        """See :class:`Sink`."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from None
        atomic_write_bytes(self._place(name), data)

    def _place(self, name: str) -> Path:
        place = self.folder / check_inside(name, "The export")
        make_folder(place.parent)
        return place


class ZipSink:
    """Writes a zip file, equal bytes for equal files; ``stream`` need not be seekable.

    Used as a context, at whose end the directory of the zip file is written; after an error it is not, so
    that what was streamed cannot be taken for a whole one.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(_Forward(stream), "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> ZipSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._zip.close()
        else:
            # ZipFile writes the directory when it is closed or collected, unless it has no file to write to.
            self._zip.fp = None

    def write(self, name: str, data: bytes) -> None:
        """See :class:`Sink`."""
        info = self._info(name)
        packed = name.lower().endswith(_PACKED_SUFFIXES)
        info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        self._zip.writestr(info, data)

    def copy(self, name: str, path: Path) -> None:
        """See :class:`Sink`."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from None
        with file, self._zip.open(self._info(name), "w", force_zip64=True) as entry:
            shutil.copyfileobj(file, entry, _CHUNK)

    @staticmethod
    def _info(name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(check_inside(name, "The export"), (1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_STORED  # pictures are compressed already
        info.external_attr = 0o100644 << 16
        return info


class _Forward(io.RawIOBase):
    """Hides from ``ZipFile`` that a stream is seekable, so that every stream gets the same bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        payload = bytes(data)  # type: ignore[call-overload]
        self._stream.write(payload)
        return len(payload)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror}); expected the picture's file there.")
