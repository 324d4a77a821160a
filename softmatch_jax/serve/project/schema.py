"""The tables of a project and the steps that bring older projects up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from softmatch_jax._checks import InputError

APPLICATION = 0x534D4A58
"""Marks a SQLite file as a project of ours."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE documents (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
        # do names what can be undone, target the entry undone or redone; the long columns come last.
        """CREATE TABLE log (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            at TEXT NOT NULL,
            do TEXT,
            target INTEGER REFERENCES log (seq),
            undo TEXT,
            redo TEXT,
            what TEXT NOT NULL,
            before TEXT NOT NULL,
            after TEXT NOT NULL
        )""",
        "CREATE INDEX log_of_what_was_done ON log (seq, kind, do) WHERE do IS NOT NULL",
        """CREATE TRIGGER log_is_not_changed BEFORE UPDATE ON log
            BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
        """CREATE TRIGGER log_is_not_shortened BEFORE DELETE ON log
            BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
        # kept: a person's change names it, so that undoing may need it for ever.
        """CREATE TABLE rasters (
            digest TEXT PRIMARY KEY, kept INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL
        )""",
        "CREATE TABLE heats (digest TEXT PRIMARY KEY, body BLOB NOT NULL)",
        "CREATE TABLE counters (letter TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    ),
)
"""Statements of each step, from version ``n`` to ``n + 1``. Steps are never edited, only added."""


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a project's tables; 0 for a file without any.

    Raises:
        InputError: It is of another program, or newer than this one knows.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and (tables or version):
        raise InputError(
            f"{path} is a database of another program; expected a project of softmatch (choose "
            "another folder)."
        )
    if version > len(MIGRATIONS):
        raise InputError(
            f"{path} is of version {version}, made by a newer softmatch; this one reads up to version "
            f"{len(MIGRATIONS)} (install the newer one)."
        )
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings a project up to date by steps that are done whole or not at all; raises as `check_version`."""
    version = check_version(connection, path)
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
