"""What verification finds: nothing in whole checkpoints, and every kind of damage in others."""

from __future__ import annotations

import hashlib
import os

import pytest
from tiny_checkpoints import flip_a_bit, snapshot, write_dinov2

from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoints import Checkpoint, checkpoint_cache, locate
from softmatch_jax.models.verification import Finding, published_md5, verify

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path / "own"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_dinov2(tmp_path_factory.mktemp("written") / "dinov2")


@pytest.fixture
def stored(written):
    """The checkpoint in the hub's cache."""
    snapshot("a/b", written.iterdir())
    return locate("a/b", offline=True)


@pytest.fixture
def published(monkeypatch):
    """Makes a published file of tensors, with its checksum in the catalogue."""

    def make(tensors):
        name = "sam_vit_b_01ec64.pth"
        checkpoint_cache().mkdir(parents=True)
        torch.save(tensors, checkpoint_cache() / name)
        digest = hashlib.md5((checkpoint_cache() / name).read_bytes()).hexdigest()
        monkeypatch.setattr("softmatch_jax.models.verification.published_md5", lambda name: digest)
        return locate(name)

    return make


def problems(checkpoint):
    return {finding.check: finding.problem for finding in verify(checkpoint) if finding.problem is not None}


def test_a_whole_snapshot(stored):
    found = [(finding.path.name, finding.check, finding.problem) for finding in verify(stored)]
    assert found == [
        ("config.json", "checksum", None),
        ("model.safetensors", "checksum", None),
        ("config.json", "config", None),
        (stored.path.name, "weights", None),
        ("model.safetensors", "tensors", None),
    ]


def test_a_whole_folder_has_no_checksums(written):
    assert [finding.check for finding in verify(locate(written))] == ["config", "weights", "tensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_flipped_bit(stored, name):
    flip_a_bit(stored.path / name, -3)
    blob = os.path.realpath(stored.path / name)
    assert "is damaged: its checksum is" in problems(stored)["checksum"]
    assert f"remove {blob}" in problems(stored)["checksum"]


def test_a_file_cut_short(stored):
    weights = stored.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert problems(stored).keys() == {"checksum", "tensors"}


def test_values_that_are_not_finite(written, tmp_path):
    tensors = safetensors_torch.load_file(written / "model.safetensors")
    tensors["layernorm.weight"][3:5] = float("nan")
    safetensors_torch.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((written / "config.json").read_bytes())
    found = problems(locate(tmp_path))
    assert "holds 2 values that are NaN or infinite in layernorm.weight" in found["tensors"]


def test_missing_files_are_findings(stored):
    partial = Checkpoint(name="a/b", path=stored.path, revision=stored.revision, kind="transformers")
    (stored.path / "model.safetensors").unlink()
    (stored.path / "config.json").unlink()
    assert "cannot be read" in problems(partial)["config"]
    assert "has no model.safetensors" in problems(partial)["weights"]


def test_a_pth_file_with_another_checksum(published):
    checkpoint = published({"a": torch.ones(3)})
    flip_a_bit(checkpoint.path)
    assert "has the md5 checksum" in problems(checkpoint)["checksum"]


def test_a_pth_file_that_is_not_sam(published):
    found = problems(published({"a": torch.ones(3)}))
    assert found.keys() == {"names"} and "SAM" in found["names"]


def test_a_pth_file_with_nan(published):
    found = problems(published({"a": torch.tensor([1.0, float("inf")])}))
    assert "holds 1 values that are NaN or infinite in a" in found["tensors"]


def test_checksums_by_name():
    assert published_md5("sam_vit_b_01ec64.pth") == CATALOGUE["sam_vit_b_01ec64.pth"].md5
    assert published_md5("sam_vit_t_abcdef.pth") == "abcdef"
    assert published_md5("mine.pth") is None and published_md5("mine_1234.pth") is None


def test_the_names_of_sam(tmp_path, monkeypatch):
    """The names and shapes of transformers' SAM pass, and a missing tensor is told; no values are needed."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SamConfig()
    with torch.device("meta"):
        tensors = transformers.SamModel(config).state_dict()
    config.save_pretrained(tmp_path)
    checkpoint = Checkpoint(name="sam", path=tmp_path, revision="none", kind="transformers")
    monkeypatch.setattr("softmatch_jax.models.verification._checks", lambda checkpoint: ())
    monkeypatch.setattr("softmatch_jax.models.verification.read_tensors", lambda checkpoint: tensors)
    assert verify(checkpoint) == [Finding(tmp_path, "names")]
    tensors.pop("mask_decoder.iou_token.weight")
    assert "mask_decoder.iou_token.weight is missing" in problems(checkpoint)["names"]
