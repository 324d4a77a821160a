"""The API: what it takes, what it answers, and how it says no."""

from __future__ import annotations

import errno
import io
import json
import time
from contextlib import contextmanager

import numpy as np
import PIL.Image
import pytest
from serving_client import Served, served_app
from serving_fakes import new_id, png

from softmatch_jax._checks import InputError
from softmatch_jax.serve.project.failing import writing
from softmatch_jax.serve.project.rasters import labels_png
from softmatch_jax.serve.web.encoding import StateEncoder


@pytest.fixture
def served(tmp_path):
    with served_app(tmp_path / "project") as made:
        yield made


@pytest.fixture
def drawn(served):
    """Three pictures, a class, a scribble on the first; all derived."""
    for number in range(3):
        assert served.upload(number).status_code == 201
    assert served.run({"do": "add_class", "name": "duck"}).status_code == 200
    assert served.run(POINT).status_code == 200
    served.settle()
    return served


POINT = {"do": "add_prompt", "image": "i1", "class": "c1", "prompt": {"kind": "point", "xy": [3, 4]}}


def problem(response, status):
    body = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status and body["detail"]
    return body


def test_state_holds_what_commands_did(drawn: Served):
    state = drawn.client.get("/api/state").json()
    assert state["seq"] == drawn.store.state().seq and state["boot"] == drawn.store.boot
    assert state["docs"].keys() == set(drawn.store.state().docs)
    assert state["docs"]["class/c1"]["name"] == "duck"
    assert state["undo"] == "add_prompt" and state["redo"] is None
    assert state["live"]["live/engine"]["ready"] is True
    assert state["live"]["live/job"]["done"] == 2


def test_commands_can_be_sent_again(served: Served):
    id = new_id()
    first = served.run({"do": "add_class", "name": "duck"}, id)
    seq = served.store.state().seq
    again = served.run({"do": "add_class", "name": "duck"}, id)
    assert first.status_code == again.status_code == 200 and first.json() == again.json()
    assert served.store.state().seq == seq
    undo = new_id()
    answers = [served.client.post("/api/undo", json={"id": undo}).json() for _ in range(2)]
    assert answers[0] == answers[1] and answers[0]["changes"] == {"class/c1": None}
    assert answers[0]["redo"] == "add_class"
    redone = served.client.post("/api/redo", json={"id": new_id()}).json()
    assert redone["changes"] == first.json()["changes"]


def test_uploads_can_be_sent_again(served: Served):
    id = new_id()
    first, again = served.upload(1, id), served.upload(1, id)
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    assert first.json()["image"] == "i1" and "image/i1" in first.json()["changes"]
    assert problem(served.upload(1), 409)["image"] == "i1"
    other = new_id()
    assert served.run({"do": "add_class", "name": "a"}, other).status_code == 200
    problem(served.upload(2, other), 409)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ({"do": "nothing"}, 422),
        ({"do": "add_class"}, 422),
        ({"do": "add_class", "name": ""}, 422),
        ({"do": "add_class", "name": "a\u0000"}, 422),
        ({"do": "add_class", "name": "a", "more": 1}, 422),
        ({**POINT, "image": "i77"}, 404),
        ({**POINT, "class": "c77"}, 404),
        ({**POINT, "image": "../i1"}, 422),
        ({**POINT, "prompt": {"kind": "point", "xy": [1e9, 0]}}, 422),
        ({**POINT, "prompt": {"kind": "scribble", "points": [], "width": 3}}, 422),
        ({"do": "promote", "image": "i2", "class": "c1", "reference": True, "shown": "0" * 64}, 409),
        ({"do": "reopen", "image": "i1"}, 409),
    ],
)
def test_commands_that_cannot_be(drawn: Served, command, status):
    before = drawn.store.state().seq
    problem(drawn.run(command), status)
    assert drawn.store.state().seq == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[1]", 422),
        (b"\xff\xfe", 422),
        (b'{"id": "no", "command": {"do": "reject", "image": "i1"}}', 422),
        (b'{"id": NaN}', 422),
        (b"[" * 100_000, 400),
        (b'{"id": ' + b"9" * 5000 + b"}", 400),
        (b'{"\\ud800": 1}', 422),
    ],
)
def test_bodies_that_are_none(served: Served, content, status):
    headers = {"Content-Type": "application/json"}
    problem(served.client.post("/api/commands", content=content, headers=headers), status)


