"""Routes for those who watch over the server."""

from __future__ import annotations

from fastapi import APIRouter, Response

from softmatch_jax.serve.web.problems import Problem, retry_after
from softmatch_jax.serve.web.schemas import HealthReply
from softmatch_jax.serve.web.services import With

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz")
async def healthz() -> HealthReply:
    """Whether the process answers."""
    return HealthReply()


@router.get("/readyz", operation_id="readyz")
async def readyz(services: With) -> HealthReply:
    """Whether the models are there and warm; 503 until then."""
    if not services.engine.ready:
        # Who has no token is not told why; ``live/engine`` says it on the page.
        failed = getattr(services.engine, "error", None) is not None
        detail = "The models could not be made." if failed else "The models are being made."
        raise Problem(503, detail, retry_after(1))
    return HealthReply()


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: With) -> Response:
    """Figures for Prometheus."""
    content = await services.work(services.metrics.text)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
