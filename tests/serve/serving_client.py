"""The application on fake models, and clients of it that need no network."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI
from serving_fakes import FakeModels, Project, new_id, png
from starlette.testclient import TestClient

from softmatch_jax.serve.config import ConductorConfig, ServeConfig
from softmatch_jax.serve.engine.local import LocalEngine
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.store import Store
from softmatch_jax.serve.running import ProjectServer, listen
from softmatch_jax.serve.web.app import create_app
from softmatch_jax.serve.web.services import Services

TOKEN = "a token for tests"


@dataclass
class Served:
    app: FastAPI
    store: Store
    models: FakeModels
    client: TestClient
    stranger: TestClient
    folder: Path

    @property
    def services(self) -> Services:
        return self.app.state.services

    def new_client(self, **more) -> TestClient:
        return TestClient(self.app, base_url="http://127.0.0.1", raise_server_exceptions=False, **more)

    def files(self) -> set[str]:
        names = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        return {name for name in names if not name.endswith(("-wal", "-shm"))}

    def run(self, command, id=None):
        return self.client.post("/api/commands", json={"id": id or new_id(), "command": command})

    def upload(self, number, id=None, name=None):
        params = {"name": name or f"{number}.png", "id": id or new_id()}
        return self.client.post("/api/images", params=params, content=png(number))

    def settle(self):
        assert self.services.conductor.settled(20)


@contextmanager
def served_app(folder: Path, **settings) -> Iterator[Served]:
    with ExitStack() as stack:
        read_only = settings.get("read_only", False)
        if read_only:
            Project(folder).store.close()
        store = Store.open(folder, read_only=read_only)
        stack.callback(store.close)
        models = FakeModels()
        engine = LocalEngine(lambda: models)
        stack.callback(engine.close)
        settings = {"token": TOKEN, "conductor": ConductorConfig(settle_s=0.001, tick_s=0.05), **settings}
        config = ServeConfig(project=folder, **settings)
        limits = config.limits
        pictures = Pictures(folder, max_bytes=limits.upload_bytes, max_pixels=limits.pixels)
        app = create_app(store, pictures, engine, config)
        served = Served(app, store, models, None, None, folder)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        served.client = stack.enter_context(served.new_client(headers=headers))
        served.stranger = served.new_client()
        stack.callback(models.gate.set)
        if not read_only:
            served.settle()
        yield served


class Events:
    """A stream as a page reads it."""

    def __init__(self, client: httpx.Client, after=None, **headers):
        params = {} if after is None else {"after": after}
        self._context = client.stream("GET", "/api/events", params=params, headers=headers)
        self.response = self._context.__enter__()
        self._lines = self.response.iter_lines()

    def next(self):
        """The next event: its name, its data, its number."""
        name, data, number = None, None, None
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif field == "id":
                number = int(value)
            elif line.startswith(": "):
                return "comment", value, None
            elif not line and name:
                return name, data, number
        return None

    def until(self, name):
        """Events up to the first of a name, that one with them."""
        events = []
        while (event := self.next()) is not None:
            events.append(event)
            if event[0] == name:
                break
        return events

    def entries(self, last):
        """Entries up to a number."""
        found = []
        while (event := self.next()) is not None:
            if event[0] == "entry":
                found.append(event[1])
                if event[2] >= last:
                    break
        return found

    def close(self):
        self._context.__exit__(None, None, None)


@dataclass
class Running:
    app: FastAPI
    store: Store
    models: FakeModels
    server: ProjectServer
    thread: threading.Thread
    port: int

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20)

    def stop(self, within=5.0):
        self.server.should_exit = True
        self.thread.join(within)
        assert not self.thread.is_alive()


@contextmanager
def running_server(folder: Path, *, port=0, **settings) -> Iterator[Running]:
    """The application behind a real socket."""
    with ExitStack() as stack:
        store = Store.open(folder)
        stack.callback(store.close)
        models = FakeModels()
        engine = LocalEngine(lambda: models)
        stack.callback(engine.close)
        settings = {"token": TOKEN, "conductor": ConductorConfig(settle_s=0.001, tick_s=0.05), **settings}
        config = ServeConfig(project=folder, **settings)
        app = create_app(store, Pictures(folder), engine, config)
        listener = stack.enter_context(listen("127.0.0.1", port))
        server = ProjectServer(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        running = Running(app, store, models, server, thread, listener.getsockname()[1])
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield running
        finally:
            models.gate.set()
            running.stop()