def test_kinds_of_bodies(served: Served):
    body = b'{"id": "%s"}' % new_id().encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/problem+json", None):
        headers = {} if kind is None else {"Content-Type": kind}
        problem(served.client.post("/api/undo", content=body, headers=headers), 415)
    good = {"Content-Type": "application/json; charset=utf-8"}
    problem(served.client.post("/api/undo", content=body, headers=good), 409)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    url = f"/api/images?name=a&id={new_id()}"
    problem(served.client.post(url, content=png(1), headers=form), 415)


def test_wrong_paths_and_methods(served: Served):
    problem(served.client.get("/api/nothing"), 404)
    problem(served.client.get("/api/state/"), 404)
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"):
        response = served.client.request(method, "/api/state")
        assert response.status_code == 405 and response.headers["allow"] == "GET"
    problem(served.client.get("/api/commands"), 405)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"GIF89a" + b"\0" * 50, png(1)[:-30], b"<svg/>", b"%PDF-1.7"]
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(served: Served, content):
    before = served.files()
    url = f"/api/images?name=a.png&id={new_id()}"
    problem(served.client.post(url, content=content), 422)
    assert served.files() == before and "image/i1" not in served.store.state().docs


def test_a_picture_of_too_many_pixels(served: Served, monkeypatch):
    monkeypatch.setattr(served.services.pictures, "max_pixels", 100)
    assert "pixels" in problem(served.upload(1), 413)["detail"]


@pytest.mark.parametrize("name", ["", "a" * 201, "a\nb", "\u0000"])
def test_names_that_cannot_be(served: Served, name):
    url = "/api/images"
    params = {"name": name, "id": new_id()}
    problem(served.client.post(url, params=params, content=png(1)), 422)


def test_a_name_is_never_a_path(served: Served):
    assert served.upload(1, name="../../../etc/passwd").status_code == 201
    assert not any("passwd" in file for file in served.files())


def test_files_of_pictures(served: Served):
    served.upload(1)
    response = served.client.get("/api/images/i1/file")
    assert response.content == png(1) and response.headers["content-type"] == "image/png"
    known = {"If-None-Match": f'"x", W/{response.headers["etag"]}'}
    assert served.client.get("/api/images/i1/file", headers=known).status_code == 304
    part = served.client.get("/api/images/i1/file", headers={"Range": "bytes=1-3"})
    assert part.status_code == 206 and part.content == b"PNG"
    preview = served.client.get("/api/images/i1/preview?side=16")
    assert preview.headers["content-type"] == "image/jpeg"
    assert max(PIL.Image.open(io.BytesIO(preview.content)).size) <= 16
    known = {"If-None-Match": preview.headers["etag"]}
    assert served.client.get("/api/images/i1/preview?side=16", headers=known).status_code == 304
    assert served.client.get("/api/images/i1/preview?side=17", headers=known).status_code == 200
    for side in ("15", "5000", "x"):
        problem(served.client.get(f"/api/images/i1/preview?side={side}"), 422)
    problem(served.client.get("/api/images/i2/file"), 404)
    problem(served.client.get("/api/images/x/file"), 422)
    served.services.pictures.path(served.store.state().image("i1").digest).unlink()
    for path in ("/api/images/i1/file", "/api/images/i1/preview?side=16"):
        told = problem(served.client.get(path), 404)["detail"]
        assert told.startswith("1.png: ") and "missing" in told and str(served.folder) not in told


def test_pictures_are_kept_by_the_browser_under_their_digest_alone(served: Served):
    # Another project on the same port has other pictures under the same names.
    served.upload(1)
    digest = served.store.state().image("i1").digest
    for path in ("/api/images/i1/file", "/api/images/i1/preview"):
        assert served.client.get(path).headers["cache-control"] == "private, no-cache"
        response = served.client.get(path, params={"digest": digest})
        assert response.status_code == 200 and "immutable" in response.headers["cache-control"]
        problem(served.client.get(path, params={"digest": "0" * 64}), 404)
        problem(served.client.get(path, params={"digest": "x"}), 422)


