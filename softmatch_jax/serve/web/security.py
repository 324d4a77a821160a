"""Who may ask, from where, and what a browser is told about it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softmatch_jax.serve.config import ServeConfig, is_loopback
from softmatch_jax.serve.web.limits import RateLimiter
from softmatch_jax.serve.web.problems import Problem, retry_after

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""
PAGE = "/"
"""The path that looks at the token itself, since a person opens it."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_WRONG_TOKEN_COST = 20.0


class SecurityHeaders:
    """Middleware that puts the headers on every response; those without a cache of their own get none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, sending)


class Guard:
    """Middleware: known host, own origin, not too often, and the token.

    Args:
        app: What it stands before.
        config: Names of the server, and limits.
        token: What a client must know.
    """

    def __init__(self, app: ASGIApp, *, config: ServeConfig, token: str) -> None:
        self._app, self._token = app, token
        self._hosts = allowed_hosts(config)
        self._any_address = not is_loopback(config.host)
        self._rates = RateLimiter(config.limits.rate, config.limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in SAFE_METHODS or scope["path"] not in (PAGE, *OPEN_PATHS):
            check_origin(headers)
        if scope["path"] not in OPEN_PATHS:
            self._check_client(scope, headers)
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        # A foreign name that leads here is how a web site reaches a server on this machine (DNS rebinding).
        name = host_name(headers.get("host", ""))
        if name in self._hosts or (self._any_address and _is_address(name)):
            return
        raise Problem(
            421,
            f"This server does not go by the name {name[:100]!r}; use the address it printed, or start it "
            "with --allow-host and that name.",
        )

    def _check_client(self, scope: Scope, headers: Headers) -> None:
        known = same_token(given_token(headers), self._token)
        page = scope["path"] == PAGE
        # The page checks a token in its address itself, which could be a guess as well.
        guess = not known and not (page and b"token" not in scope["query_string"])
        wait = self._rates.take(client_of(scope), _WRONG_TOKEN_COST if guess else 1.0)
        if wait > 0:
            raise Problem(429, "Too many requests; slow down.", retry_after(wait))
        if not (known or page):
            raise Problem(
                401,
                "The token is missing or wrong; open the address that the server printed when it started.",
                {"WWW-Authenticate": "Bearer"},
            )


def allowed_hosts(config: ServeConfig) -> frozenset[str]:
    """Names under which the server may be asked, in small letters and without a port."""
    names: Iterable[str] = ("localhost", "127.0.0.1", "[::1]", *config.allow_hosts, _bracketed(config.host))
    return frozenset(name.lower() for name in names)


def host_name(host: str) -> str:
    """The name in a ``Host`` header, in small letters and without the port."""
    name, colon, port = host.rpartition(":")
    plain = name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host
    return plain.lower().removesuffix(".")


def check_origin(headers: Headers) -> None:
    """Refuses what another site's page asks for: it has no token, but could use up what a client may ask.

    Raises:
        Problem: 403 where the browser says that the request comes from another origin.
    """
    refusal = Problem(
        403, "The request comes from another site's page; this server answers its own page alone."
    )
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise refusal
    origin = headers.get("origin")
    if origin is None:
        return
    try:
        parts = urlsplit(origin)
    except ValueError:
        raise refusal from None
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != headers.get("host", "").lower():
        raise refusal


def cookie_name(headers: Headers) -> str:
    """The cookie's name, with the port: a browser tells cookies of one host's ports not apart."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"softmatch-{port}" if port.isdigit() else "softmatch"


def given_token(headers: Headers) -> str:
    """The token in the ``Authorization`` header, else in the cookie, else nothing."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return cookie_parser(headers.get("cookie", "")).get(cookie_name(headers), "")


def same_token(given: str, token: str) -> bool:
    """Whether a token is right, in a time that does not say how much of it was."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode("utf-8"))


def client_of(scope: Scope) -> str:
    """The address of a client; a header cannot change it."""
    client = scope.get("client")
    return client[0] if client else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
