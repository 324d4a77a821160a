"""The stream that pages follow: server-sent events, from where each of them stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from softmatch_jax.serve.config import LimitsConfig
from softmatch_jax.serve.live import LiveDocuments, RecentEntries
from softmatch_jax.serve.web.encoding import entry_json

if TYPE_CHECKING:
    from softmatch_jax.serve.project.store import Entry, Store

_LOG = logging.getLogger(__name__)
_BATCH = 200
_SEND_S = 0.001
"""Rest between two rounds of sending, for each stream: how much of the loop's time many pages may take."""


class EventHub:
    """Hands entries of the log and live documents to all streams. The event loop owns it, but for ``hear``.

    Args:
        store: What is followed.
        live: Documents in memory.
        limits: Number of streams, length of a replay, sign of life.
    """

    def __init__(self, store: Store, live: LiveDocuments, limits: LimitsConfig) -> None:
        self.limits = limits
        self.streams = 0
        self._store, self._live = store, live
        self._boot = store.boot
        self._recent = RecentEntries(store.state().seq)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse = asyncio.Event()
        self._beaten_at, self._due = 0.0, False
        self._ended = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Begins to follow; what is returned ends that."""
        self._loop = loop
        self._pulse, self._ended, self._due = asyncio.Event(), False, False
        unsubscribe = self._store.subscribe(self.hear)
        self._live.listen(lambda: self._soon(self._wake))

        def unbind() -> None:
            unsubscribe()
            self._live.listen(None)
            self.end()

        return unbind

    def hear(self, entry: Entry) -> None:
        """Takes an entry, from the thread that wrote it."""
        frame = _frame("entry", entry_json(entry), entry.seq)
        self._soon(lambda: self._add(entry.seq, frame))

    def end(self) -> None:
        """Ends all streams at once, so that the server can stop. Call it on the event loop."""
        self._ended = True
        self._beat()

    async def frames(
        self, after: int | None, read: Callable[[int], Awaitable[list[Entry]]]
    ) -> AsyncIterator[bytes]:
        """What one page is sent, for as long as it takes it.

        Args:
            after: Number of the last entry that the page has; None: it has all up to now.
            read: Reads the entries after a number from the log.
        """
        last = self._recent.last
        yield _frame("hello", json.dumps({"boot": self._boot, "seq": last}).encode())
        seq = last if after is None else after
        if not last - self.limits.replay <= seq <= last:
            yield _frame("reset", json.dumps({"boot": self._boot, "seq": last}).encode())
            seq = last
        version = 0
        while not self._ended:
            pulse = self._pulse
            pairs = self._recent.after(seq, _BATCH)
            if pairs is None:
                pairs = [(one.seq, _frame("entry", entry_json(one), one.seq)) for one in await read(seq)]
            frames = [frame for _, frame in pairs]
            seq = pairs[-1][0] if pairs else seq
            version, documents = self._live.since(version)
            if documents:
                frames.append(_frame("live", json.dumps(documents).encode()))
            if frames:
                yield b"".join(frames)
                continue
            try:
                await asyncio.wait_for(pulse.wait(), self.limits.heartbeat_s)
            except TimeoutError:
                yield b": still here\n\n"

    def _add(self, seq: int, frame: bytes) -> None:
        self._recent.add(seq, frame)
        self._wake()

    def _wake(self) -> None:
        """Wakes all streams: at once after a rest, else together with what else comes until then."""
        wait = self._beaten_at + _SEND_S * self.streams - time.monotonic()
        if wait <= 0:
            self._beat()
        elif not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(wait, self._beat)

    def _beat(self) -> None:
        self._beaten_at, self._due = time.monotonic(), False
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    def _soon(self, call: Callable[[], None]) -> None:
        # The loop may have ended while the last answers were written.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)


class EventStream(Response):
    """A response that is sent for as long as the page reads: one that takes nothing is cut off.

    Args:
        hub: Counts the streams.
        frames: What is sent.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: EventHub, frames: AsyncIterator[bytes]) -> None:
        super().__init__(None, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub, self._frames = hub, frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the page goes, the server ends, or nothing is taken any more."""
        self._hub.streams += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_gone, receive, tasks.cancel_scope)
                await self._send_all(send)
                tasks.cancel_scope.cancel()
        finally:
            self._hub.streams -= 1

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for frame in self._frames:
            with anyio.move_on_after(self._hub.limits.send_s) as patience:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            if patience.cancelled_caught:
                _LOG.info(
                    "A page took nothing from its stream for %g s; it is cut off.", self._hub.limits.send_s
                )
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _frame(event: str, data: bytes, number: int | None = None) -> bytes:
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
