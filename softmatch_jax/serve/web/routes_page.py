"""Routes of the page itself."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.web.security import cookie_name, given_token, same_token
from softmatch_jax.serve.web.services import With

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).resolve().parents[1] / "page"

_KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
}
# No step holds a dot, so that none leads upwards.
_FILE = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+\.([a-z]+)")

_REFUSAL = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>softmatch: not signed in</title>
<h1>This page needs its token</h1>
<p>Open the address that <code>softmatch serve</code> printed in its terminal; it ends in
<code>?token=</code> and a long word. A server that was started anew may have another one.</p>
</html>
"""
_ONWARDS = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>softmatch</title>
<p><a href="/">Open the project</a></p>
</html>
"""


@router.get("/")
async def page(request: Request, services: With, token: str | None = None) -> Response:
    """The page; a token in the address becomes a cookie, and the address is cleaned of it."""
    known = given_token(request.headers) if token is None else token
    if not same_token(known, services.token):
        return HTMLResponse(_REFUSAL, 401)
    if token is None:
        return await services.work(_file, "index.html", request.headers.get("if-none-match", ""))
    # A strict cookie does not come along when another site's link is redirected, but on a step of our own.
    linked = request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    response = HTMLResponse(_ONWARDS) if linked else RedirectResponse("/", 303)
    response.set_cookie(
        cookie_name(request.headers),
        services.token,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
        max_age=30 * 24 * 3600,
    )
    return response


@router.get("/page/{file:path}")
async def page_file(request: Request, services: With, file: str) -> Response:
    """A file of the page."""
    return await services.work(_file, file, request.headers.get("if-none-match", ""))


def _file(name: str, known: str) -> Response:
    match = _FILE.fullmatch(name)
    kind = _KINDS.get(match[1]) if match else None
    path = FOLDER / name
    if kind is None or not path.is_file():
        raise NotFoundError(f"The page has no file {name[:100]!r}.")
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # Asked for each time, so that a new version of the program is seen at once.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)
