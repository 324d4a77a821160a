"""How much and how often a client may send."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softmatch_jax.serve.web.problems import Problem, retry_after

_MOST_CLIENTS = 10_000


class RateLimiter:
    """A bucket of tokens for each client: ``burst`` at first, ``rate`` more per second.

    Not thread-safe: the event loop owns it. Clients that were not seen for longest are forgotten first.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float = 1.0) -> float:
        """Takes ``cost`` tokens: 0 where they were there, else seconds until they will be; then none go."""
        now = self._clock()
        left, at = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        wait = 0.0
        if left >= cost:
            left -= cost
        else:
            wait = (cost - left) / self._rate
        self._buckets[client] = (left, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class AtOnce:
    """Middleware that answers no more than so many requests at the same time; others are told to wait.

    Args:
        app: What it stands before.
        most: Requests at the same time.
        apart: Paths that do not count.
    """

    def __init__(self, app: ASGIApp, *, most: int, apart: Collection[str]) -> None:
        self._app, self._most, self._apart, self._count = app, most, apart, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in self._apart:
            await self._app(scope, receive, send)
            return
        if self._count >= self._most:
            raise Problem(429, "The server has too much to do at the moment; try again.", retry_after(1))
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1


class BodyLimit:
    """Middleware that refuses bodies that are too large, at the header where it says so, else on the way.

    Args:
        app: What it stands before.
        limit: Bytes for most paths.
        larger: Bytes for the paths that take more.
        pause: Seconds that a client may pause in the middle.
    """

    def __init__(self, app: ASGIApp, *, limit: int, larger: Mapping[str, int], pause: float) -> None:
        self._app, self._limit, self._larger, self._pause = app, limit, larger, pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._larger.get(scope["path"], self._limit)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            raise _too_large(most)
        got, whole = 0, False

        async def counting() -> Message:
            nonlocal got, whole
            # Behind the body there is nothing but the end of the connection, which may be hours away.
            with anyio.move_on_after(None if whole else self._pause):
                message = await receive()
                if message["type"] == "http.request":
                    got += len(message.get("body", b""))
                    whole = not message.get("more_body", False)
                    if got > most:
                        raise _too_large(most)
                return message
            raise Problem(
                408, f"Nothing came for {self._pause:g} s in the middle of the body; send it again."
            )

        await self._app(scope, counting, send)


def _too_large(most: int) -> Problem:
    return Problem(413, f"The body is larger than {most / 1e6:g} MB, which is the most that is taken here.")
