"""A server in a process of its own and a browser before it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TOKEN = "a-token-of-the-tests"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Server:
    """`softmatch serve` on a project; it comes back on the same port after it was killed."""

    project: Path
    port: int
    log: Path
    process: subprocess.Popen[str] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def start(self) -> None:
        """Starts it and waits until it answers; its models may still be warming up."""
        words = ["--project", str(self.project), "--port", str(self.port), "--token", TOKEN]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "softmatch_jax", "serve", *words],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                text=True,
            )
        self._wait("healthz", 120)

    def warm(self) -> None:
        """Waits until the models are ready."""
        self._wait("readyz", 600)

    def _wait(self, path: str, seconds: float) -> None:
        assert self.process is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()[-4000:]}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError(f"no answer from {path}:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """Asks it to end, and checks that it ends well."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("uvicorn", reason="The server's packages are not installed.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = Server(tmp_path / "orchard", port, tmp_path / "server.log")
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is not installed; the page cannot be tried without a browser.")
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=executable, args=FLAGS)
        yield one
        one.close()


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page in a window of its own; an exception in the page fails the test."""
    contexts, errors = [], []

    def open_one(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
        page.goto(server.url)
        page.locator("body[data-ready=true]").wait_for()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def shoot() -> Callable[[Any, str], None]:
    """Keeps a screenshot for the guide in the folder of ``SOFTMATCH_SCREENSHOTS``, where that is set."""
    folder = os.environ.get("SOFTMATCH_SCREENSHOTS")

    def one(page: Any, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            # Colours fade from one state to the next.
            page.wait_for_timeout(400)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return one
