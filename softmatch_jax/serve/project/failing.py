"""From what the disk or SQLite says to one sentence."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project.errors import FullDiskError, ReadOnlyError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Primary result codes, the low byte of what SQLite gives.
_DENIED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns failures to write in a project's folder into ``InputError`` of the kinds in `errors`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _full(folder) from error
        if error.errno in _FORBIDDEN:
            raise _read_only(folder) from error
        raise InputError(
            f"The project in {folder} cannot be written ({error.strerror}); check the folder."
        ) from error
    except sqlite3.Error as error:
        raise sentence(error, folder) from error


def sentence(error: sqlite3.Error, folder: Path) -> InputError:
    """What a failure of SQLite means."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return _full(folder)
    if code in _DENIED:
        return _read_only(folder)
    if code in _DAMAGED:
        return InputError(
            f"{folder / 'project.sqlite3'} is damaged or no project ({error}); restore it from a copy."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InputError(f"The project in {folder} is in use by another program; close that one first.")
    return InputError(f"The project in {folder} cannot be used ({error}); check the disk and the folder.")


def _full(folder: Path) -> FullDiskError:
    return FullDiskError(
        f"The disk is full, so nothing was changed in the project in {folder}; free some space and try again."
    )


def _read_only(folder: Path) -> ReadOnlyError:
    return ReadOnlyError(
        f"The project in {folder} cannot be written; check the folder's permissions, or copy it elsewhere."
    )
