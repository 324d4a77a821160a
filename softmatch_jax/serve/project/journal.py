"""The log: one row for each entry, appended in one transaction with the documents that it changes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project.documents import DERIVED, Document, kind_of, parse
from softmatch_jax.serve.project.history import History, folded
from softmatch_jax.serve.project.state import Changes

Kind: TypeAlias = Literal["command", "undo", "redo", "derive", "upload"]

_COLUMNS = "seq, id, kind, at, what, after, undo, redo"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the log.

    Attributes:
        seq: Its number; they have no gaps.
        id: Name that whoever asked for it gave it; asking again under the same is answered by this entry.
        kind: What brought it about.
        at: When, as UTC in ISO format.
        what: What was asked for: the command, what was undone, which engine derived it and how.
        changes: Documents that took the place of those under their keys; None for those taken away.
        undo: ``do`` of what undoing would undo after it.
        redo: ``do`` of what redoing would do again after it.
    """

    seq: int
    id: str
    kind: Kind
    at: str
    what: dict[str, Any]
    changes: Changes
    undo: str | None
    redo: str | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """What an entry is made for.

    Attributes:
        what: What was asked for.
        changes: The documents that it changes.
        do: What undoing would undo; None where it is not to be undone.
        target: The entry that it undoes or redoes.
    """

    what: dict[str, Any]
    changes: Changes
    do: str | None = None
    target: int | None = None


def append(
    connection: sqlite3.Connection, entry: Entry, *, before: Mapping[str, Document | None], step: Step
) -> None:
    """Writes an entry and the documents that it changes, inside the caller's transaction.

    ``before`` holds what was under the keys of its changes.
    """
    connection.execute(
        f"INSERT INTO log ({_COLUMNS}, before, do, target) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.seq,
            entry.id,
            entry.kind,
            entry.at,
            _text(entry.what),
            _packed(entry.changes),
            entry.undo,
            entry.redo,
            _packed({key: document for key, document in before.items() if kind_of(key) not in DERIVED}),
            step.do,
            step.target,
        ),
    )
    gone = [(key,) for key, document in entry.changes.items() if document is None]
    there = [(key, _text(_plain(doc))) for key, doc in entry.changes.items() if doc is not None]
    connection.executemany("DELETE FROM documents WHERE key = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO documents (key, body) VALUES (?, ?)", there)


def find(connection: sqlite3.Connection, id: str) -> Entry | None:
    """The entry of that name."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM log WHERE id = ?", (id,)).fetchone()
    return None if row is None else _entry(row)


def read(connection: sqlite3.Connection, after: int, limit: int) -> list[Entry]:
    """The entries behind number ``after``, at most ``limit``."""
    query = f"SELECT {_COLUMNS} FROM log WHERE seq > ? ORDER BY seq LIMIT ?"
    return [_entry(row) for row in connection.execute(query, (after, limit))]


def both_sides(connection: sqlite3.Connection, seq: int) -> tuple[Changes, Changes]:
    """What was under the keys of an entry before and after it, derived documents aside."""
    before, after = connection.execute("SELECT before, after FROM log WHERE seq = ?", (seq,)).fetchone()
    changes = {key: doc for key, doc in _unpacked(after).items() if kind_of(key) not in DERIVED}
    return _unpacked(before), changes


def both_sides_of_all(connection: sqlite3.Connection) -> Iterator[tuple[int, Changes, Changes]]:
    """Number, documents before (derived ones aside) and after, of all entries in order."""
    for seq, before, after in connection.execute("SELECT seq, before, after FROM log ORDER BY seq"):
        yield seq, _unpacked(before), _unpacked(after)


def read_documents(connection: sqlite3.Connection) -> Iterable[tuple[str, Document]]:
    """All documents by key."""
    for key, body in connection.execute("SELECT key, body FROM documents"):
        yield key, _document(key, _value(body))


def read_history(connection: sqlite3.Connection) -> History:
    """What can be undone and redone."""
    return folded(connection.execute("SELECT seq, kind, do FROM log WHERE do IS NOT NULL ORDER BY seq"))


def last_number(connection: sqlite3.Connection) -> int:
    """Number of the last entry; 0 before the first."""
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM log").fetchone()[0])


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, id, kind, at, what, after, undo, redo = row
    return Entry(
        seq=seq,
        id=id,
        kind=kind,
        at=at,
        what=_value(what),
        changes=_unpacked(after),
        undo=undo,
        redo=redo,
    )


def _packed(documents: Mapping[str, Document | None]) -> str:
    return _text({key: None if doc is None else _plain(doc) for key, doc in documents.items()})


def _unpacked(text: str) -> Changes:
    documents = _value(text).items()
    return {key: None if document is None else _document(key, document) for key, document in documents}


def _document(key: str, value: object) -> Document:
    try:
        return parse(key, value)
    except (ValueError, KeyError):
        raise InputError(
            f"The document {key} of the project is damaged; restore the project from a copy."
        ) from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        raise InputError("A row of the project is damaged; restore the project from a copy.") from None


def _plain(document: Document) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
