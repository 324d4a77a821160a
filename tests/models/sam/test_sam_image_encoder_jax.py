"""The image encoder in JAX against transformers and segment-anything, and how it is loaded and run."""

from __future__ import annotations

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sam_checkpoints
import torch
import transformers
from safetensors.torch import load_file, save_file

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoints import locate
from softmatch_jax.models.sam import jax_devices
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import convert_encoder
from softmatch_jax.models.sam.image_encoder_jax import JaxImageEncoder
from softmatch_jax.models.sam.image_encoder_torch import TorchImageEncoder
from softmatch_jax.models.sam.stored_tensors import stored_tensors

TOLERANCE = 1e-5
"""Largest difference over the range of an embedding; float32 on both sides."""


def pixels(count=2, seed=0, side=128):
    return np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32)


def check(got, wanted, tolerance=TOLERANCE):
    assert got.shape == wanted.shape
    assert np.abs(np.asarray(got) - wanted).max() <= tolerance * np.ptp(wanted)


def encoder_tensors(model):
    return {k: v for k, v in model.state_dict().items() if k.startswith("vision_encoder.")}


@pytest.fixture(scope="module")
def encoder(folder, config):
    return JaxImageEncoder.load(locate(folder), config, "cpu", "float32")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("base", "large", "huge")]
)
def test_presets_are_as_both_packages(name):
    """Their blocks, heads and places of global attention; few channels, and windows that do not divide."""
    published = getattr(SamConfig, name)()
    model = sam_checkpoints.transformers_model(sam_checkpoints.preset(published), eps=1e-5)
    config = SamConfig.from_transformers(model.config.to_dict())
    assert (config.encoder_depth, config.encoder_heads) == (published.encoder_depth, published.encoder_heads)
    encoder = convert_encoder(encoder_tensors(model), config, "transformers")
    picture = pixels(1)
    got = encoder(jnp.asarray(picture[0].transpose(1, 2, 0)))
    with torch.inference_mode():
        check(got, sam_checkpoints.rows_of(model.vision_encoder(torch.tensor(picture)).last_hidden_state)[0])
        authors = sam_checkpoints.authors_model(model).image_encoder
        check(got, sam_checkpoints.rows_of(authors(torch.tensor(picture)))[0])


@pytest.mark.slow
def test_vit_b_at_full_size():
    vision = {"hidden_size": 768, "num_hidden_layers": 12, "global_attn_indexes": [2, 5, 8, 11]}
    model = sam_checkpoints.transformers_model(sam_checkpoints.FULL | {"vision": vision})
    config = SamConfig.from_transformers(model.config.to_dict())
    assert {k: v for k, v in vars(config).items() if k.startswith("encoder")} == {
        k: v for k, v in vars(SamConfig.base()).items() if k.startswith("encoder")
    }
    encoder = convert_encoder(encoder_tensors(model), config, "transformers")
    picture = pixels(1, side=1024)
    got = jax.jit(encoder)(jnp.asarray(picture[0].transpose(1, 2, 0)))
    with torch.inference_mode():
        wanted = sam_checkpoints.rows_of(model.vision_encoder(torch.tensor(picture)).last_hidden_state)[0]
    check(got, wanted, 1e-4)


def test_it_is_what_the_torch_runtime_gives(folder, config, encoder):
    wanted = TorchImageEncoder.load(locate(folder), config, "cpu", "float32")
    got = encoder(pixels(3))
    assert isinstance(got, jax.Array) and got.dtype == np.float32
    check(got, np.asarray(wanted(pixels(3))))
    assert (encoder.dtype, wanted.dtype) == ("float32", "float32")


def test_both_formats_are_one_encoder(tiny, config, encoder, tmp_path):
    path = sam_checkpoints.save_authors(tiny, tmp_path / "sam.pth")
    other = JaxImageEncoder.load(locate(path), config, "cpu", "float32")
    np.testing.assert_array_equal(other(pixels()), encoder(pixels()))
    with path.open("r+b") as stream:  # in place, where a map of the file would see it
        stream.write(b"\0" * path.stat().st_size)
    np.testing.assert_array_equal(other(pixels()), encoder(pixels()))


def test_the_next_picture_compiles_nothing(encoder, count_compiles):
    encoder(pixels(1))
    with count_compiles() as compiled:
        encoder(pixels(1, seed=1))
    assert compiled == []


def test_half_precision(folder, config, encoder):
    half = JaxImageEncoder.load(locate(folder), config, "cpu", "bfloat16")
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(half.state)}
    assert kinds == {"bfloat16", "float32"} and half.dtype == "bfloat16"
    got, expected = half(pixels()), np.asarray(encoder(pixels()))
    assert got.dtype == np.float32 and not np.array_equal(got, expected)
    # bfloat16 keeps 8 bits; the error of a random network grows over its blocks.
    assert np.abs(got - expected).mean() < 0.05 * expected.std()


