"""The file of a prompt encoder: what is written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
import small_encoder

from softmatch_jax import InputError, __version__
from softmatch_jax.models.prosam import weights as module
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.weights import (
    encoder_arrays,
    encoder_of,
    expected_shapes,
    read_encoder,
    save_encoder,
)

CONFIG = PromptEncoderConfig(channels=12, dim=8, prompts=3, heads=2, to_grid="any", initial_log_sigma=-1.5)
FAMILY = DistributionConfig(nu=3.0, dimension="element")
SAID = {"features": "descriptor(4)", "sam": "tiny-sam(x)", "recipe": "none", "seed": 3, "figures": 0.5}


@pytest.fixture(scope="module")
def encoder():
    return small_encoder.random_encoder(CONFIG)


@pytest.fixture(scope="module")
def arrays(encoder):
    return encoder_arrays(encoder)


@pytest.fixture(scope="module")
def saved(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_encoder(path, arrays, config=CONFIG, distribution=FAMILY, metadata=SAID)
    return path


def altered(saved, tmp_path, arrays=None, metadata=None):
    stored, path = read_encoder(saved), tmp_path / "other.safetensors"
    said = {name: text for name, text in (stored.metadata | (metadata or {})).items() if text is not None}
    safetensors.numpy.save_file(stored.arrays if arrays is None else arrays, path, metadata=said)
    return path


def test_what_is_saved_is_read_in_half_precision(saved, arrays):
    stored = read_encoder(saved)
    assert (stored.config, stored.distribution) == (CONFIG, FAMILY)
    assert stored.arrays.keys() == arrays.keys() == expected_shapes(CONFIG).keys()
    for name, array in arrays.items():
        assert stored.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(stored.arrays[name], array.astype(np.float16).astype(np.float32))


def test_the_file_says_what_it_is(saved):
    stored = read_encoder(saved)
    assert stored.metadata["format"] == module.FORMAT and stored.metadata["code"] == __version__
    assert {name: stored.metadata[name] for name in SAID} == {name: str(v) for name, v in SAID.items()}
    assert stored.digest == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_equal_encoders_make_equal_files(saved, arrays, tmp_path):
    again, backwards = tmp_path / "again.safetensors", dict(reversed(arrays.items()))
    save_encoder(again, backwards, config=CONFIG, distribution=FAMILY, metadata=dict(reversed(SAID.items())))
    assert again.read_bytes() == saved.read_bytes()


@pytest.mark.slow
def test_the_module_that_is_read_predicts_what_the_saved_one_does(saved, encoder, arrays):
    rng = np.random.default_rng(0)
    reference, target = rng.normal(size=(2, 4, 5, 12)).astype(np.float32)
    mask, pseudo = rng.random((2, 4, 5)).astype(np.float32)
    same, before = encoder_of(CONFIG, arrays), encoder(reference, mask, target, pseudo)
    np.testing.assert_array_equal(same(reference, mask, target, pseudo).mean, before.mean)
    loaded = read_encoder(saved).module()(reference, mask, target, pseudo)
    np.testing.assert_allclose(loaded.mean, before.mean, atol=0.02)  # half precision of all weights
    assert float(np.abs(loaded.mean - before.mean).max()) > 0
    np.testing.assert_allclose(loaded.log_sigma, before.log_sigma, atol=0.02)


@pytest.mark.parametrize(
    "changes", [{"variational": False}, {"variational": False, "extra_linear": 2}, {}], ids=str
)
def test_every_kind_of_encoder_comes_back(changes, tmp_path):
    config = PromptEncoderConfig(channels=4, dim=8, prompts=2, **changes)
    given = encoder_arrays(small_encoder.random_encoder(config, 1))
    save_encoder(tmp_path / "w", given, config=config, distribution=FAMILY, metadata=SAID)
    again = encoder_arrays(read_encoder(tmp_path / "w").module())
    assert again.keys() == given.keys()
    assert all(np.allclose(again[name], given[name], atol=2e-3) for name in given)


@pytest.fixture
def shipped(saved, tmp_path, monkeypatch):
    """A package whose encoder is that of the tests."""
    folder = tmp_path / "weights"
    folder.mkdir()
    data = saved.read_bytes()
    (folder / module.SHIPPED).write_bytes(data)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  {module.SHIPPED}\n")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    return folder / module.SHIPPED


def test_the_shipped_file_is_read_by_default_and_checked(shipped, saved):
    assert read_encoder().digest == read_encoder(saved).digest
    data = bytearray(shipped.read_bytes())
    data[-1] ^= 1
    shipped.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"prosam_embedded\.safetensors was altered: its SHA-256"):
        read_encoder()
    shipped.unlink()
    with pytest.raises(InputError, match=r"prosam_embedded\.safetensors cannot be read .*name another"):
        read_encoder()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file(saved, tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"cut\.safetensors is damaged, cut short.*copy it again"):
        read_encoder(path)


def test_a_file_of_the_small_sam_is_no_encoder(saved, tmp_path):
    with pytest.raises(InputError, match=r"has format 'softmatch-sam-1'; expected 'softmatch-prosam-1'"):
        read_encoder(altered(saved, tmp_path, metadata={"format": "softmatch-sam-1"}))
    with pytest.raises(InputError, match=r"gone cannot be read .*weights of a prompt encoder"):
        read_encoder(tmp_path / "gone")


@pytest.mark.parametrize(
    "said",
    [None, "{", "[1]", '{"channels": 12, "depth": 3}', json.dumps({"channels": 12, "dim": 7})],
    ids=["none", "no json", "a list", "unknown", "out of range"],
)
def test_settings_that_cannot_be_used(saved, tmp_path, said):
    with pytest.raises(InputError, match=r"other\.safetensors has settings called 'encoder' that cannot"):
        read_encoder(altered(saved, tmp_path, metadata={"encoder": said}))


def test_a_distribution_that_is_none(saved, tmp_path):
    with pytest.raises(InputError, match=r"'distribution' that cannot be used \(distribution\.nu is 0"):
        read_encoder(altered(saved, tmp_path, metadata={"distribution": '{"nu": 0}'}))


def test_an_encoder_of_another_size_than_it_says(saved, tmp_path, arrays):
    said = json.dumps({"channels": 16, "dim": 8, "prompts": 3, "heads": 2})
    with pytest.raises(InputError, match=r"16 channels, 3 prompts of 8 .*1 of another shape \(downsample"):
        read_encoder(altered(saved, tmp_path, metadata={"encoder": said}))
    fewer = {name: array for name, array in arrays.items() if "log_sigma" not in name}
    with pytest.raises(InputError, match=r"2 missing \(log_sigma_head"):
        read_encoder(altered(saved, tmp_path, fewer))
    with pytest.raises(InputError, match=r"What was given does not fit .*2 missing"):
        encoder_of(CONFIG, fewer)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_cannot_be_stored(saved, arrays, tmp_path, value):
    broken = arrays | {"queries": np.full_like(arrays["queries"], value)}
    with pytest.raises(InputError, match=r"NaN or infinity in 1 of .*queries.*65504"):
        save_encoder(tmp_path / "w", broken, config=CONFIG, distribution=FAMILY, metadata=SAID)
    assert not (tmp_path / "w").exists()
    if not np.isfinite(value):
        with pytest.raises(InputError, match=r"other\.safetensors holds NaN or infinity in 1 of"):
            read_encoder(altered(saved, tmp_path, broken))


@pytest.mark.parametrize(
    "metadata, sentence",
    [
        (SAID | {"encoder": "mine"}, "metadata holds encoder; expected other names"),
        ({"sam": "s"}, "metadata lacks features; expected the names"),
        ({"features": " ", "sam": ""}, "metadata lacks features and sam"),
    ],
)
def test_what_metadata_must_say(arrays, tmp_path, metadata, sentence):
    with pytest.raises(InputError, match=sentence):
        save_encoder(tmp_path / "w", arrays, config=CONFIG, distribution=FAMILY, metadata=metadata)
