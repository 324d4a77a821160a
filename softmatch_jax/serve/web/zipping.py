"""A file that is sent while a thread writes it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import IO, Any, cast
from urllib.parse import quote

import anyio
from starlette.responses import StreamingResponse

_PIECE = 1 << 18
_WAITING = 8


class ZipStream:
    """Runs a writer in a thread, no further ahead of the client than two mebibytes.

    Args:
        write: Writes to a stream that cannot be sought in.
        limiter: Threads that may do so.
    """

    def __init__(self, write: Callable[[IO[bytes]], None], limiter: anyio.CapacityLimiter) -> None:
        self._write, self._limiter = write, limiter
        self._pieces: queue.Queue[bytes | Exception | None] = queue.Queue(_WAITING)
        self._gone = threading.Event()
        self._first: bytes | None = None

    async def begin(self) -> None:
        """Starts to write, and waits for the first piece.

        Raises:
            Exception: What the writer raised before that.
        """
        threading.Thread(target=self._run, name="export", daemon=True).start()
        try:
            self._first = await self._next()
        except BaseException:
            self._gone.set()
            raise

    def response(self, name: str) -> StreamingResponse:
        """The response, offered for saving under ``name``. An error on the way cuts the connection."""
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return StreamingResponse(self._all(), headers=headers, media_type="application/zip")

    async def _all(self) -> AsyncIterator[bytes]:
        try:
            piece = self._first
            while piece is not None:
                yield piece
                piece = await self._next()
        finally:
            self._gone.set()

    async def _next(self) -> bytes | None:
        piece = await anyio.to_thread.run_sync(
            self._pieces.get, limiter=self._limiter, abandon_on_cancel=True
        )
        if isinstance(piece, Exception):
            raise piece
        return piece

    def _run(self) -> None:
        sink = _Pieces(self._put)
        try:
            self._write(cast("IO[bytes]", sink))
            sink.flush()
            self._put(None)
        except _ClientGone:
            # A thread may still wait for a piece, and would do so beyond the end of the server.
            with contextlib.suppress(queue.Full):
                self._pieces.put_nowait(None)
        except Exception as error:
            with contextlib.suppress(_ClientGone):
                self._put(error)

    def _put(self, piece: bytes | Exception | None) -> None:
        while not self._gone.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                return
        raise _ClientGone


class _ClientGone(Exception):  # noqa: N818  (ends the writer; no fault)
    pass


class _Pieces:
    """The stream that the writer sees: gathers small writes to pieces."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self._put, self._buffer = put, bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()
