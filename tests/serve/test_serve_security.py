"""Who is let in: hosts, origins, tokens, rates, sizes."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from serving_client import TOKEN, Events, Served, running_server, served_app
from serving_fakes import new_id, png

from softmatch_jax._checks import InputError
from softmatch_jax.serve.config import LimitsConfig, ServeConfig
from softmatch_jax.serve.running import address_of, kept_token, listen
from softmatch_jax.serve.web.limits import RateLimiter
from softmatch_jax.serve.web.security import allowed_hosts, host_name, same_token

COMMAND = {"do": "add_class", "name": "duck"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    # Wrong tokens use up what one client may ask, and here they all come from one.
    limits = LimitsConfig(burst=1_000_000)
    with served_app(tmp_path_factory.mktemp("security") / "project", limits=limits) as made:
        yield made


def is_problem(response, status):
    body = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status and body["detail"] and body["title"] and body["type"] == "about:blank"
    assert body["instance"] == response.request.url.path
    return body


def test_without_the_token_nothing_is_told(served: Served):
    paths = [path for path in served.app.openapi()["paths"] if path not in ("/healthz", "/readyz")]
    assert len(paths) > 15
    for path in [*paths, "/api/openapi.json", "/page/style.css", "/nothing"]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            is_problem(served.stranger.get(path, headers=headers), 401)
    assert served.stranger.get("/healthz").json() == {"status": "ok"}
    assert served.stranger.get("/readyz").status_code == 200


def test_the_token_in_the_address_becomes_a_cookie(served: Served):
    browser = served.new_client()
    response = browser.get(f"/?token={TOKEN}", follow_redirects=False)
    assert response.status_code == 303 and response.headers["location"] == "/"
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert browser.get("/api/state").status_code == 200
    page = browser.get("/")
    assert page.status_code == 200 and "<html" in page.text
    assert browser.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    browser = served.new_client()
    # A strict cookie would not come along a redirect from there.
    linked = browser.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": "cross-site"})
    assert linked.status_code == 200 and 'http-equiv="refresh"' in linked.text and TOKEN not in linked.text
    assert browser.get("/api/state").status_code == 200


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%C3%A9"])
def test_the_page_says_what_to_do_without_a_token(served: Served, query):
    response = served.new_client().get(f"/{query}")
    assert response.status_code == 401 and "?token=" in response.text
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:80", "[::2]"])
def test_other_names_are_refused(served: Served, host):
    for path in ("/", "/healthz", "/api/state"):
        is_problem(served.client.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8000", "localhost."])
def test_own_names_are_taken(served: Served, host):
    assert served.client.get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[bad"},
        {"Origin": "file://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_change_nothing(served: Served, headers):
    before = served.store.state().seq
    for path in ("/api/commands", "/api/undo", "/api/images?name=a&id=" + new_id()):
        body = {"id": new_id(), "command": COMMAND}
        is_problem(served.client.post(path, json=body, headers=headers), 403)
    assert served.store.state().seq == before


def test_other_sites_cannot_use_up_what_the_page_may_ask(tmp_path):
    with served_app(tmp_path / "project", limits=LimitsConfig(rate=0.5, burst=5)) as served:
        for site in ("cross-site", "same-site"):
            for path in ("/api/state", "/api/images/i1/file", "/page/style.css", "/metrics"):
                is_problem(served.stranger.get(path, headers={"Sec-Fetch-Site": site}), 403)
        assert [served.client.get("/api/info").status_code for _ in range(5)] == [200] * 5


def test_the_own_page_changes_things(served: Served):
    headers = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    body = {"id": new_id(), "command": {"do": "add_class", "name": "own"}}
    assert served.client.post("/api/commands", json=body, headers=headers).status_code == 200


def test_every_response_carries_the_headers(served: Served):
    for client, path in (
        (served.client, "/"),
        (served.client, "/api/state"),
        (served.client, "/nothing"),
        (served.stranger, "/api/state"),
        (served.stranger, "/"),
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "private, no-cache")
        assert "access-control-allow-origin" not in headers


def test_paths_do_not_lead_out_of_the_page(served: Served):
    for path in ("..%2fconfig.py", "%2e%2e/config.py", "x%2f..%2f..%2fconfig.py", "/etc/passwd", "a.py", ""):
        is_problem(served.client.get("/page/" + path), 404)


def test_too_many_requests_are_told_to_wait(tmp_path):
    limits = LimitsConfig(rate=0.5, burst=5)
    with served_app(tmp_path / "project", limits=limits) as served:
        answers = [served.client.get("/api/info") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        is_problem(answers[-1], 429)
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert served.stranger.get("/healthz").status_code == 200


def test_wrong_tokens_cost_more(tmp_path):
    with served_app(tmp_path / "project", limits=LimitsConfig(rate=0.5, burst=45)) as served:
        wrong = {"Authorization": "Bearer wrong"}
        statuses = [served.stranger.get("/api/state", headers=wrong).status_code for _ in range(4)]
        assert statuses == [401, 401, 429, 429]


def test_guesses_in_the_pages_address_cost_as_much(tmp_path):
    with served_app(tmp_path / "project", limits=LimitsConfig(rate=0.5, burst=45)) as served:
        statuses = [served.stranger.get("/", params={"token": f"guess {n}"}).status_code for n in range(4)]
        assert statuses == [401, 401, 429, 429]
        assert served.client.get("/").status_code == 200


def test_large_bodies_are_refused_and_leave_nothing(tmp_path):
    limits = LimitsConfig(upload_bytes=5000, json_bytes=2000, import_bytes=3000)
    with served_app(tmp_path / "project", limits=limits) as served:
        before = served.files()
        image = f"/api/images?name=a.png&id={new_id()}"
        for path, size in ((image, 5001), ("/api/imports", 3001), ("/api/commands", 2001)):
            for body in (b"x" * size, iter([b"x" * 500] * (size // 500 + 1))):
                headers = {"Content-Type": "application/json" if "commands" in path else "image/png"}
                is_problem(served.client.post(path, content=body, headers=headers), 413)
        assert served.files() == before
        assert served.client.post(image, content=png(1)).status_code == 201


def test_buckets_fill_again():
    now = 0.0
    limiter = RateLimiter(2, 4, clock=lambda: now)
    assert [limiter.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert limiter.take("b") == 0
    now = 0.5
    assert limiter.take("a") == 0 and limiter.take("a") == 0.5
    now = 100.0
    assert [limiter.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_forgotten_clients_are_those_not_seen_for_longest(monkeypatch):
    monkeypatch.setattr("softmatch_jax.serve.web.limits._MOST_CLIENTS", 2)
    limiter = RateLimiter(1e-9, 1)
    assert limiter.take("a") == limiter.take("b") == 0
    assert limiter.take("a") > 0
    assert limiter.take("c") == 0  # forgets b
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0


def test_names_of_hosts():
    assert host_name("LocalHost:80") == "localhost" and host_name("[::1]:80") == "[::1]"
    assert host_name("[::1]") == "[::1]" and host_name("a.b:x") == "a.b:x"
    config = ServeConfig(project="p", host="::1", allow_hosts=("Label.example",))
    assert {"label.example", "[::1]", "localhost"} <= allowed_hosts(config)


def test_tokens_are_compared_whole():
    assert same_token("secret", "secret")
    for wrong in ("", "secre", "secrett", "Secret", "sécret", "\udcff"):
        assert not same_token(wrong, "secret")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "label.example"])
def test_other_machines_need_a_token_of_the_users_own(host, tmp_path):
    with pytest.raises(InputError, match="--token"):
        ServeConfig(project=tmp_path, host=host)
    with pytest.raises(InputError, match="at least 16"):
        ServeConfig(project=tmp_path, host=host, token="short")
    ServeConfig(project=tmp_path, host=host, token="x" * 16)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_none(host, tmp_path):
    ServeConfig(project=tmp_path, host=host)


@pytest.mark.parametrize(
    "wrong", [{"port": 70000}, {"port": -1}, {"token": ""}, {"token": "a\nb"}, {"token": "é" * 20}]
)
def test_settings_that_cannot_be(wrong, tmp_path):
    with pytest.raises(InputError, match=r"--port|--token"):
        ServeConfig(project=tmp_path, **wrong)


def test_an_open_address_takes_addresses_but_no_foreign_names(tmp_path):
    config = {"host": "0.0.0.0", "token": TOKEN, "allow_hosts": ("label.example",)}
    with served_app(tmp_path / "project", **config) as served:
        for host, status in (("10.0.0.7:80", 200), ("[fe80::1]", 200), ("label.example", 200), ("evil", 421)):
            assert served.client.get("/api/state", headers={"Host": host}).status_code == status


def test_the_kept_token_is_for_its_owner_alone_and_stays(tmp_path):
    assert kept_token(tmp_path, keep=False) != kept_token(tmp_path, keep=False)
    assert not list(tmp_path.iterdir())
    token = kept_token(tmp_path)
    assert len(token) >= 32 and kept_token(tmp_path) == token
    file = tmp_path / "token"
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("short")
    assert kept_token(tmp_path) not in (token, "short")
    assert len(kept_token(tmp_path / "missing")) >= 32


def test_a_port_that_is_taken_is_said():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match="another with --port"):
            listen("127.0.0.1", port)
        assert address_of("::1", port, "a b") == f"http://[::1]:{port}/?token=a%20b"
    with pytest.raises(InputError, match="--host"):
        listen("no such host", 0)


def test_more_at_once_than_can_be_answered(tmp_path):
    limits = LimitsConfig(at_once=2)
    with running_server(tmp_path / "project", limits=limits) as running, running.client() as client:
        store, gate, begun = running.store, threading.Event(), threading.Semaphore(0)
        state = store.state()

        def slow():
            begun.release()
            assert gate.wait(10)
            return state

        store.state = slow
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.get("/api/state").status_code))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
            assert begun.acquire(timeout=10)
        is_problem(client.get("/api/state"), 429)
        assert client.get("/healthz").status_code == 200
        gate.set()
        for thread in threads:
            thread.join(10)
        assert answers == [200, 200] and client.get("/api/state").status_code == 200
        del store.state


def test_a_client_that_pauses_in_a_body_is_not_waited_for(tmp_path):
    limits = LimitsConfig(receive_s=0.2)
    with running_server(tmp_path / "project", limits=limits) as running:
        before = {path for path in running.store.folder.rglob("*") if path.is_file()}
        with socket.create_connection(("127.0.0.1", running.port)) as page:
            head = f"POST /api/images?name=a&id={new_id()} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: 5000000\r\n\r\n"
            page.sendall(head.encode() + b"x" * 2_000_000)
            page.settimeout(10)
            assert page.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert {path for path in running.store.folder.rglob("*") if path.is_file()} == before
        # A stream pauses as long as it likes: its body is over.
        with running.client() as client:
            events = Events(client)
            assert events.next()[0] == "hello" and events.next()[0] == "live"
            time.sleep(0.4)
            response = client.post("/api/images", params={"name": "a", "id": new_id()}, content=png(1))
            assert response.status_code == 201
            assert events.until("entry")[-1][0] == "entry"
            events.close()


def test_an_upload_of_60_mb_is_answered_and_leaves_nothing(tmp_path):
    with running_server(tmp_path / "project") as running, running.client() as client:
        before = {path for path in running.store.folder.rglob("*") if path.is_file()}
        params = {"name": "a", "id": new_id()}
        for body in (bytes(60_000_000), iter([bytes(1_000_000)] * 60)):
            is_problem(client.post("/api/images", params=params, content=body), 413)
        assert {path for path in running.store.folder.rglob("*") if path.is_file()} == before
        assert client.post("/api/images", params=params, content=png(1)).status_code == 201
