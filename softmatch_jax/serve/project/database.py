"""Opening the database of a project."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.project.failing import sentence, writing
from softmatch_jax.serve.project.schema import MIGRATIONS, check_version, migrate

FILE = "project.sqlite3"
_BUSY = 10.0  # seconds


def make_folder(folder: Path) -> None:
    """Makes the folder of a project where it is missing.

    Raises:
        InputError: There is a file of that name, or it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; expected the folder of a project.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def open_to_write(folder: Path) -> sqlite3.Connection:
    """Opens the database, making it or bringing it up to date where needed; a commit is on the disk.

    Raises:
        InputError: It is damaged, newer, of another program, or cannot be written.
    """
    path = folder / FILE
    with writing(folder):
        connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            check_version(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(folder: Path) -> sqlite3.Connection:
    """Opens the database to read, also beside a writer.

    Raises:
        NotFoundError: There is none.
        InputError: It is damaged, of another program, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise NotFoundError(f"There is no project in {folder}; expected a folder that holds {FILE}.")
    query = "mode=ro" + ("&immutable=1" if _cannot_change(folder) else "")
    uri = f"file:{quote(str(path.absolute()))}?{query}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        version = check_version(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise sentence(error, folder) from error
    except BaseException:
        connection.close()
        raise
    if version < len(MIGRATIONS):
        connection.close()
        raise InputError(
            f"{path} is of version {version}, made by an older softmatch; open it once with "
            "`softmatch serve`, which brings it up to date."
        )
    return connection


def _cannot_change(folder: Path) -> bool:
    """Whether the folder is read-only and complete, so that SQLite needs no file beside the database."""
    wal = folder / f"{FILE}-wal"
    return not os.access(folder, os.W_OK) and not (wal.exists() and wal.stat().st_size)
