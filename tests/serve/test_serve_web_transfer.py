"""Exports as they are streamed, imports as they come, and what is left behind when either breaks off."""

from __future__ import annotations

import errno
import io
import json
import threading
import time
import zipfile

import anyio
import numpy as np
import pytest
from serving_client import Served, running_server, served_app
from serving_fakes import new_id, png

from softmatch_jax._checks import InputError
from softmatch_jax.serve.config import LimitsConfig
from softmatch_jax.serve.web.zipping import ZipStream

FORMATS = ["coco", "indexed", "yolo", "labelme", "label_studio", "cvat"]


@pytest.fixture
def drawn(tmp_path):
    with served_app(tmp_path / "project") as served:
        draw(served)
        yield served


def draw(served: Served, pictures=3):
    for number in range(pictures):
        assert served.upload(number).status_code == 201
    assert served.run({"do": "add_class", "name": "duck"}).status_code == 200
    scribble = {"kind": "scribble", "points": [[3, 3], [8, 6]], "width": 4}
    assert (
        served.run({"do": "add_prompt", "image": "i1", "class": "c1", "prompt": scribble}).status_code == 200
    )
    served.settle()


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_exported_can_be_imported(drawn: Served, tmp_path, format):
    response = drawn.client.get(f"/api/exports/{format}?which=shown")
    assert response.status_code == 200 and response.headers["content-type"] == "application/zip"
    assert f"project-{format}.zip" in response.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    assert {name.rpartition("/")[2] for name in archive.namelist()} >= {"0.png", "1.png", "2.png"}
    with served_app(tmp_path / "other") as other:
        answer = other.client.post(f"/api/imports?format={format}&accept=true", content=response.content)
        assert answer.status_code == 200, answer.text
        assert answer.json()["pictures"] == 3 and answer.json()["masks"] >= 1
        state, before = other.store.state(), drawn.store.state()
        assert {d.digest for d in state.of("image").values()} == {
            d.digest for d in before.of("image").values()
        }
        assert not [name for name in other.files() if "tmp" in name]
        if format != "yolo":  # outlines lose single pixels
            iid = next(k for k, d in state.of("image").items() if d.name == "0.png").partition("/")[2]
            raster = other.store.raster(state.image(iid).accepted["c1"])
            expected = drawn.store.raster(before.get("mask/i1/c1").raster)
            np.testing.assert_array_equal(raster > 0, expected > 0)


def test_options(drawn: Served):
    content = drawn.client.get("/api/exports/coco?which=shown&images=false&polygons=true").content
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert not [name for name in archive.namelist() if name.endswith(".png")]
    name = next(name for name in archive.namelist() if name.endswith(".json"))
    found = json.loads(archive.read(name))["annotations"]
    assert found and all(isinstance(one["segmentation"], list) for one in found)
    assert drawn.client.get("/api/exports/yolo/losses").json()["warnings"]
    for query in ("which=all", "images=perhaps"):
        problem(drawn.client.get(f"/api/exports/coco?{query}"), 422)
    for path in ("exports/psd", "exports/psd/losses"):
        assert "coco" in problem(drawn.client.get(f"/api/{path}"), 404)["detail"]
    problem(drawn.client.post("/api/imports?format=psd", content=b""), 404)


def test_an_export_that_cannot_begin_is_an_error(drawn: Served):
    drawn.services.pictures.path(drawn.store.state().image("i2").digest).unlink()
    problem(drawn.client.get("/api/exports/coco?which=shown"), 404)
    assert drawn.client.get("/api/exports/coco?which=shown&images=false").status_code == 200


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_archive_is_refused_and_leaves_nothing(drawn: Served, content):
    before, seq = drawn.files(), drawn.store.state().seq
    problem(drawn.client.post("/api/imports", content=content), 422)
    assert drawn.files() == before and drawn.store.state().seq == seq


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png"])
def test_names_that_lead_out_of_an_archive(drawn: Served, tmp_path, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, png(7))
    problem(drawn.client.post("/api/imports", content=buffer.getvalue()), 422)
    assert not list(tmp_path.rglob("*evil*"))


def write_pieces(count, fail_at=None):
    def write(stream):
        for number in range(count):
            if number == fail_at:
                raise InputError("It broke.")
            stream.write(b"x" * 300_000)

    return write


def read_all(stream):
    async def run():
        await stream.begin()
        return b"".join([piece async for piece in stream.response("a.zip").body_iterator])

    return anyio.run(run)


def stream_of(write):
    return ZipStream(write, anyio.CapacityLimiter(2))


def test_streams_are_whole_or_fail():
    assert read_all(stream_of(write_pieces(20))) == b"x" * 6_000_000
    assert read_all(stream_of(lambda stream: None)) == b""
    for fail_at in (0, 19):
        with pytest.raises(InputError, match="broke"):
            read_all(stream_of(write_pieces(20, fail_at)))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "export"]


def test_a_client_that_stops_reading_ends_the_writer():
    written = []

    def write(stream):
        for number in range(100):
            stream.write(b"x" * 300_000)
            written.append(number)

    async def run():
        stream = stream_of(write)
        await stream.begin()
        pieces = stream.response("a.zip").body_iterator
        await anext(pieces)
        await anyio.sleep(0.1)
        assert len(written) < 15
        await pieces.aclose()

    anyio.run(run)
    for thread in threads():
        thread.join(5)
    assert not threads() and len(written) < 16


def test_a_client_that_leaves_while_it_waits_leaves_no_thread_waiting():
    begun = threading.Event()

    def write(stream):
        stream.write(b"x" * 300_000)
        begun.set()
        time.sleep(0.3)
        for _ in range(5):
            stream.write(b"x" * 300_000)

    async def run():
        stream = stream_of(write)
        await stream.begin()
        pieces = stream.response("a.zip").body_iterator
        await anext(pieces)
        with anyio.move_on_after(0.1):
            await anext(pieces)
        await pieces.aclose()
        assert begun.is_set()

    before = {*threading.enumerate()}
    anyio.run(run)
    end = time.monotonic() + 5
    while {*threading.enumerate()} - before and time.monotonic() < end:
        time.sleep(0.01)
    assert not {*threading.enumerate()} - before


def test_a_folder_that_cannot_be_written_takes_no_import(drawn: Served, monkeypatch):
    def fails(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("softmatch_jax.serve.web.routes_transfer.tempfile.TemporaryFile", fails)
    response = drawn.client.post("/api/imports", content=b"PK")
    assert response.status_code == 403 and "cannot be written" in response.json()["detail"]


def test_an_export_that_breaks_on_the_way_cuts_the_connection(tmp_path, monkeypatch):
    import httpx

    with running_server(tmp_path / "project", limits=LimitsConfig()) as running, running.client() as client:

        def broken(store, pictures, format, sink, **_):
            rng = np.random.default_rng(0)
            for number in range(20):
                sink.write(f"{number}.png", rng.bytes(100_000))
            raise InputError("The disk failed.")

        monkeypatch.setattr("softmatch_jax.serve.project.exporting.export_project", broken)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/api/exports/coco")
        assert client.get("/healthz").status_code == 200
        response = client.post(f"/api/images?name=a&id={new_id()}", content=png(1))
        assert response.status_code == 201
    end = time.monotonic() + 5
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads()
