"""The stream over a real socket: nothing is missed, nothing is kept for those who do not read."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from serving_client import TOKEN, Events, running_server
from serving_fakes import new_id

from softmatch_jax.serve.config import LimitsConfig
from softmatch_jax.serve.live import LiveDocuments, RecentEntries


@pytest.fixture
def running(tmp_path):
    with running_server(tmp_path / "project") as made:
        yield made


def add_class(client, name):
    response = client.post(
        "/api/commands", json={"id": new_id(), "command": {"do": "add_class", "name": name}}
    )
    assert response.status_code == 200, response.text
    return response.json()


def test_hello_then_what_is_live_then_what_happens(running):
    with running.client() as client, running.client() as other:
        events = Events(client)
        assert events.response.headers["content-type"].startswith("text/event-stream")
        seq = running.store.state().seq
        assert events.next() == ("hello", {"boot": running.store.boot, "seq": seq}, None)
        name, live, _ = events.next()
        assert name == "live" and live.keys() == {"live/engine", "live/job"}
        done = add_class(other, "duck")
        name, entry, number = events.next()
        assert name == "entry" and number == seq + 1
        assert entry == done
        events.close()


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_page_that_comes_back_misses_nothing(running, after):
    with running.client() as client, running.client() as other:
        for number in range(5):
            add_class(other, f"class {number}")
        events = Events(client, after=after)
        last = running.store.state().seq
        entries = events.entries(last)
        assert [entry["seq"] for entry in entries] == list(range(after + 1, last + 1))
        events.close()
        # What the browser says when it comes back counts more than the address it first asked for.
        events = Events(client, after=after, **{"Last-Event-ID": str(last - 1)})
        assert [entry["seq"] for entry in events.entries(last)] == [last]
        events.close()


def test_nothing_is_missed_while_others_write(running):
    """Pages that come and go at any moment, two writers: each entry once, in order."""
    seen, wrong = {}, []

    def follow(name):
        with running.client() as client:
            last = 0
            while last < 62:
                events = Events(client, after=last)
                for _ in range(7):
                    event = events.next()
                    if event[0] == "entry":
                        if event[2] != last + 1:
                            wrong.append((name, last, event[2]))
                        last = event[2]
                    if last >= 62:
                        break
                events.close()
            seen[name] = last

    def write(name):
        with running.client() as client:
            for number in range(31):
                add_class(client, f"{name} {number}")

    threads = [threading.Thread(target=follow, args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=write, args=(n,)) for n in ("a", "b")]
    assert running.store.state().seq == 1
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and seen.keys() == {0, 1, 2}


def test_a_gap_that_is_too_long_is_reset(tmp_path):
    limits = LimitsConfig(replay=3)
    with running_server(tmp_path / "project", limits=limits) as running, running.client() as client:
        for number in range(6):
            add_class(client, f"class {number}")
        for after in (0, 3, 8, 10**15):
            events = Events(client, after=after)
            last = running.store.state().seq
            assert events.next()[0] == "hello"
            assert events.next() == ("reset", {"boot": running.store.boot, "seq": last}, None)
            events.close()
        events = Events(client, after=4)
        assert [entry["seq"] for entry in events.entries(7)] == [5, 6, 7]
        events.close()


def test_entries_that_memory_forgot_are_read_from_the_log(running):
    hub = running.app.state.services.hub
    hub._recent = RecentEntries(running.store.state().seq, most=2)
    with running.client() as client, running.client() as other:
        for number in range(8):
            add_class(other, f"class {number}")
        events = Events(client, after=1)
        assert [entry["seq"] for entry in events.entries(9)] == list(range(2, 10))
        events.close()


def test_signs_of_life_and_streams_that_end(tmp_path):
    limits = LimitsConfig(heartbeat_s=0.05, streams=2)
    with running_server(tmp_path / "project", limits=limits) as running:
        with running.client() as client:
            events = [Events(client), Events(client)]
            assert events[0].until("comment")[-1][0] == "comment"
            refused = client.get("/api/events")
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
            for one in events:
                one.close()
        wait_for(lambda: running.app.state.services.hub.streams == 0)


def wait_for(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def open_stream(running):
    """A page that asks for the stream and does not read it."""
    page = socket.create_connection(("127.0.0.1", running.port))
    page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    page.sendall(head.encode())
    wait_for(lambda: running.app.state.services.hub.streams == 1)
    return page


def test_a_page_that_does_not_read_is_cut_off(tmp_path):
    limits = LimitsConfig(send_s=0.2)
    with running_server(tmp_path / "project", limits=limits) as running, open_stream(running):
        hub, live = running.app.state.services.hub, running.app.state.services.live
        started = time.monotonic()
        while hub.streams and time.monotonic() < started + 20:
            live.put("live/noise", {"text": str(time.monotonic()) * 50_000})
            time.sleep(0.01)
        assert hub.streams == 0
        with running.client() as client:
            assert client.get("/api/state").status_code == 200


def test_a_page_that_leaves_is_forgotten(running):
    open_stream(running).close()
    wait_for(lambda: running.app.state.services.hub.streams == 0)


def test_an_upload_that_is_broken_off_leaves_nothing(running):
    folder = running.store.folder
    url = f"/api/images?name=a.png&id={new_id()}"
    before = {path for path in folder.rglob("*") if path.is_file()}
    with socket.create_connection(("127.0.0.1", running.port)) as page:
        head = f"POST {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        page.sendall(f"{head}Content-Length: 3000000\r\n\r\n".encode() + b"\x89PNG" + b"x" * 2_000_000)
        wait_for(lambda: {path for path in folder.rglob("*") if path.is_file()} - before)
    wait_for(lambda: not {p for p in folder.rglob("*") if p.is_file()} - before)
    assert not running.store.state().of("image")


def test_a_restart_under_an_open_page(tmp_path):
    with running_server(tmp_path / "project") as running:
        boot, port = running.store.boot, running.port
        with running.client() as client:
            add_class(client, "before")
            events = Events(client)
            assert events.next()[1]["boot"] == boot
            started = time.monotonic()
            running.stop()
            # The stream ends by itself, at once and whole.
            while events.next() is not None:
                pass
            assert time.monotonic() - started < 4
            with pytest.raises(httpx.ConnectError):
                client.get("/healthz")
    with running_server(tmp_path / "project", port=port) as running, running.client() as client:
        events = Events(client, **{"Last-Event-ID": "2"})
        hello = events.next()[1]
        assert hello["boot"] != boot and hello["seq"] == 2
        add_class(client, "after")
        assert [entry["seq"] for entry in events.entries(3)] == [3]
        events.close()


def test_the_store_is_never_asked_on_the_event_loop(running, monkeypatch):
    on_loop, names = [], set()

    def watch(owner, name):
        call = getattr(owner, name)

        def watching(*args, **kwargs):
            names.add(name)
            if threading.current_thread() is running.thread:
                on_loop.append(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, name, watching)

    services = running.app.state.services
    for name in ("run", "undo", "redo", "entries", "state", "add_image", "raster_png", "heat_png"):
        watch(running.store, name)
    for name in ("preview", "path"):
        watch(services.pictures, name)
    with running.client() as client:
        from serving_fakes import png

        add_class(client, "duck")
        client.post(f"/api/images?name=a&id={new_id()}", content=png(1))
        for step in ("undo", "redo"):
            assert client.post(f"/api/{step}", json={"id": new_id()}).status_code == 200
        for path in ("state", "log", "info", "images/i1/file", "images/i1/preview", "exports/coco/losses"):
            client.get(f"/api/{path}")
        for path in ("rasters", "heat"):
            client.get(f"/api/{path}/{'0' * 64}")
        client.post("/api/view", json={"image": "i1"})
        client.get("/metrics")
        events = Events(client, after=0)
        events.entries(2)
        events.close()
    assert on_loop == [] and len(names) >= 10


def test_live_documents_are_told_once_and_only_when_they_change():
    live, heard = LiveDocuments(), []
    live.listen(lambda: heard.append(1))
    live.put("live/a", {"x": 1})
    live.put("live/a", {"x": 1})
    version, documents = live.since(0)
    assert documents == {"live/a": {"x": 1}} and len(heard) == 1
    assert live.since(version) == (version, {})
    live.put("live/b", {"x": 2})
    assert live.since(version)[1] == {"live/b": {"x": 2}}


def test_recent_entries_know_what_they_forgot():
    recent = RecentEntries(5, most=3)
    assert recent.after(5) == [] and recent.after(9) == []
    assert recent.after(4) is None
    for seq in (6, 7, 7, 6):
        recent.add(seq, b"%d" % seq)
    assert recent.after(5) == [(6, b"6"), (7, b"7")] and recent.after(6, 1) == [(7, b"7")]
    for seq in (8, 9):
        recent.add(seq, b"")
    assert recent.after(5) is None and [seq for seq, _ in recent.after(6)] == [7, 8, 9]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_process_stops_when_told_with_a_page_open(tmp_path, how):
    words = ["--project", str(tmp_path / "project"), "--port", "0", "--token", TOKEN]
    process = subprocess.Popen(
        [sys.executable, "-m", "softmatch_jax", "serve", "--no-browser", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            events = Events(client)
            assert events.next()[0] == "hello"
            add_class(client, "duck")
            process.send_signal(how)
            assert process.wait(20) == 0
            while events.next() is not None:
                pass
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_served_ends_with_a_sentence(tmp_path):
    words = ["--project", str(tmp_path / "project"), "--host", "0.0.0.0"]
    run = subprocess.run(
        [sys.executable, "-m", "softmatch_jax", "serve", "--no-browser", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2 and "--token" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "project").exists()