def test_a_damaged_file_is_told_without_its_path(served: Served):
    served.upload(1)
    served.services.pictures.path(served.store.state().image("i1").digest).write_bytes(png(1)[:60])
    told = problem(served.client.get("/api/images/i1/preview?side=16"), 422)["detail"]
    assert "damaged" in told and str(served.folder) not in told


def test_rasters_and_heat(drawn: Served):
    state = drawn.store.state()
    digest = state.get("mask/i1/c1").raster
    response = drawn.client.get(f"/api/rasters/{digest}")
    assert response.content == labels_png(drawn.store.raster(digest))
    assert "immutable" in response.headers["cache-control"]
    known = {"If-None-Match": response.headers["etag"]}
    assert drawn.client.get(f"/api/rasters/{digest}", headers=known).status_code == 304
    heat = state.get("found/i2").classes["c1"].heat
    drawn_heat = PIL.Image.open(io.BytesIO(drawn.client.get(f"/api/heat/{heat}").content))
    assert drawn_heat.mode == "L"
    np.testing.assert_array_equal(np.array(drawn_heat), drawn.store.heat(heat))
    for kind in ("rasters", "heat"):
        problem(drawn.client.get(f"/api/{kind}/{'0' * 64}"), 404)
        problem(drawn.client.get(f"/api/{kind}/0"), 422)


def test_view_and_matching(drawn: Served):
    assert drawn.client.post("/api/view", json={"image": "i2"}).json() == {"ok": True}
    assert drawn.client.post("/api/view", json={"image": None}).json() == {"ok": True}
    problem(drawn.client.post("/api/view", json={"image": "i9"}), 404)
    problem(drawn.client.post("/api/matching", json={"action": "jump"}), 422)
    drawn.models.gate.clear()
    drawn.run({"do": "edit_project", "seed": 5})
    assert drawn.client.post("/api/matching", json={"action": "cancel"}).status_code == 200
    while drawn.services.live.since(0)[1]["live/job"]["state"] != "cancelled":
        time.sleep(0.01)
    drawn.models.gate.set()
    drawn.settle()
    job = drawn.client.get("/api/state").json()["live"]["live/job"]
    assert job["state"] == "cancelled" and job["waiting"] >= 1
    assert drawn.client.post("/api/matching", json={"action": "start"}).status_code == 200
    drawn.settle()
    assert drawn.client.get("/api/state").json()["live"]["live/job"]["state"] == "idle"


def test_the_record(drawn: Served):
    whole = drawn.client.get("/api/log?limit=1000").json()["entries"]
    assert [entry["seq"] for entry in whole] == list(range(1, drawn.store.state().seq + 1))
    parts, after = [], 0
    while entries := drawn.client.get(f"/api/log?after={after}&limit=2").json()["entries"]:
        parts += entries
        after = entries[-1]["seq"]
    assert parts == whole
    folded = {}
    for entry in whole:
        folded.update(entry["changes"])
    docs = drawn.client.get("/api/state").json()["docs"]
    assert {key: document for key, document in folded.items() if document is not None} == docs
    assert any(entry["what"].get("do") == "add_prompt" and entry["at"] for entry in whole)
    for query in ("after=-1", "limit=0", "limit=1001", "after=x"):
        problem(drawn.client.get(f"/api/log?{query}"), 422)


def test_info(served: Served):
    info = served.client.get("/api/info").json()
    assert info["backend"] == "fake" and info["ready"] and info["limits"]["upload_bytes"] == 50_000_000
    names = {one["name"] for one in info["formats"]}
    assert {"coco", "yolo", "labelme", "cvat"} <= names


def test_not_ready(served: Served, monkeypatch):
    monkeypatch.setattr(type(served.services.engine), "ready", property(lambda _: False))
    response = served.client.get("/readyz")
    problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    failed = property(lambda _: InputError("/secret/weights"))
    monkeypatch.setattr(type(served.services.engine), "error", failed)
    # It is asked without a token.
    assert "secret" not in str(problem(served.client.get("/readyz"), 503))
    assert served.client.get("/healthz").status_code == 200


