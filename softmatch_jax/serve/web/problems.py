"""Errors as ``application/problem+json`` (RFC 9457), whoever finds them."""

from __future__ import annotations

import errno
import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project.errors import (
    ConflictError,
    FullDiskError,
    NotFoundError,
    ReadOnlyError,
    TooLargeError,
)

_LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (TooLargeError, 413),
    (FullDiskError, 507),
    (ReadOnlyError, 403),
    (InputError, 422),
)

_PLAIN = {
    400: "The body is not JSON that can be read.",
    404: "There is nothing at this address.",
    405: "This address does not take {}.",
}
"""Sentences in place of those of the framework."""


class Problem(HTTPException):
    """An error with members of its own beside those that all have."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.members = members


def problem_response(
    scope: Scope,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """The response that tells of an error; ``detail`` is the sentence a person reads."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": scope.get("path", ""),
        **(members or {}),
    }
    # ASCII, since what a client sent may come back in the sentence and need not be valid text.
    content = json.dumps(body, ensure_ascii=True).encode("ascii")
    return Response(content, status, dict(headers or {}), MEDIA_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to come again, in whole seconds, at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def status_of(error: Exception) -> int | None:
    """The status that an error of the project means, or None where it is a fault of ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507
    return next((status for kind, status in _STATUS if isinstance(error, kind)), None)


def response_to(scope: Scope, error: Exception) -> Response:
    """The response to any error; one that is a fault of ours is logged and told without its inside."""
    if isinstance(error, HTTPException):
        members = error.members if isinstance(error, Problem) else {}
        detail = error.detail
        if not isinstance(error, Problem) and error.status_code in _PLAIN:
            detail = _PLAIN[error.status_code].format(str(scope.get("method"))[:20])
        return problem_response(scope, error.status_code, detail, error.headers, members)
    if isinstance(error, RequestValidationError):
        return problem_response(scope, 422, _sentence(error))
    wait = getattr(error, "retry_after_s", None)
    if wait is not None:
        return problem_response(scope, 429, str(error), retry_after(wait))
    status = status_of(error)
    if status == 507:
        return problem_response(scope, 507, "The disk of the project is full; make room and try again.")
    if status is not None:
        return problem_response(scope, status, _without_path(scope, str(error)))
    _LOG.error("%s %s failed", scope.get("method"), scope.get("path"), exc_info=error)
    return problem_response(
        scope, 500, "The server made a mistake; what was acknowledged before is kept. Its log says more."
    )


def _without_path(scope: Scope, sentence: str) -> str:
    """A sentence with the name of the project's folder in place of its path, which is the server's alone."""
    services = getattr(getattr(scope.get("app"), "state", None), "services", None)
    folder = None if services is None else services.config.project
    # A relative path tells nothing, and "." is everywhere.
    return sentence.replace(str(folder), folder.name) if folder and folder.is_absolute() else sentence


def _sentence(error: RequestValidationError) -> str:
    """Where and what, for the first few things that are wrong."""
    parts = []
    for found in error.errors()[:3]:
        where = ".".join(str(step)[:60] for step in found["loc"])
        parts.append(f"{where}: {found['msg']}"[:300])
    more = len(error.errors()) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "") + "."


async def _answer(request: Request, error: Exception) -> Response:
    return response_to(request.scope, error)


def install(app: FastAPI) -> None:
    """Makes an application tell its errors this way."""
    for kind in (HTTPException, RequestValidationError, InputError):
        app.add_exception_handler(kind, _answer)


class FaultsToProblems:
    """Middleware: whatever no handler took becomes a problem, where nothing was sent yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                # Too late for a status: the connection is cut, so that no one takes half for the whole.
                raise
            await response_to(scope, error)(scope, receive, send)
