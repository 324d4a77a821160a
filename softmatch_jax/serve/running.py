"""Runs the server until it is told to stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn

from softmatch_jax._checks import InputError
from softmatch_jax.serve.config import ServeConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

    from softmatch_jax.serve.engine.local import Engine

MODELS_THREAD = "models"
"""Name of the thread of ``LocalEngine``."""
_TOKEN_FILE = "token"
_GRACE_S = 10
_MMAP_THRESHOLD = -3
"""``M_MMAP_THRESHOLD`` of malloc.h: where set, it no longer grows by itself."""
_LARGE_BYTES = 1 << 20


def serve_project(
    config: ServeConfig,
    engine_maker: Callable[[], Engine],
    *,
    tell: Callable[[str], None] = print,
) -> int:
    """Serves a project until SIGINT or SIGTERM.

    Args:
        config: Settings.
        engine_maker: Makes the engine, once the project is open; it should return at once.
        tell: Is given the address to open.

    Returns:
        0 after it was told to stop.

    Raises:
        InputError: The project cannot be opened, or the address not be listened on.
    """
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.store import Store
    from softmatch_jax.serve.web.app import create_app

    _give_memory_back()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(config.host, config.port))
        store = Store.open(config.project, read_only=config.read_only)
        stack.callback(store.close)
        limits = config.limits
        pictures = Pictures(config.project, max_bytes=limits.upload_bytes, max_pixels=limits.pixels)
        engine = engine_maker()
        stack.callback(engine.close)
        token = config.token or kept_token(config.project, keep=not config.read_only)
        app = create_app(store, pictures, engine, _with_token(config, token))
        server = ProjectServer(app)
        address = address_of(config.host, listener.getsockname()[1], token)
        server.on_start = lambda: tell(address)
        server.run(sockets=[listener])
    return 0


def _give_memory_back() -> None:
    """Has the C library return large blocks to the system as they are freed, where it is glibc.

    It would else keep what rasters of any thread took at most, which after hours is gigabytes.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def leave(status: int) -> int:
    """Ends the process where the models still work on something, else gives the status back.

    Such work cannot be broken off, and Python aborts when it ends beside it. Nothing depends on it: what was
    acknowledged is on the disk.
    """
    if any(thread.name == MODELS_THREAD and thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address is not of this machine, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host} cannot be listened on ({error.strerror or error}).") from None
    try:
        if os.name == "posix":
            # Else a port cannot be had again for a minute after the server before it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{host} port {port} cannot be listened on ({error.strerror}); choose another with --port, or 0 "
            "for any that is free."
        ) from None
    return listener


def kept_token(folder: Path, *, keep: bool = True) -> str:
    """The token of a project, so that open pages are known to a server that was started anew.

    Args:
        folder: The project's, where it lies in a file for its owner alone.
        keep: Write it there when it is new.
    """
    path = folder / _TOKEN_FILE
    with contextlib.suppress(OSError, UnicodeError):
        token = path.read_text("ascii").strip()
        if len(token) >= 32 and token.isprintable():
            return token
    token = secrets.token_urlsafe(32)
    if not keep:
        return token
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        # For its owner alone, from the start.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
    return token


def address_of(host: str, port: int, token: str) -> str:
    """The address that opens the page."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/?token={quote(token, safe='')}"


def _with_token(config: ServeConfig, token: str) -> ServeConfig:
    names = config.allow_hosts
    if config.host in ("0.0.0.0", "::"):
        names = (*names, socket.gethostname())
    return replace(config, token=token, allow_hosts=names)


class ProjectServer(uvicorn.Server):
    """Ends event streams when it stops: they would keep it for ever.

    Args:
        app: What :func:`create_app` made.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="on",
                timeout_graceful_shutdown=_GRACE_S,
                backlog=1024,
            )
        )
        self._hub = app.state.services.hub
        self.on_start: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells the address once it is listened on."""
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams first."""
        self._hub.end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Takes a signal as the wish to stop, which is then fulfilled: it is not raised again."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()
