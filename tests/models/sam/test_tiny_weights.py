"""The file of the tiny model's weights: what is written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import random_tiny
import safetensors.numpy

from softmatch_jax import InputError, __version__
from softmatch_jax.models.sam import tiny_weights as module
from softmatch_jax.models.sam.tiny_weights import load_weights, read_weights, save_weights


@pytest.fixture(scope="module")
def weights():
    return random_tiny.random_weights()


@pytest.fixture(scope="module")
def saved(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, weights, metadata={"recipe": "none", "seed": 3, "figures": 0.5})
    return path


@pytest.fixture
def shipped(saved, tmp_path, monkeypatch):
    """A package whose weights are those of the tests."""
    folder = tmp_path / "weights"
    folder.mkdir()
    data = saved.read_bytes()
    (folder / module.SHIPPED).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (folder / module.SUMS).write_text(f"{'0' * 64}  other.bin\n{digest}  {module.SHIPPED}\n")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    return folder


def test_what_is_saved_is_loaded_in_half_precision(saved, weights):
    loaded = load_weights(saved)
    assert loaded.keys() == weights.keys()
    for name, array in weights.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], array.astype(np.float16).astype(np.float32))


def test_the_file_says_what_it_is(saved):
    stored = read_weights(saved)
    assert stored.metadata == {
        "format": module.FORMAT, "preset": "tiny", "code": __version__,
        "recipe": "none", "seed": "3", "figures": "0.5",
    }  # fmt: skip
    assert stored.digest == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_equal_weights_make_equal_files_that_the_library_reads(saved, weights, tmp_path):
    again = tmp_path / "again.safetensors"
    backwards = dict(reversed(weights.items()))
    save_weights(again, backwards, metadata={"figures": 0.5, "seed": 3, "recipe": "none"})
    assert again.read_bytes() == saved.read_bytes()
    assert safetensors.numpy.load_file(again).keys() == weights.keys()


def test_the_shipped_file_is_read_by_default(shipped, saved):
    assert read_weights().digest == read_weights(saved).digest


def test_an_altered_shipped_file_is_refused(shipped):
    path = shipped / module.SHIPPED
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(
        InputError, match=r"tiny_sam\.safetensors was altered: its SHA-256 .* install the pack"
    ):
        load_weights()
    load_weights(path)  # of a file that somebody names no checksum is known


@pytest.mark.parametrize("gone", [module.SHIPPED, module.SUMS])
def test_a_missing_shipped_file(shipped, gone):
    (shipped / gone).unlink()
    with pytest.raises(
        InputError, match=f"{gone} cannot be read .*install the package again.*or name another"
    ):
        load_weights()


def test_a_list_that_does_not_name_the_file(shipped):
    (shipped / module.SUMS).write_text(f"{'0' * 64}  other.bin\n")
    with pytest.raises(InputError, match="expected none"):
        load_weights()


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors cannot be read \(No such file"):
        load_weights(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file(saved, tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"cut\.safetensors is damaged, cut short.*copy it again"):
        load_weights(path)


def altered(saved, tmp_path, arrays, metadata):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "changes", [{"preset": "base"}, {"format": "another"}, {"format": "", "preset": ""}], ids=str
)
def test_another_preset(saved, tmp_path, changes):
    stored = read_weights(saved)
    path = altered(saved, tmp_path, stored.arrays, stored.metadata | changes)
    with pytest.raises(InputError, match=r"other\.safetensors has format .*, preset .*; expected .*'tiny'"):
        load_weights(path)


def test_all_misfits_in_one_sentence(saved, tmp_path):
    stored = read_weights(saved)
    arrays = dict(stored.arrays)
    names = sorted(arrays)
    del arrays[names[0]]
    arrays["extra"] = np.zeros(3, np.float32)
    arrays[names[1]] = np.zeros((1, 2, 3), np.float32)
    path = altered(saved, tmp_path, arrays, stored.metadata)
    with pytest.raises(InputError) as caught:
        load_weights(path)
    for part in (
        f"1 missing ({names[0]})",
        "1 unexpected (extra)",
        f"1 of another shape ({names[1]} is [1, 2, 3]",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(saved, weights, tmp_path, value):
    name = max(weights, key=lambda name: weights[name].size)
    broken = weights | {name: weights[name].copy()}
    broken[name].flat[7] = value
    path = tmp_path / "broken.safetensors"
    with pytest.raises(InputError, match="NaN or infinity in 1 of"):
        save_weights(path, broken, metadata={})
    assert not path.exists()
    path = altered(saved, tmp_path, broken, read_weights(saved).metadata)
    with pytest.raises(InputError, match=rf"other\.safetensors holds NaN or infinity in 1 of .*{name}"):
        load_weights(path)


def test_what_half_precision_cannot_hold_is_not_saved(weights, tmp_path):
    name = next(iter(weights))
    with pytest.raises(InputError, match="65504"):
        save_weights(tmp_path / "w", weights | {name: np.full_like(weights[name], 1e6)}, metadata={})


def test_metadata_cannot_take_the_place_of_what_is_added(weights, tmp_path):
    with pytest.raises(InputError, match="metadata holds preset"):
        save_weights(tmp_path / "w", weights, metadata={"preset": "base"})


def test_a_head_that_is_no_document(saved, tmp_path):
    path = tmp_path / "list.safetensors"
    head = json.dumps([1]).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(InputError, match="is damaged"):
        load_weights(path)