def test_weights_stored_in_half_precision(folder, config, encoder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    half = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(half, tmp_path / "model.safetensors")
    stored = JaxImageEncoder.load(locate(tmp_path), config, "cpu", "float32")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(stored.state)} == {"float32"}
    wanted = np.asarray(encoder(pixels()))
    assert np.abs(stored(pixels()) - wanted).mean() < 0.05 * wanted.std()


def test_weights_that_do_not_fit(tiny, config, tmp_path):
    state = sam_checkpoints.authors_state(tiny)
    del state["image_encoder.blocks.2.attn.rel_pos_w"]
    state["image_encoder.blocks.3.norm1.bias"] = torch.zeros(32)
    state["image_encoder.pos_embed"] = torch.zeros(1, 4, 4, 32)
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(InputError) as raised:
        JaxImageEncoder.load(locate(tmp_path / "sam.pth"), config, "cpu", "float32")
    said = str(raised.value)
    assert "1 missing (image_encoder.blocks.2.attn.rel_pos_w)" in said
    assert "1 unexpected (image_encoder.blocks.3.norm1.bias)" in said
    assert "1 of another shape (image_encoder.pos_embed is [1, 4, 4, 32], expected [1, 8, 8, 32])" in said


def test_tensors_are_read_one_by_one(folder, tiny):
    tensors = stored_tensors(locate(folder), prefix="mask_decoder.")
    assert tensors and all(name.startswith("mask_decoder.") for name in tensors)
    name = "mask_decoder.iou_token.weight"
    np.testing.assert_array_equal(tensors[name], tiny.state_dict()[name])
    assert tensors[name].shape == (1, 64) and np.asarray(tensors[name], np.float64).dtype == np.float64


def test_a_damaged_file_is_named(folder, config, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model.safetensors is damaged or cut short .*fetch or copy it"):
        JaxImageEncoder.load(locate(tmp_path), config, "cpu", "float32")
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="Git LFS pointer"):
        JaxImageEncoder.load(locate(tmp_path), config, "cpu", "float32")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (pixels()[0], "expected .any, 3, 128, 128."),
        (pixels()[:, :, :64], "expected .any, 3, 128, 128."),
        (pixels().astype(np.float64), "pixels is float64; expected float32"),
        (pixels()[:0], "pixels holds no picture"),
    ],
)
def test_pixels_that_do_not_fit(wrong, message, encoder):
    with pytest.raises(InputError, match=message):
        encoder(wrong)


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("gpu", "auto", "The device is 'gpu'; expected auto, cpu, cuda or cuda:N."),
        ("cuda:x", "auto", "The device is 'cuda:x'; expected"),
        ("mps", "auto", "The device is 'mps', which JAX does not have; .*runtime torch"),
        ("cpu:9", "auto", r"The device 'cpu:9' is not there \(JAX .* sees 1 of its kind\)"),
        ("cuda:99", "auto", "The device 'cuda:99' is not there"),
        ("cpu", "half", "The dtype is 'half'; expected auto, float32, float16, bfloat16."),
    ],
)
def test_devices_and_types_that_are_not_there(device, dtype, message, folder, config):
    with pytest.raises(InputError, match=message):
        JaxImageEncoder.load(locate(folder), config, device, dtype)


def test_words_for_devices_and_types():
    cpu = jax_devices.pick_jax_device("cpu")
    assert cpu.platform == "cpu" and jax_devices.pick_jax_device("cpu:0") == cpu
    assert jax_devices.pick_jax_device("auto") == jax.devices()[0]
    assert jax_devices.pick_jax_dtype("auto", cpu) == jnp.float32
    assert jax_devices.pick_jax_dtype("float16", cpu) == jnp.float16

    class Accelerator:
        platform = "gpu"

    assert jax_devices.pick_jax_dtype("auto", Accelerator()) == jnp.bfloat16


def test_a_full_device_is_explained(encoder, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr("softmatch_jax.models.sam.image_encoder_jax._encode", full)
    with pytest.raises(InputError, match="does not fit into the GPU's memory; choose dtype bfloat16"):
        encoder(pixels(1))


@pytest.mark.slow
def test_safetensors_need_no_torch(folder):
    """From the folder to masks, in a process of its own."""
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import numpy as np
from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator
from softmatch_jax.prompting import Prompt
made = SamMaskGenerator.load(sys.argv[1], config=SamGeneratorConfig(device="cpu"))
embedding = made.encode(np.full((40, 60, 3), 99, np.uint8))
prompt = Prompt(np.array([[30, 20]], np.float32), np.array([True]), None, None)
print(made.decode(embedding, [prompt]).masks.shape)
"""
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(3, 40, 60)", re.sub(r"\s+", " ", done.stderr[-600:])


def test_the_embedding_of_transformers_folder(folder, encoder):
    model = transformers.SamModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = sam_checkpoints.rows_of(model.get_image_embeddings(torch.tensor(pixels())))
    check(encoder(pixels()), expected)
