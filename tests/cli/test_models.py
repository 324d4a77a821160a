"""``softmatch models``: list, fetch, verify, and how each ends."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoints import checkpoint_cache, hub_cache

NAME = "sam_vit_b_01ec64.pth"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path / "own"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The entry of a published file points to one on this disk."""
    source = tmp_path / "source" / NAME
    source.parent.mkdir()
    source.write_bytes(b"weights" * 1000)
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    monkeypatch.setitem(CATALOGUE, NAME, replace(CATALOGUE[NAME], url=source.as_uri(), md5=md5))
    return source


def store(name: str, *, whole: bool) -> Path:
    """Puts a model of one tensor into the hub's cache."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    repository = hub_cache() / ("models--" + name.replace("/", "--"))
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    if whole:
        safetensors.save_file({"a": torch.ones(4)}, folder / "model.safetensors")
    return folder


def test_help(command):
    for words in ([], ["-h"], ["--help"]):
        code, out, err = command("models", *words)
        assert code == 0 and all(word in out for word in ("list", "fetch", "verify", "HF_HOME")) and err == ""
    for name, option in (("list", "--json"), ("fetch", "--revision"), ("verify", "--all-cached")):
        code, out, err = command("models", name, "--help")
        assert code == 0 and option in out and err == ""


def test_an_unknown_command(command):
    code, out, err = command("models", "remove")
    assert (code, out) == (2, "") and "'remove' is not a command; expected list, fetch or verify" in err


def test_list(command):
    folder = store("facebook/dinov2-small", whole=True)
    part = store("facebook/dinov2-base", whole=False)
    code, out, err = command("models", "list")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert rows.keys() >= CATALOGUE.keys()
    assert rows["facebook/dinov2-small"].endswith(str(folder))
    assert rows["facebook/dinov2-base"].endswith(f"in part: {part}")
    assert rows["facebook/sam-vit-huge"].split()[1:] == [
        "masks",
        "641",
        "M",
        "2.56",
        "GB",
        "Apache-2.0",
        "no",
    ]
    assert str(hub_cache()) in out and str(checkpoint_cache()) in out


def test_list_as_json(command):
    folder = store("facebook/dinov2-small", whole=True)
    code, out, err = command("models", "list", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["caches"] == {"hub": str(hub_cache()), "checkpoints": str(checkpoint_cache())}
    entries = {entry["name"]: entry for entry in document["models"]}
    assert entries.keys() == CATALOGUE.keys()
    small = entries["facebook/dinov2-small"]
    assert (small["path"], small["complete"]) == (str(folder), True)
    assert (small["dim"], small["patch"], small["licence"]) == (384, 14, "Apache-2.0")
    assert entries[NAME]["path"] is None and entries[NAME]["complete"] is None


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from softmatch_jax.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_optional_packages(*words):
    ran = subprocess.run([sys.executable, "-c", WITHOUT, "models", *words], capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def test_list_needs_no_optional_package():
    code, out, err = without_optional_packages("list")
    assert (code, err) == (0, "") and "facebook/dinov2-small" in out


def test_what_needs_optional_packages_names_the_extra():
    code, out, err = without_optional_packages("fetch", "facebook/dinov2-small")
    assert (code, out) == (2, "")
    assert "huggingface_hub is not installed" in err and "softmatch-jax[foundation]" in err


def test_fetch(command, published):
    code, out, err = command("models", "fetch", NAME)
    assert (code, out) == (0, f"{NAME}: {checkpoint_cache() / NAME}\n")
    assert err == f"{NAME}: about 375 MB\n"
    assert (checkpoint_cache() / NAME).read_bytes() == published.read_bytes()


def test_fetch_shows_progress_in_a_terminal(command, published, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    code, out, _ = command("models", "fetch", NAME)
    assert (code, out) == (0, f"{NAME}: {checkpoint_cache() / NAME}\n")


def test_fetch_of_another_content(command, published):
    published.write_bytes(b"other")
    code, out, err = command("models", "fetch", NAME)
    assert (code, out) == (2, "") and "softmatch: error: file:" in err and "nothing was kept" in err
    assert list(checkpoint_cache().iterdir()) == []


def test_fetch_of_nothing(command):
    assert command("models", "fetch").code == 2
    code, out, err = command("models", "fetch", "dinov2-small")
    assert (code, out) == (2, "") and "did you mean facebook/dinov2-small?" in err


def test_verify(command):
    folder = store("facebook/dinov2-small", whole=True)
    for words in (["facebook/dinov2-small"], ["--all-cached"], [folder]):
        code, out, err = command("models", "verify", *words)
        assert (code, err) == (0, "") and ": ok (3 checks; no checksum is known)\n" in out
    code, out, err = command("models", "verify", "facebook/dinov2-small", "--json")
    (model,) = json.loads(out)["models"]
    assert (code, err) == (0, "") and model["ok"] and model["path"] == str(folder)
    assert [finding["check"] for finding in model["findings"]] == ["config", "weights", "tensors"]


def test_verify_tells_damage(command):
    store("facebook/dinov2-small", whole=True)
    folder = store("facebook/dinov2-base", whole=False)
    for words in (["facebook/dinov2-base"], ["--all-cached"]):
        code, out, err = command("models", "verify", *words)
        assert (code, err) == (1, "")
        assert f"facebook/dinov2-base: {folder} has no model.safetensors" in out
    code, out, err = command("models", "verify", "--all-cached", "--json")
    assert code == 1 and [model["ok"] for model in json.loads(out)["models"]] == [True, False]


def test_verify_names_that_are_not_utf8(command, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.pth")
    odd.write_bytes(b"")
    code, out, err = command("models", "verify", odd)
    assert (code, err) == (1, "") and "caf\ufffd.pth is empty" in out
    code, out, err = command("models", "verify", odd, "--json")
    assert (code, err) == (1, "") and "caf\\ufffd" in out and "\\udc" not in out
    torch = pytest.importorskip("torch")
    with open(odd, "wb") as file:
        torch.save({"a": torch.ones(2)}, file)
    code, out, err = command("models", "verify", odd)
    assert err == "" and f"{tmp_path}/caf\ufffd.pth" in out


def test_verify_users_that_are_not_there(command):
    code, out, err = command("models", "verify", "~nosuchuser/x")
    assert (code, out) == (2, "") and "~nosuchuser/x was not found" in err


def test_verify_what_is_not_there(command):
    for words, said in (
        ([], "No model was given"),
        (["--all-cached"], "No cached model was found"),
        (["a/b"], "a/b is not in the cache"),
        ([NAME], f"softmatch models fetch {NAME}"),
        (["./none"], "was not found"),
    ):
        code, out, err = command("models", "verify", *words)
        assert (code, out) == (2, "") and said in err
