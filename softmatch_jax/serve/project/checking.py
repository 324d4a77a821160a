"""Looking for damage in a project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project import journal
from softmatch_jax.serve.project.blobs import Blobs
from softmatch_jax.serve.project.documents import DERIVED, Document, ImageDocument, kind_of
from softmatch_jax.serve.project.pictures import picture_path
from softmatch_jax.serve.project.rasters import decode_labels, digest_of
from softmatch_jax.serve.project.state import State, all_heats, all_rasters


def check_store(folder: Path, connection: sqlite3.Connection, blobs: Blobs, state: State) -> list[str]:
    """One sentence for each fault: of the database, the log and the documents, rasters and pictures."""
    try:
        answers = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        faults = [f"The database is damaged: {answer}." for answer in answers if answer != "ok"]
        faults += _faults_of_log(connection, state)
    except (sqlite3.Error, ValueError) as error:
        return [f"The database is damaged: {error}."]
    return faults + list(_faults_of_rasters(blobs, state)) + list(_faults_of_pictures(folder, state))


def _faults_of_log(connection: sqlite3.Connection, state: State) -> list[str]:
    """What differs between the documents and the log's changes, one after the other."""
    faults = []
    folded: dict[str, Document] = {}
    expected = 1
    for seq, before, after in journal.both_sides_of_all(connection):
        if seq != expected:
            faults.append(f"The log lacks entry {expected}.")
        expected = seq + 1
        if any(folded.get(key) != before.get(key) for key in after if kind_of(key) not in DERIVED):
            faults.append(f"Entry {seq} of the log does not follow from those before it.")
        for key, document in after.items():
            if document is None:
                folded.pop(key, None)
            else:
                folded[key] = document
    stored = dict(journal.read_documents(connection))
    for name, documents in (("stored", stored), ("read", state.docs)):
        differing = sorted(key for key in folded.keys() | documents if folded.get(key) != documents.get(key))
        faults += [f"The document {key} as {name} is not what the log makes of it." for key in differing]
    return faults


def _faults_of_rasters(blobs: Blobs, state: State) -> Iterator[str]:
    for digest in sorted(all_rasters(state.docs.values())):
        try:
            data = blobs.read("rasters", digest)
            decode_labels(data)
            if digest_of(data) != digest:
                yield f"The raster {digest} is damaged."
        except InputError as error:
            yield f"The raster {digest} cannot be read: {error}"
    for digest in sorted(all_heats(state.docs.values())):
        if not blobs.has("heats", digest):
            yield f"The match map {digest} is missing."


def _faults_of_pictures(folder: Path, state: State) -> Iterator[str]:
    for key, document in state.of("image").items():
        image = cast(ImageDocument, document)
        if not picture_path(folder, image.digest).is_file():
            yield f"The file of {image.name} ({key}) is missing: {picture_path(folder, image.digest)}."
