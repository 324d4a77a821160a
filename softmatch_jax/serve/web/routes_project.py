"""Routes of the documents: the state, the stream, commands, the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from softmatch_jax import __version__
from softmatch_jax.serve.project.documents import MAX_POINTS
from softmatch_jax.serve.web.bodies import json_only
from softmatch_jax.serve.web.encoding import entry_json
from softmatch_jax.serve.web.events import EventStream
from softmatch_jax.serve.web.problems import Problem, retry_after
from softmatch_jax.serve.web.schemas import (
    CommandRequest,
    EntryReply,
    FormatReply,
    InfoReply,
    LimitsReply,
    LogReply,
    Sequence,
    StateReply,
    StepRequest,
)
from softmatch_jax.serve.web.services import Services, With

router = APIRouter(tags=["project"])
_JSON = [Depends(json_only)]


@router.get("/api/info", operation_id="info")
async def info(services: With) -> InfoReply:
    """What the server is and takes."""
    engine, limits = services.engine.info, services.config.limits
    return InfoReply(
        version=__version__,
        backend=engine.backend,
        model=engine.model,
        texts=engine.texts,
        ready=services.engine.ready,
        read_only=services.config.read_only,
        project=services.config.project.resolve().name,
        limits=LimitsReply(
            upload_bytes=limits.upload_bytes,
            import_bytes=limits.import_bytes,
            pixels=limits.pixels,
            points=MAX_POINTS,
        ),
        formats=await services.work(_formats),
    )


@router.get("/api/state", operation_id="state", response_model=StateReply)
async def state(services: With) -> Response:
    """All documents. Follow the stream from its ``seq``."""
    return _json(await services.work(lambda: services.states.encode(services.store.state(), services.live)))


@router.get(
    "/api/events",
    operation_id="events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    services: With,
    after: Annotated[Sequence | None, Query(description="The last entry that is known.")] = None,
    last_event_id: Annotated[str | None, Header(description="Sent by browsers that come back.")] = None,
) -> Response:
    """The stream of server-sent events: ``hello``, ``entry``, ``live``, ``reset``."""
    hub = services.hub
    if hub.streams >= hub.limits.streams:
        raise Problem(429, "Too many pages follow this project; close some.", retry_after(5))
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        # What a browser says when it comes back is newer than what its address said at first.
        after = min(int(last_event_id[:17]), 2**53)
    read = services.store.entries
    return EventStream(hub, hub.frames(after, lambda seq: services.work(read, seq, 500)))


@router.post("/api/commands", operation_id="run", response_model=EntryReply, dependencies=_JSON)
async def run(services: With, request: CommandRequest) -> Response:
    """Does something to the project. The same id again gives the same answer, and does nothing."""
    store = services.store
    return await _step(services, lambda: entry_json(store.run(request.command, id=str(request.id))))


@router.post("/api/undo", operation_id="undo", response_model=EntryReply, dependencies=_JSON)
async def undo(services: With, request: StepRequest) -> Response:
    """Undoes the newest command that is not undone."""
    return await _step(services, lambda: entry_json(services.store.undo(id=str(request.id))))


@router.post("/api/redo", operation_id="redo", response_model=EntryReply, dependencies=_JSON)
async def redo(services: With, request: StepRequest) -> Response:
    """Does again what was undone last."""
    return await _step(services, lambda: entry_json(services.store.redo(id=str(request.id))))


@router.get("/api/log", operation_id="log", response_model=LogReply)
async def log(
    services: With,
    after: Annotated[Sequence, Query(description="Entries after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The record: what was asked, when, and what it changed, in order."""

    def read() -> bytes:
        parts = (entry_json(entry, what=True) for entry in services.store.entries(after, limit))
        return b'{"entries":[' + b",".join(parts) + b"]}"

    return _json(await services.work(read))


async def _step(services: Services, call: Callable[[], bytes]) -> Response:
    return _json(await services.write(call))


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _formats() -> list[FormatReply]:
    from softmatch_jax.data.formats import FORMATS

    return [
        FormatReply(
            name=one.name, title=one.title, suffixes=list(one.suffixes), options=["images", *one.options]
        )
        for one in FORMATS.values()
    ]
