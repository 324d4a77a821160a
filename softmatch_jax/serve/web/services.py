"""What the routes work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import anyio
from fastapi import Depends, Request

from softmatch_jax.serve.conductor import Conductor
from softmatch_jax.serve.config import ServeConfig
from softmatch_jax.serve.live import LiveDocuments
from softmatch_jax.serve.project.errors import ReadOnlyError
from softmatch_jax.serve.web.encoding import StateEncoder
from softmatch_jax.serve.web.events import EventHub
from softmatch_jax.serve.web.metrics import Metrics

if TYPE_CHECKING:
    from softmatch_jax.serve.engine.local import Engine
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.store import Store

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything behind one application."""

    store: Store
    pictures: Pictures
    engine: Engine
    config: ServeConfig
    token: str
    conductor: Conductor
    live: LiveDocuments
    hub: EventHub
    metrics: Metrics
    states: StateEncoder
    threads: anyio.CapacityLimiter
    writes: anyio.CapacityLimiter
    transfers: anyio.CapacityLimiter

    async def work(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call that may wait, for the disk or for a lock, beside the event loop."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self.threads)

    async def write(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call that changes the project. Such wait for each other and the disk; reading does not."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self.writes)

    async def transfer(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call that may take minutes, so that it takes no place of the short ones."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self.transfers)


def check_writable(services: Services) -> None:
    """Raises ``ReadOnlyError`` where nothing may be changed, before any of a body reaches the disk."""
    if services.config.read_only:
        raise ReadOnlyError("The project was opened for reading alone; nothing can be changed or matched.")


async def services_of(request: Request) -> Services:
    """The services of the application that a request came to."""
    services: Services = request.app.state.services
    return services


With = Annotated[Services, Depends(services_of)]
"""A route's parameter that receives the services."""
