"""Rasters and match maps in the database, under the SHA-256 of their bytes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from softmatch_jax.serve.project.connections import Connections
from softmatch_jax.serve.project.documents import Digest
from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.project.failing import sentence
from softmatch_jax.serve.project.rasters import digest_of

Table: TypeAlias = Literal["rasters", "heats"]


class Blobs:
    """Blobs of a project; reading has a connection of its own, so that it never waits for a commit."""

    def __init__(self, connections: Connections) -> None:
        self._folder = connections.folder
        self._writer = connections.main
        self._reader = connections.reader
        self._lock = threading.Lock()

    def insert(self, table: Table, data: bytes) -> Digest:
        """Writes a blob, unless it is there; inside a transaction."""
        digest = digest_of(data)
        self._writer.execute(f"INSERT OR IGNORE INTO {table} (digest, body) VALUES (?, ?)", (digest, data))
        return digest

    def read(self, table: Table, digest: Digest) -> bytes:
        """A blob that was committed; raises ``NotFoundError`` where there is none."""
        found = self._first(f"SELECT body FROM {table} WHERE digest = ?", digest)
        if found is None:
            name = "raster" if table == "rasters" else "match map"
            raise NotFoundError(f"There is no {name} {digest[:64]} in the project; ask for the state again.")
        return bytes(found)

    def has(self, table: Table, digest: Digest) -> bool:
        """Whether a blob was committed."""
        return self._first(f"SELECT 1 FROM {table} WHERE digest = ?", digest) is not None

    def keep(self, rasters: Iterable[Digest]) -> None:
        """Marks rasters that a person's change names: undoing may show them again at any time."""
        self._writer.executemany(
            "UPDATE rasters SET kept = 1 WHERE digest = ? AND kept = 0", [(digest,) for digest in rasters]
        )

    def sweep(self, rasters: Iterable[Digest], heats: Iterable[Digest]) -> None:
        """Removes all but the kept ones and those given: what was derived and replaced is not missed."""
        self._writer.execute("CREATE TEMP TABLE IF NOT EXISTS used (digest TEXT PRIMARY KEY)")
        for table, used in (("rasters", rasters), ("heats", heats)):
            self._writer.execute("DELETE FROM used")
            self._writer.executemany("INSERT OR IGNORE INTO used VALUES (?)", [(digest,) for digest in used])
            unkept = "kept = 0 AND" if table == "rasters" else ""
            self._writer.execute(
                f"DELETE FROM {table} WHERE {unkept} digest NOT IN (SELECT digest FROM used)"
            )

    def _first(self, query: str, digest: Digest) -> Any:
        with self._lock:
            try:
                row = self._reader.execute(query, (digest,)).fetchone()
            except sqlite3.Error as error:
                raise sentence(error, self._folder) from error
        return None if row is None else row[0]
