from __future__ import annotations

import jax
import numpy as np
import pytest
import sam_checkpoints
import torch
import transformers

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoints import locate
from softmatch_jax.models.sam.image_encoder_torch import TorchImageEncoder


def pixels(count=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 128, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    return sam_checkpoints.save_authors(tiny, tmp_path_factory.mktemp("sam") / "sam.pth")


@pytest.fixture(scope="module")
def encoder(folder, config):
    return TorchImageEncoder.load(locate(folder), config, "cpu", "float32")


def test_as_transformers_to_the_bit(folder, encoder):
    model = transformers.SamModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = sam_checkpoints.rows_of(model.get_image_embeddings(torch.tensor(pixels())))
    got = encoder(pixels())
    assert isinstance(got, jax.Array) and got.shape == (2, 64, 64) and got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


def test_as_segment_anything(tiny, encoder):
    network = sam_checkpoints.authors_model(tiny)
    with torch.inference_mode():
        expected = sam_checkpoints.rows_of(network.image_encoder(torch.tensor(pixels())))
    np.testing.assert_allclose(encoder(pixels()), expected, atol=1e-5 * np.ptp(expected))


def test_both_formats_are_one_encoder(file, config, encoder):
    other = TorchImageEncoder.load(locate(file), config, "cpu", "float32")
    np.testing.assert_array_equal(other(pixels()), encoder(pixels()))


def test_a_batch_is_a_loop(encoder):
    together = encoder(pixels(3))
    for index in range(3):
        np.testing.assert_allclose(together[index], encoder(pixels(3)[index : index + 1])[0], atol=2e-5)


def test_results_stay_as_they_were(encoder):
    first = encoder(pixels(1))
    kept = np.array(first)
    for seed in range(1, 6):
        encoder(pixels(1, seed))
    np.testing.assert_array_equal(first, kept)


def test_the_network_is_frozen_and_its_own(tiny, config, tmp_path):
    path = sam_checkpoints.save_authors(tiny, tmp_path / "sam.pth")
    encoder = TorchImageEncoder.load(locate(path), config, "cpu", "float32")
    assert not encoder.model.training
    assert not any(value.requires_grad for value in encoder.model.parameters())
    before = encoder(pixels(1))
    size = path.stat().st_size
    with path.open("r+b") as stream:  # in place, where a map of the file would see it
        stream.write(b"\0" * size)
    np.testing.assert_array_equal(encoder(pixels(1)), before)


def test_half_precision(folder, config, encoder):
    half = TorchImageEncoder.load(locate(folder), config, "cpu", "bfloat16")
    got, expected = half(pixels()), np.asarray(encoder(pixels()))
    assert got.dtype == np.float32
    # bfloat16 keeps 8 bits; the error of a random network grows over its blocks.
    assert np.abs(got - expected).mean() < 0.05 * expected.std()
    assert not np.array_equal(got, expected)


def test_weights_that_do_not_fit(tiny, config, tmp_path):
    state = sam_checkpoints.authors_state(tiny)
    del state["image_encoder.blocks.2.attn.rel_pos_w"]
    state["image_encoder.blocks.3.norm1.bias"] = torch.zeros(32)
    state["image_encoder.pos_embed"] = torch.zeros(1, 4, 4, 32)
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(InputError) as raised:
        TorchImageEncoder.load(locate(tmp_path / "sam.pth"), config, "cpu", "float32")
    said = str(raised.value)
    assert "1 missing (image_encoder.blocks.2.attn.rel_pos_w)" in said
    assert "1 unexpected (image_encoder.blocks.3.norm1.bias)" in said
    assert "1 of another shape (image_encoder.pos_embed is [1, 4, 4, 32], expected [1, 8, 8, 32])" in said


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (pixels()[0], "expected .any, 3, 128, 128."),
        (pixels()[:, :, :64], "expected .any, 3, 128, 128."),
        (pixels().astype(np.float64), "pixels is float64; expected float32"),
    ],
)
def test_pixels_that_do_not_fit(wrong, message, encoder):
    with pytest.raises(InputError, match=message):
        encoder(wrong)


def test_a_full_gpu_is_explained(encoder, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder.model, "forward", full)
    with pytest.raises(InputError, match="encode fewer pictures at once, choose dtype bfloat16"):
        encoder(pixels())
