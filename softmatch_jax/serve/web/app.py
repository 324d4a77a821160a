"""The application: everything of the web app that answers over HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI
from starlette.middleware import Middleware

from softmatch_jax.serve.conductor import Conductor
from softmatch_jax.serve.config import ServeConfig
from softmatch_jax.serve.live import LiveDocuments
from softmatch_jax.serve.web import (
    declaring,
    problems,
    routes_health,
    routes_matching,
    routes_page,
    routes_pictures,
    routes_project,
    routes_transfer,
)
from softmatch_jax.serve.web.encoding import StateEncoder
from softmatch_jax.serve.web.events import EventHub
from softmatch_jax.serve.web.limits import AtOnce, BodyLimit
from softmatch_jax.serve.web.metrics import Measuring, Metrics
from softmatch_jax.serve.web.security import OPEN_PATHS, Guard, SecurityHeaders
from softmatch_jax.serve.web.services import Services

if TYPE_CHECKING:
    from softmatch_jax.serve.engine.local import Engine
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.store import Store


def create_app(store: Store, pictures: Pictures, engine: Engine, config: ServeConfig) -> FastAPI:
    """Makes the application; the work in the background runs for as long as it does.

    Args:
        store: The project, which stays the caller's to close.
        pictures: Its files.
        engine: What answers, which stays the caller's to close.
        config: Settings. Without a token, one is made: ``app.state.services.token``.
    """
    services = _services(store, pictures, engine, config)
    app = FastAPI(
        title="softmatch",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        middleware=_middleware(services),
        redirect_slashes=False,
    )
    app.state.services = services
    problems.install(app)
    declaring.install(app)
    for routes in (
        routes_page,
        routes_health,
        routes_project,
        routes_pictures,
        routes_matching,
        routes_transfer,
    ):
        app.include_router(routes.router)
    return app


def _services(store: Store, pictures: Pictures, engine: Engine, config: ServeConfig) -> Services:
    live = LiveDocuments()
    hub = EventHub(store, live, config.limits)

    def gauges() -> Mapping[str, float]:
        load = {f"engine_{name}": value for name, value in engine.load().items()}
        return {
            **load,
            "engine_ready": float(engine.ready),
            "entries": store.state().seq,
            "streams": hub.streams,
        }

    metrics = Metrics(gauges)
    conductor = Conductor(store, pictures, engine, config=config.conductor, live=live, observe=metrics.answer)
    return Services(
        store=store,
        pictures=pictures,
        engine=engine,
        config=config,
        token=config.token or secrets.token_urlsafe(32),
        conductor=conductor,
        live=live,
        hub=hub,
        metrics=metrics,
        states=StateEncoder(),
        threads=anyio.CapacityLimiter(config.limits.threads),
        # One at work, and the next one ready.
        writes=anyio.CapacityLimiter(2),
        transfers=anyio.CapacityLimiter(config.limits.transfers),
    )


def _middleware(services: Services) -> list[Middleware]:
    """From the outside in: what is refused is counted and told like everything else."""
    limits = services.config.limits
    larger = {"/api/images": limits.upload_bytes, "/api/imports": limits.import_bytes}
    return [
        Middleware(SecurityHeaders),
        Middleware(Measuring, metrics=services.metrics),
        Middleware(problems.FaultsToProblems),
        Middleware(Guard, config=services.config, token=services.token),
        # Streams have a limit of their own.
        Middleware(AtOnce, most=limits.at_once, apart={*OPEN_PATHS, "/api/events"}),
        Middleware(BodyLimit, limit=limits.json_bytes, larger=larger, pause=limits.receive_s),
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    unbind = services.hub.bind(asyncio.get_running_loop())
    if not services.config.read_only:
        services.conductor.start()
    try:
        yield
    finally:
        unbind()
        await anyio.to_thread.run_sync(services.conductor.stop)
