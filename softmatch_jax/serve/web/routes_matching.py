"""Routes of the work in the background."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from softmatch_jax.serve.web.bodies import json_only
from softmatch_jax.serve.web.schemas import Accepted, MatchingRequest, ViewRequest
from softmatch_jax.serve.web.services import With, check_writable

router = APIRouter(tags=["matching"])
_JSON = [Depends(json_only)]


@router.post("/api/view", operation_id="view", dependencies=_JSON)
async def view(services: With, request: ViewRequest) -> Accepted:
    """Says which picture is on view: it is matched first."""
    if request.image is not None:
        image = request.image
        await services.work(lambda: services.store.state().image(image))
    services.conductor.view(request.image)
    return Accepted()


@router.post("/api/matching", operation_id="matching", dependencies=_JSON)
async def matching(services: With, request: MatchingRequest) -> Accepted:
    """Starts to match all targets that are out of date or failed, or stops; ``live/job`` tells of it."""
    check_writable(services)
    if request.action == "start":
        services.conductor.start_matching()
    else:
        services.conductor.cancel_matching()
    return Accepted()
