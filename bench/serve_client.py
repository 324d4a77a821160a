"""A page without a screen: what the benchmarks of the web app talk to the server with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

START_S = 180
"""Longest wait for a server's first sign of life, and for its models."""


class Client:
    """The API of one project, and a stream that keeps the documents up to date."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.headers = {"Authorization": f"Bearer {parts.query.partition('=')[2]}"}
        self.http = httpx.Client(base_url=self.base, headers=self.headers, timeout=60)
        self.docs: dict[str, Any] = {}
        self.live: dict[str, Any] = {}
        self.changed = threading.Condition()
        self.arrived: dict[str, float] = {}
        self._ended = False
        state = self.get("/api/state")
        self.docs, self.live, self.seq = state["docs"], state["live"], state["seq"]
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return self.http.get(path).raise_for_status().json()

    def command(self, do: str, **fields: Any) -> Any:
        """Runs a command."""
        body = {"id": str(uuid.uuid4()), "command": {"do": do, **fields}}
        return self.http.post("/api/commands", json=body).raise_for_status().json()

    def upload(self, name: str, data: bytes) -> str:
        """Adds a picture, and returns its name in the project."""
        params = {"name": name, "id": str(uuid.uuid4())}
        reply = self.http.post("/api/images", params=params, content=data).raise_for_status().json()
        return str(reply["image"])

    def wait(self, until: Any, seconds: float, what: str) -> float:
        """Waits until a function of this client is true; returns when it was (``time.perf_counter``)."""
        end = time.perf_counter() + seconds
        with self.changed:
            while not until(self):
                left = end - time.perf_counter()
                if left <= 0:
                    raise TimeoutError(f"No {what} within {seconds} s.")
                self.changed.wait(left)
            return time.perf_counter()

    def close(self) -> None:
        """Stops following."""
        self._ended = True
        self.http.close()

    def _follow(self) -> None:
        try:
            with httpx.stream(
                "GET",
                f"{self.base}/api/events",
                params={"after": self.seq},
                headers=self.headers,
                timeout=httpx.Timeout(10, read=None),
            ) as stream:
                for kind, data in events(stream.iter_lines()):
                    self._take(kind, data)
                    if self._ended:
                        return
        except httpx.HTTPError:
            if not self._ended:
                raise

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        with self.changed:
            if kind == "entry":
                for key, document in data["changes"].items():
                    self.arrived[key] = now
                    if document is None:
                        self.docs.pop(key, None)
                    else:
                        self.docs[key] = document
                self.seq = data["seq"]
            elif kind == "live":
                self.live |= data
            self.changed.notify_all()


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Server-sent events: their kind, and their data as JSON."""
    kind, data = "message", []
    for line in lines:
        if not line:
            if data:
                yield kind, json.loads("\n".join(data))
            kind, data = "message", []
        elif line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())


@contextmanager
def server(project: Path, words: Sequence[str] = ()) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``softmatch serve`` in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "softmatch_jax", "serve", "--project", str(project), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--no-browser", "--quiet", *words], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http" not in line:
            raise RuntimeError(f"The server did not start: {line!r}, status {process.wait(10)}.")
        address = line[line.index("http") :].strip()
        wait_until_ready(address)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(address: str) -> None:
    """Waits until the models are warm."""
    parts = urlsplit(address)
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if httpx.get(f"{parts.scheme}://{parts.netloc}/readyz").status_code == 200:
            return
        time.sleep(0.1)
    raise TimeoutError(f"The models were not ready within {START_S} s.")
