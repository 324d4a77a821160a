"""What the API takes and gives; the documents themselves are in ``serve.project.documents``."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from softmatch_jax.serve.project.commands import Command
from softmatch_jax.serve.project.documents import (
    ClassDocument,
    FoundDocument,
    Identity,
    ImageDocument,
    LayerDocument,
    MaskDocument,
    ProjectDocument,
    PromptDocument,
)

AnyDocument = (
    ProjectDocument
    | ClassDocument
    | ImageDocument
    | LayerDocument
    | PromptDocument
    | MaskDocument
    | FoundDocument
)
Changes = dict[str, AnyDocument | None]


class Body(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(extra="forbid")


class ProblemBody(BaseModel):
    """An error (RFC 9457): ``detail`` is a sentence for a person."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class CommandRequest(Body):
    """A command under an id that the page made: sending it again is safe."""

    id: UUID
    command: Command


class StepRequest(Body):
    """Undo or redo, under an id that the page made."""

    id: UUID


class EntryReply(Body):
    """What came of a command. A page may see the same entry on the stream before."""

    seq: int
    id: str
    kind: str
    changes: Changes
    undo: str | None
    redo: str | None


class LogEntry(EntryReply):
    """An entry of the record: ``what`` was asked and ``at`` what time (UTC)."""

    at: str
    what: dict[str, Any]


class LogReply(Body):
    """A part of the record; ask again after the last ``seq`` until none come."""

    entries: list[LogEntry]


class ImageReply(Body):
    """A picture that was added."""

    image: Identity
    seq: int
    id: str
    kind: str
    changes: Changes
    undo: str | None
    redo: str | None


class StateReply(Body):
    """All documents, and the number of the last entry that they hold."""

    boot: str
    seq: int
    docs: dict[str, AnyDocument]
    live: dict[str, dict[str, Any]]
    undo: str | None
    redo: str | None


class ViewRequest(Body):
    """The picture on view, or none."""

    image: Identity | None


class MatchingRequest(Body):
    """Starts or cancels the matching of all targets."""

    action: Literal["start", "cancel"]


class Accepted(Body):
    """It is known; what comes of it is on the stream."""

    ok: Literal[True] = True


class FormatReply(Body):
    """A file format; ``options`` are the query parameters that change what is written."""

    name: str
    title: str
    suffixes: list[str]
    options: list[str]


class LimitsReply(Body):
    """The most that is taken."""

    upload_bytes: int
    import_bytes: int
    pixels: int
    points: int


class InfoReply(Body):
    """What the server is. ``model`` is empty until the models are there."""

    version: str
    backend: str
    model: str
    texts: bool
    ready: bool
    read_only: bool
    project: str
    limits: LimitsReply
    formats: list[FormatReply]


class WarningsReply(Body):
    """What an export would lose."""

    warnings: list[str]


class ImportReply(Body):
    """What was imported."""

    pictures: int
    masks: int
    warnings: list[str]


class HealthReply(Body):
    """Whether the process answers."""

    status: Literal["ok"] = "ok"


Sequence = Annotated[int, Field(ge=0, le=2**53)]
"""Number of an entry."""
