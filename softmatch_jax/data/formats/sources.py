"""Where an import is read from: a folder or a zip file, neither of which is trusted."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import check_folder
from softmatch_jax.data.formats.names import check_inside

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        files: How many files.
        file_bytes: Bytes of one file, unpacked.
        total_bytes: Bytes of all together, unpacked.
        ratio: How many times a file of more than a mebibyte may shrink; run lengths and XML reach about 100.
    """

    files: int = 200_000
    file_bytes: int = 512 << 20
    total_bytes: int = 64 << 30
    ratio: float = 500


class Source(Protocol):
    """Files under relative names."""

    @property
    def title(self) -> str:
        """What it is called in messages."""

    @property
    def names(self) -> tuple[str, ...]:
        """All files, sorted, hidden ones left out."""

    def read(self, name: str) -> bytes:
        """The content of a file; raises ``InputError`` where it cannot be read or is too large."""

    def head(self, name: str, size: int) -> bytes:
        """The first ``size`` bytes of a file, or all; raises ``InputError`` where it cannot be read."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """A context in which the file lies on the disk at the path that it gives."""


class FolderSource:
    """A folder; links that lead out of it are refused."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        """Lists the folder; raises ``InputError`` if there is none, or as the limits say."""
        check_folder(folder)
        self._limits = limits or Limits()
        self._folder = folder
        self.title = str(folder)
        self.names = tuple(sorted(self._listed()))

    def _listed(self) -> Iterator[str]:
        root, count = Path(os.path.realpath(self._folder)), 0
        for place, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in [*files, *(name for name in folders if Path(place, name).is_symlink())]:
                path = Path(place, name)
                relative = path.relative_to(self._folder).as_posix()
                if _is_hidden(relative):
                    continue
                if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                    raise InputError(f"{path} is a link that leads out of {self.title}; expected a file.")
                if not path.is_file():
                    continue
                count += 1
                if count > self._limits.files:
                    raise InputError(f"{self.title} holds more than {self._limits.files:,} files; split it.")
                yield relative

    def read(self, name: str) -> bytes:
        """See :class:`Source`."""
        with self.local(name) as path:
            try:
                if path.stat().st_size > self._limits.file_bytes:
                    raise _too_large(self.title, name, self._limits)
                return path.read_bytes()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}); check the file.") from None

    def head(self, name: str, size: int) -> bytes:
        """See :class:`Source`."""
        with self.local(name) as path:
            try:
                with path.open("rb") as file:
                    return file.read(size)
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}); check the file.") from None

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See :class:`Source`."""
        yield self._folder / name


class ZipSource:
    """A zip file, of which nothing is unpacked but single files into a folder of its own.

    Used as a context, at whose end the file is closed.
    """

    def __init__(self, file: Path | IO[bytes], title: str, limits: Limits | None = None) -> None:
        """Reads the directory of the zip file.

        Args:
            file: Its path, or the open file.
            title: What it is called in messages.
            limits: See :class:`Limits`.

        Raises:
            InputError: It is no zip file; a name leads out of it or is there twice; it holds a link, an
                encrypted file or more than the limits allow.
        """
        self.title = title
        self._limits = limits or Limits()
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{title} is not a zip file that can be read ({error}); zip it again.") from None
        try:
            self._entries = self._checked()
        except BaseException:
            self._zip.close()
            raise
        self.names = tuple(sorted(name for name in self._entries if not _is_hidden(name)))

    def __enter__(self) -> ZipSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        infos = self._zip.infolist()
        if len(infos) > self._limits.files:
            raise InputError(f"{self.title} holds more than {self._limits.files:,} files; split it.")
        if sum(info.file_size for info in infos) > self._limits.total_bytes:
            raise InputError(
                f"{self.title} unpacks to more than {self._limits.total_bytes >> 20:,} MiB; split it."
            )
        for info in infos:
            name = check_inside(_decoded(info).removesuffix("/"), self.title)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{self.title} holds {name}, which is a link or no file; expected files.")
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise InputError(
                    f"{self.title} holds {name} encrypted; expected a zip file without password."
                )
            if info.file_size > self._limits.file_bytes:
                raise _too_large(self.title, name, self._limits)
            if info.file_size > _CHUNK and info.file_size > self._limits.ratio * max(info.compress_size, 1):
                raise InputError(
                    f"{self.title} holds {name}, which unpacks to more than {self._limits.ratio:g} times its "
                    "size; this looks like a decompression bomb and is not opened."
                )
            if name in entries:
                raise InputError(f"{self.title} holds {name} twice; expected each file once.")
            entries[name] = info
        return entries

    def _chunks(self, name: str, size: int = _CHUNK) -> Iterator[bytes]:
        """The content in pieces of ``size``; what is longer than it said is cut off with an error."""
        info, seen = self._entries[name], 0
        try:
            with self._zip.open(info) as file:
                while chunk := file.read(size):
                    seen += len(chunk)
                    if seen > info.file_size:
                        raise zipfile.BadZipFile("longer than its directory says")
                    yield chunk
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise InputError(f"{self.title}: {name} is damaged ({error}); zip or copy it again.") from None

    def read(self, name: str) -> bytes:
        """See :class:`Source`."""
        return b"".join(self._chunks(name))

    def head(self, name: str, size: int) -> bytes:
        """See :class:`Source`."""
        return next(self._chunks(name, size), b"")

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See :class:`Source`."""
        folder = Path(tempfile.mkdtemp(prefix="softmatch-"))
        try:
            path = folder / name.rpartition("/")[2]
            with path.open("wb") as file:
                for chunk in self._chunks(name):
                    file.write(chunk)
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_source(path: Path, limits: Limits | None = None) -> Iterator[FolderSource | ZipSource]:
    """Opens a folder or a zip file; raises ``InputError`` if it is neither."""
    if path.is_dir():
        yield FolderSource(path, limits)
    else:
        with ZipSource(path, str(path), limits) as source:
            yield source


def read_utf8(source: Source, name: str) -> str:
    """A text file; raises ``InputError`` if it is not UTF-8."""
    try:
        return source.read(name).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{source.title}: {name} is not text in UTF-8; save it in UTF-8.") from None


def read_json(source: Source, name: str) -> Any:
    """A JSON file; raises ``InputError`` if it is not valid, or holds NaN or infinity."""
    try:
        return json.loads(read_utf8(source, name), parse_constant=_refuse)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{source.title}: {name} is not valid JSON ({reason}); export it again.") from None


def _refuse(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no number")


def _decoded(info: zipfile.ZipInfo) -> str:
    """The name of an entry; many tools write UTF-8 without saying so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _too_large(title: str, name: str, limits: Limits) -> InputError:
    return InputError(f"{title} holds {name} of more than {limits.file_bytes >> 20:,} MiB; split it.")
