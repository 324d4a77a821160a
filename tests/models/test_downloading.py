"""Fetching from a small hub and a small web server on this machine, and all that may go wrong."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler

import pytest
from tiny_checkpoints import COMMIT, flip_a_bit, refused, serving, snapshot, write_dinov2

from softmatch_jax.models import downloading
from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoints import (
    cached,
    checkpoint_cache,
    fetch,
    hub_cache,
    locate,
)
from softmatch_jax.models.downloading import download_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and no word about offline."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path / "own"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_dinov2(tmp_path_factory.mktemp("written") / "dinov2")


class Hub:
    """What a hub would answer: files by name, and faults to order."""

    def __init__(self):
        self.files, self.status, self.code, self.wait, self.asked = {}, 200, "", 0.0, []


@pytest.fixture
def hub(monkeypatch):
    """A small hub on this machine, for the client to talk to."""
    constants = pytest.importorskip("huggingface_hub.constants")
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body, status=200, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            time.sleep(hub.wait)
            if hub.status != 200:
                self.answer(b"{}", hub.status, **({"X_Error_Code": hub.code} if hub.code else {}))
            elif "/tree/" in path:
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in hub.files.items()
                ]
                self.answer(json.dumps(tree).encode(), Content_Type="application/json")
            elif path.startswith("/api/"):
                listing = [{"rfilename": name} for name in hub.files]
                info = {"id": "a/b", "sha": COMMIT, "siblings": listing, "tags": [], "downloads": 0}
                self.answer(json.dumps(info).encode(), Content_Type="application/json")
            else:
                data = hub.files[path.rpartition("/")[2]]
                self.answer(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=COMMIT)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    with serving(Handler) as endpoint:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


class TestFromTheHub:
    def test_what_is_not_cached_is_fetched_once(self, hub, written, capfd):
        hub.files = {file.name: file.read_bytes() for file in written.iterdir()}
        hub.files |= {"pytorch_model.bin": b"not wanted", "README.md": b"nor this"}
        found = locate("a/b")
        assert capfd.readouterr() == ("", "")
        assert found.revision == COMMIT and found.path == hub_cache() / "models--a--b/snapshots" / COMMIT
        assert {file.name for file in found.path.iterdir()} == {"config.json", "model.safetensors"}
        assert (found.path / "config.json").read_bytes() == hub.files["config.json"]
        hub.asked.clear()
        assert locate("a/b") == found and hub.asked == []
        assert locate("a/b", offline=True) == found

    def test_what_is_missing_is_fetched(self, hub, written):
        hub.files = {file.name: file.read_bytes() for file in written.iterdir()}
        snapshot("a/b", [written / "config.json"])
        assert (locate("a/b").path / "model.safetensors").is_file()
        assert fetch("a/b") == locate("a/b", offline=True)

    def test_no_safetensors(self, hub):
        hub.files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
        refused(lambda: locate("a/b"), "a/b on the hub has no model.safetensors", "save_pretrained")
        hub.files = {"model.gguf": b"x"}
        refused(lambda: locate("a/b"), "has no config.json")
        assert cached("a/b") is None

    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (404, "RepoNotFound", "a/b does not exist on the hub, or is private"),
            (401, "RepoNotFound", "a/b does not exist on the hub, or is private"),
            (403, "GatedRepo", "a/b is gated"),
            (404, "RevisionNotFound", "a/b has no revision v9"),
            (403, "", "the hub answered 403; log in"),
            (503, "", "the hub answered 503; try again later"),
        ],
    )
    def test_refusals(self, hub, status, code, said):
        hub.status, hub.code = status, code
        refused(lambda: locate("a/b", revision="v9"), said)

    def test_a_silent_hub_is_given_up(self, hub, monkeypatch):
        monkeypatch.setattr(downloading, "_TIMEOUT", 0.2)
        hub.wait = 1.0
        clock = time.perf_counter()
        refused(lambda: locate("a/b"), "the hub cannot be reached", "softmatch models fetch a/b")
        assert time.perf_counter() - clock < 1.0

    def test_no_network(self, hub, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        refused(lambda: locate("a/b"), "the hub cannot be reached", "local folder")

    def test_the_client_was_told_to_stay_offline(self, hub, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        refused(lambda: locate("a/b", offline=False), "HF_HUB_OFFLINE is set")

    @pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
    def test_the_environment_says_offline_after_the_client_was_imported(self, hub, monkeypatch, variable):
        monkeypatch.setenv(variable, "1")
        refused(lambda: fetch("a/b"), f"a/b cannot be fetched because {variable} is set; unset it")
        assert hub.asked == []

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OSError(28, "No space left on device"), "does not fit on the disk"),
            (RuntimeError("IO error: No space left on device (os error 28)"), "does not fit on the disk"),
            (PermissionError(13, "Permission denied"), "cannot be written"),
            (http.client.IncompleteRead(b"a"), "the hub cannot be reached"),
            (ssl.SSLError("wrong version number"), "the hub cannot be reached"),
        ],
    )
    def test_faults_while_fetching(self, hub, written, monkeypatch, error, said):
        def failing(*args, **kwargs):
            raise error

        hub.files = {file.name: b"x" for file in written.iterdir()}
        monkeypatch.setattr("huggingface_hub.snapshot_download", failing)
        said = refused(lambda: locate("a/b"), said)
        assert (str(hub_cache()) in said) == ("disk" in said or "written" in said)

    def test_our_own_faults_pass(self, hub, written, monkeypatch):
        def failing(*args, **kwargs):
            raise RuntimeError("a bug")

        hub.files = {file.name: b"x" for file in written.iterdir()}
        monkeypatch.setattr("huggingface_hub.snapshot_download", failing)
        with pytest.raises(RuntimeError, match="a bug"):
            locate("a/b")


@pytest.fixture
def published(monkeypatch):
    """A server of one file, whose catalogue entry points to it; ``answers`` says what it does."""
    answers = {"body": b"weights" * 300_000, "status": 200, "length": None}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answers["status"])
            length = answers["length"] or len(answers["body"])
            if length > 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answers["body"])

        def log_message(self, *args):
            pass

    with serving(Handler) as address:
        name = "sam_vit_b_01ec64.pth"
        md5 = hashlib.md5(answers["body"]).hexdigest()
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], url=f"{address}/{name}", md5=md5))
        yield answers


class TestPublishedFiles:
    NAME = "sam_vit_b_01ec64.pth"

    def left(self):
        return [path.name for path in checkpoint_cache().glob("*")]

    def test_success(self, published):
        seen = []
        found = fetch(self.NAME, report=lambda done, total: seen.append((done, total)))
        size = len(published["body"])
        assert found.path == checkpoint_cache() / self.NAME
        assert found.path.read_bytes() == published["body"] and self.left() == [self.NAME]
        assert seen[-1] == (size, size) and seen == sorted(seen) and len(seen) > 1
        assert locate(self.NAME, offline=True) == found

    def test_without_a_length(self, published):
        published["length"] = -1
        assert fetch(self.NAME).path.read_bytes() == published["body"]

    def test_what_is_whole_is_kept_and_what_is_not_replaced(self, published):
        path = fetch(self.NAME).path
        published["status"] = 500
        assert fetch(self.NAME).path == path
        flip_a_bit(path)
        refused(lambda: fetch(self.NAME), "the server answered 500")
        published["status"] = 200
        fetch(self.NAME)
        assert path.read_bytes() == published["body"]

    def test_another_content(self, published):
        published["body"] = b"other" * 100
        refused(lambda: fetch(self.NAME), "md5 checksum", CATALOGUE[self.NAME].md5, "nothing was kept")
        assert self.left() == []

    def test_cut_short(self, published):
        published["length"] = len(published["body"]) + 5
        refused(lambda: fetch(self.NAME), "ended after 2,100,000 of 2,100,005 bytes")
        assert self.left() == []

    def test_not_there(self, published):
        published["status"] = 404
        refused(lambda: fetch(self.NAME), CATALOGUE[self.NAME].url, "the server answered 404 Not Found")
        assert self.left() == []

    def test_no_server(self, tmp_path):
        url = "http://127.0.0.1:9/a.pth"
        refused(lambda: download_file(url, tmp_path / "a.pth", md5=""), url, "check the network")

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc",  # IncompleteRead
            b"nonsense\r\n\r\n",  # BadStatusLine
            b"",  # RemoteDisconnected
        ],
    )
    def test_what_is_not_http(self, tmp_path, answer):
        class Handler(BaseRequestHandler):
            def handle(self):
                self.request.recv(4096)
                self.request.sendall(answer)

        with serving(Handler) as address:
            url = f"{address}/a.pth"
            refused(lambda: download_file(url, tmp_path / "a.pth", md5=""), url, "broke off", "the network")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("error", [ssl.SSLError("decryption failed"), OSError(113, "No route to host")])
    def test_the_network_fails_while_reading(self, published, monkeypatch, error):
        def failing(*_):
            raise error

        monkeypatch.setattr(http.client.HTTPResponse, "read", failing)
        refused(lambda: fetch(self.NAME), CATALOGUE[self.NAME].url, "broke off", "check the network")
        assert self.left() == []

    @pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
    def test_offline(self, published, monkeypatch, variable):
        monkeypatch.setenv(variable, "1")
        refused(lambda: fetch(self.NAME), f"because {variable} is set; unset it")
        monkeypatch.delenv(variable)
        path = fetch(self.NAME).path
        monkeypatch.setenv(variable, "true")
        assert fetch(self.NAME).path == path
        flip_a_bit(path)
        refused(lambda: fetch(self.NAME), f"because {variable} is set; unset it")

    def test_no_room(self, published):
        published["length"] = 10**18
        refused(lambda: fetch(self.NAME), "has 1,000,000,000,000,000,000 bytes", "SOFTMATCH_CACHE")
        assert self.left() == []

    def test_the_disk_fills_up(self, published, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        refused(lambda: fetch(self.NAME), "does not fit on the disk")
        assert self.left() == []

    def test_a_cache_that_is_a_file(self, published):
        checkpoint_cache().parent.mkdir()
        checkpoint_cache().write_text("")
        refused(lambda: fetch(self.NAME), "cannot be written", str(checkpoint_cache()))

    def test_an_interruption_leaves_nothing(self, published):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(self.NAME, report=stop)
        assert self.left() == []

    def test_what_cannot_be_fetched(self):
        refused(lambda: fetch(self.NAME, revision="main"), "has no revisions")
        refused(lambda: fetch("dinov2-smal"), "did you mean facebook/dinov2-small?")
        refused(lambda: fetch("./a.pth"), "cannot be fetched")


def test_the_catalogue():
    for name, model in CATALOGUE.items():
        assert (model.url is None) == (model.md5 is None) == ("/" in name)
        if model.md5 is not None:
            assert model.url.endswith("/" + name) and name.endswith(f"_{model.md5[:6]}.pth")
    dims = {name.removeprefix("openai/clip-vit-"): model.dim for name, model in CATALOGUE.items()}
    # Of the space that phrases are in, not of the tokens, which have 768, 768 and 1024.
    assert (dims["base-patch16"], dims["base-patch32"], dims["large-patch14"]) == (512, 512, 768)
