"""Bodies of requests: which kinds are taken, and how large ones reach the disk."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from softmatch_jax.serve.web.problems import Problem
from softmatch_jax.serve.web.services import Services

_PIECE = 1 << 20


async def json_only(request: Request) -> None:
    """Refuses what is not JSON.

    Raises:
        Problem: 415.
    """
    kind = _kind(request)
    if kind != "application/json":
        raise Problem(415, f"The body is {kind[:80] or 'of no named type'}; expected application/json.")


async def raw_only(request: Request) -> None:
    """Refuses forms: a file is sent as the body itself.

    Raises:
        Problem: 415.
    """
    kind = _kind(request)
    if kind.startswith("multipart/") or kind == "application/x-www-form-urlencoded":
        raise Problem(415, f"The body is a form ({kind[:80]}); expected the bytes of the file themselves.")


async def in_pieces(request: Request, services: Services, write: Callable[[bytes], object]) -> None:
    """Writes a body as it comes, never holding more than a mebibyte and what came last.

    Raises:
        ClientDisconnect: The client left before the end.
    """
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= _PIECE:
            await services.work(write, bytes(piece))
            piece.clear()
    if piece:
        await services.work(write, bytes(piece))


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