def test_metrics(drawn: Served):
    drawn.client.get("/api/images/i1/preview?side=20")
    drawn.client.get("/api/images/i2/preview?side=20")
    drawn.client.get("/nothing")
    text = drawn.client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    route = 'method="GET",route="/api/images/{image}/preview",status="200"'
    assert figures[f"softmatch_requests_total{{{route}}}"] == "2.0"
    assert figures['softmatch_requests_total{method="GET",route="none",status="404"}'] == "1.0"
    assert figures['softmatch_engine_answers_total{kind="matching",outcome="ok"}'] == "2.0"
    assert float(figures['softmatch_engine_seconds_total{kind="completion"}']) == pytest.approx(0.01)
    assert float(figures["softmatch_entries"]) == drawn.store.state().seq
    assert (
        float(figures["softmatch_engine_capacity"]) == 256 and float(figures["softmatch_engine_depth"]) == 0
    )
    bucket = 'softmatch_request_seconds_bucket{le="+Inf",route="/api/commands"}'
    assert figures[bucket] == "2.0"


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("secret inside"), 500), (OSError(errno.ENOSPC, "No space left"), 507)],
)
def test_faults_are_told_without_their_inside(served: Served, monkeypatch, caplog, error, status):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(served.store, "run", fail)
    body = problem(served.run({"do": "add_class", "name": "a"}), status)
    assert "secret" not in str(body) and "Traceback" not in str(body)
    assert (status == 500) == ("secret inside" in caplog.text)


def test_a_full_disk_is_told_as_such(served: Served, monkeypatch):
    @contextmanager
    def full(**_):
        with writing(served.folder):
            raise OSError(errno.ENOSPC, "No space left")
        yield

    monkeypatch.setattr(served.store._connections, "transaction", full)
    for response in (served.run({"do": "add_class", "name": "a"}), served.upload(1)):
        told = problem(response, 507)["detail"]
        assert "full" in told and str(served.folder) not in told


def test_a_folder_that_cannot_be_written_is_told_by_its_name(served: Served, monkeypatch):
    @contextmanager
    def locked(**_):
        with writing(served.folder):
            raise OSError(errno.EROFS, "Read-only file system")
        yield

    monkeypatch.setattr(served.store._connections, "transaction", locked)
    told = problem(served.run({"do": "add_class", "name": "a"}), 403)["detail"]
    assert f"project in {served.folder.name} cannot" in told


def test_reading_alone(tmp_path):
    with served_app(tmp_path / "project", read_only=True) as served:
        assert served.client.get("/api/info").json()["read_only"] is True
        assert served.client.get("/api/state").status_code == 200
        for response in (
            served.run({"do": "add_class", "name": "a"}),
            served.client.post("/api/undo", json={"id": new_id()}),
            served.client.post("/api/matching", json={"action": "start"}),
            served.upload(1),
            served.client.post("/api/imports", content=b"PK"),
        ):
            problem(response, 403)
        assert not any(name.startswith("images") for name in served.files())


def test_the_description_declares_all_errors(served: Served):
    schema = served.client.get("/api/openapi.json").json()
    operations = [one for methods in schema["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations) >= 18
    for operation in operations:
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], operation["operationId"]
        assert "500" in operation["responses"] and operation.get("description")
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    run = schema["paths"]["/api/commands"]["post"]
    assert run["requestBody"]["content"].keys() == {"application/json"}
    assert {"403", "404", "409", "413", "415", "422", "429", "507"} <= run["responses"].keys()


def test_states_are_written_as_they_are(drawn: Served):
    """What is remembered from one state to the next never shows: each is as if it were the first."""
    states, live = StateEncoder(), drawn.services.live
    for step in range(4):
        state = drawn.store.state()
        assert states.encode(state, live) == StateEncoder().encode(state, live)
        docs = {key: document.model_dump(mode="json") for key, document in state.docs.items()}
        assert json.loads(states.encode(state, live))["docs"] == docs
        commands = [{**POINT, "prompt": {"kind": "point", "xy": [5, 5]}}, {"do": "reject", "image": "i2"}]
        drawn.run(commands[step % 2]) if step < 2 else drawn.client.post("/api/undo", json={"id": new_id()})
        drawn.settle()
