"""Checkpoints of random weights, the hub's cache made by hand, and a web server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoints import hub_cache

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_dinov2(folder: Path) -> Path:
    """Writes a DINOv2 of random weights as transformers does."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    transformers.Dinov2Model(transformers.Dinov2Config(**SHAPE)).save_pretrained(folder)
    return folder


def snapshot(name: str, files: Iterable[Path], commit: str = COMMIT, ref: str = "main") -> Path:
    """Puts files into the hub's cache as its client does: large ones by SHA-256, small ones as git does."""
    repository = hub_cache() / ("models--" + name.replace("/", "--"))
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    for file in files:
        data = file.read_bytes()
        small = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        digest = small if file.suffix == ".json" else hashlib.sha256(data).hexdigest()
        (repository / "blobs" / digest).write_bytes(data)
        (folder / file.name).symlink_to(repository / "blobs" / digest)
    return folder


def flip_a_bit(path: Path, position: int = -1) -> None:
    """Changes one bit of a file, also behind a link."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def refused(call: Callable[[], object], *parts: str) -> str:
    """The message of the ``InputError`` that a call ends in; it has all ``parts`` and is one line."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
    return message


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def serving(handler: type[BaseRequestHandler]) -> Iterator[str]:
    """Runs a web server inside the block; yields its address."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
