"""The connections to a project's database: one that writes, under the folder's lock, and one that reads."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from softmatch_jax.serve.project.database import make_folder, open_to_read, open_to_write
from softmatch_jax.serve.project.errors import ReadOnlyError
from softmatch_jax.serve.project.failing import sentence, writing
from softmatch_jax.serve.project.locking import Lock


class Connections:
    """The connections to the project in a folder.

    Attributes:
        folder: The project's.
        main: Writes, or reads too where the project is open to read only; for one thread at a time.
        reader: For reading blobs while ``main`` commits; for one thread at a time.
        boot: Random name of this opening.

    Raises:
        InputError: As `Store.open`.
    """

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self.boot = secrets.token_hex(16)
        self._closed = False
        with ExitStack() as opened:
            if not read_only:
                make_folder(folder)
                opened.callback(Lock(folder).release)
            self.main = opened.enter_context(closing((open_to_read if read_only else open_to_write)(folder)))
            self.reader = opened.enter_context(closing(open_to_read(folder)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes both and gives the lock back."""
        self._closed = True
        self._opened.close()

    def check_writable(self) -> None:
        """Raises ``ReadOnlyError`` where nothing can be written any more."""
        if self._closed:
            raise ReadOnlyError(f"The project in {self.folder} is closed; open it again.")
        if self.read_only:
            raise ReadOnlyError(f"The project in {self.folder} is open to read only; open it to write.")

    @contextmanager
    def transaction(self, *, relaxed: bool = False) -> Iterator[None]:
        """Writes all of the block, or nothing.

        Args:
            relaxed: What is written outlives the process at once, but the machine only from the next
                transaction on that is not relaxed.
        """
        with writing(self.folder):
            self.main.execute(f"PRAGMA synchronous = {'NORMAL' if relaxed else 'FULL'}")
            self.main.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.main.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, as on a full disk.
                if self.main.in_transaction:
                    self.main.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """``main``, whose failures become sentences; what is read in the block is of one moment."""
        try:
            self.main.execute("BEGIN")
            try:
                yield self.main
            finally:
                if self.main.in_transaction:
                    self.main.execute("COMMIT")
        except sqlite3.Error as error:
            raise sentence(error, self.folder) from error

    def new_id(self, letter: str) -> str:
        """A name that was never given before; inside a transaction."""
        row = self.main.execute(
            "INSERT INTO counters (letter, last) VALUES (?, 1) "
            "ON CONFLICT (letter) DO UPDATE SET last = last + 1 RETURNING last",
            (letter,),
        ).fetchone()
        return f"{letter}{row[0]}"
