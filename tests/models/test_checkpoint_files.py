"""Reading tensors and configs; every kind of damage has its sentence."""

from __future__ import annotations

import json
import os
import pickle
import shlex

import pytest
from tiny_checkpoints import refused, write_dinov2

from softmatch_jax.models.checkpoints import (
    load_pretrained,
    locate,
    read_config,
    read_tensors,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_dinov2(tmp_path_factory.mktemp("written") / "dinov2")


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it that may be spoilt."""
    copy = tmp_path / "dinov2"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.fixture
def sharded(written, tmp_path):
    model = transformers.Dinov2Model.from_pretrained(written)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    return tmp_path / "sharded"


def test_the_advice_on_conversion_is_a_command_that_converts(folder, tmp_path, monkeypatch):
    model = transformers.Dinov2Model.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    source = folder.rename(tmp_path / 'it\'s $HOME "here"')
    said = refused(
        lambda: locate(source), "pytorch_model.bin", "tokenizer.json, or vocab.json and merges.txt"
    )
    command = shlex.split(said.partition("convert it with ")[2].partition(" and give")[0])
    assert command[:2] == ["python", "-c"] and command[3:] == [str(source)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["-c", *command[3:]])
    exec(command[2], {})
    converted = read_tensors(locate(tmp_path / "converted"))
    assert all(torch.equal(converted[name], value) for name, value in model.state_dict().items())


class TestTensors:
    def test_all_and_by_prefix(self, written):
        checkpoint = locate(written)
        tensors = read_tensors(checkpoint)
        model = transformers.Dinov2Model.from_pretrained(written)
        assert len(tensors) == len(model.state_dict())
        some = read_tensors(checkpoint, prefix=("layernorm.", "embeddings.cls"))
        assert set(some) == {"layernorm.weight", "layernorm.bias", "embeddings.cls_token"}
        assert torch.equal(some["layernorm.weight"], model.state_dict()["layernorm.weight"])

    def test_shards_are_one(self, written, sharded):
        whole, parts = read_tensors(locate(written)), read_tensors(locate(sharded))
        assert len(list(sharded.glob("*.safetensors"))) > 1 and whole.keys() == parts.keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
        assert locate(sharded).revision.startswith("sha256:")

    def test_bad_indices(self, sharded):
        index = sharded / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
        refused(lambda: locate(sharded), "names no safetensors files")
        index.write_text("{")
        refused(lambda: locate(sharded), "not valid JSON")

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda data: data[: len(data) // 2], "is damaged or cut short"),
            (lambda data: data[:100], "is damaged or cut short"),
            (lambda data: b"\xff" * 8 + data[8:], "is damaged or cut short"),
            (lambda data: b"", "is empty (0 bytes)"),
            (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (lambda data: b"\n<!DOCTYPE html><html></html>", "is a web page"),
        ],
    )
    def test_damaged_safetensors(self, folder, spoil, said):
        weights = folder / "model.safetensors"
        weights.write_bytes(spoil(weights.read_bytes()))
        refused(lambda: read_tensors(locate(folder)), str(weights), said)
        refused(lambda: load_pretrained(locate(folder), transformers.Dinov2Model), str(weights), said)

    def test_bad_configs(self, folder, tmp_path):
        config = folder / "config.json"
        for text, said in (("{", "not valid JSON"), ("[1]", "expected a JSON object"), ("\xff", "JSON")):
            config.write_text(text, "latin-1")
            refused(lambda: read_config(locate(folder)), str(config), said)
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
        refused(lambda: read_config(locate(tmp_path / "a.pth")), "has no config.json")


TENSORS = {"image_encoder.w": torch.arange(600.0), "mask_decoder.b": torch.ones(3, dtype=torch.bfloat16)}


class Code:
    """Unpickling it without care would run a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


class TestPickled:
    def read(self, path, content, **options):
        torch.save(content, path, **options)
        return read_tensors(locate(path))

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda plain: plain,
            lambda plain: {"model": plain, "epoch": 3},
            lambda plain: {"state_dict": {f"module.{name}": value for name, value in plain.items()}},
        ],
    )
    @pytest.mark.parametrize("new", [True, False])
    def test_state_dicts(self, tmp_path, wrap, new):
        got = self.read(tmp_path / "a.pth", wrap(TENSORS), _use_new_zipfile_serialization=new)
        assert got.keys() == TENSORS.keys()
        assert all(torch.equal(got[name], value) for name, value in TENSORS.items())

    def test_prefix(self, tmp_path):
        torch.save(TENSORS, tmp_path / "a.pth")
        assert set(read_tensors(locate(tmp_path / "a.pth"), prefix="mask_decoder.")) == {"mask_decoder.b"}

    def test_code_is_refused(self, tmp_path):
        for content in ({"model": Code()}, torch.nn.Linear(2, 2)):
            refused(lambda c=content: self.read(tmp_path / "a.pth", c), "holds code", "state_dict()")
        (tmp_path / "a.pth").write_bytes(pickle.dumps(Code(), protocol=2))
        refused(lambda: read_tensors(locate(tmp_path / "a.pth")), "holds code")

    def test_no_tensors(self, tmp_path):
        for content in ([1, 2], {"state_dict": {}}, {"a": 1}):
            refused(lambda c=content: self.read(tmp_path / "a.pth", c), "holds no tensors by name")

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda data: data[: len(data) // 2], "is damaged, cut short"),
            (lambda data: data[:3000], "is damaged, cut short"),
            (lambda data: b"", "is empty (0 bytes)"),
            (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (lambda data: b"<html><body>404</body></html>", "is a web page"),
            (lambda data: b"hello", "was not written by torch.save"),
            (lambda data: data.replace(b"data.pkl", b"atad.pkl"), "is damaged, cut short"),
        ],
    )
    def test_damage(self, tmp_path, spoil, said):
        path = tmp_path / "a.pth"
        torch.save(TENSORS, path)
        path.write_bytes(spoil(path.read_bytes()))
        refused(lambda: read_tensors(locate(path)), str(path), said)
