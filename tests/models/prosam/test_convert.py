"""Checkpoints of VRP-SAM's code: what fits is taken over, and all that does not is told."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
import torch_encoder

from softmatch_jax import InputError
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.convert import load_torch_encoder, torch_encoder_config
from softmatch_jax.models.prosam.weights import encoder_arrays, encoder_of, expected_shapes

SIZES = {"channels": 6, "dim": 16, "prompts": 5, "heads": 4}
KINDS = {
    0: PromptEncoderConfig(**SIZES, variational=False),
    2: PromptEncoderConfig(**SIZES, variational=False, extra_linear=2),
    "prosam": PromptEncoderConfig(**SIZES),
}
BACKBONE = ("layer0.0.weight", "layer2.1.bn2.running_mean", "layer4.2.conv3.weight")


def published(outputs=0):
    """A checkpoint as training writes it, backbone and prefix included."""
    tensors = torch_encoder.state(torch_encoder.trained(outputs, **SIZES))
    tensors |= {name: np.zeros((3, 2)) for name in BACKBONE}
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(tensors):
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("outputs", KINDS)
def test_from_torch_and_used(outputs):
    """The sizes are read, every array is filled, and prompts are torch's."""
    network = torch_encoder.trained(outputs, **SIZES)
    tensors = published(outputs)
    config = torch_encoder_config(tensors)
    assert config == KINDS[outputs]
    arrays = load_torch_encoder(tensors)
    assert {name: array.shape for name, array in arrays.items()} == expected_shapes(config)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays.values())
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(2, 3, 4, 6))
    mask, pseudo = rng.random((2, 3, 4))
    inputs = [array.astype(np.float32) for array in (near, mask, far, pseudo)]
    batch = [torch.tensor(array, dtype=torch.float64)[None] for array in inputs]
    expected = network(*(t.movedim(-1, 1) if t.dim() == 4 else t for t in batch))[0][0].detach().numpy()
    encoder = encoder_of(config, arrays)
    got = jax.jit(lambda *given: encoder(*given).mean, compiler_options={"xla_backend_optimization_level": 0})
    np.testing.assert_allclose(got(*inputs), expected, atol=1e-5 * np.ptp(expected))
    again = encoder_arrays(encoder)
    assert all(np.array_equal(again[name], array) for name, array in arrays.items())


def test_names_of_parallel_training_or_not():
    tensors = published()
    with_prefix, without = load_torch_encoder(tensors), load_torch_encoder(without_prefix(tensors))
    assert with_prefix.keys() == without.keys()
    assert all(np.array_equal(with_prefix[name], without[name]) for name in without)


def test_torch_tensors_are_taken_as_they_are():
    network = torch_encoder.trained(0, **SIZES)
    got, expected = load_torch_encoder(network.state_dict()), load_torch_encoder(torch_encoder.state(network))
    assert all(np.array_equal(got[name], expected[name]) for name in expected)


def test_arrays_are_copies():
    tensors = published()
    kept = load_torch_encoder(tensors)
    before = {name: array.copy() for name, array in kept.items()}
    for tensor in tensors.values():
        tensor[...] = 0
    assert all(np.array_equal(kept[name], before[name]) for name in kept)


def test_all_misfits_in_one_message():
    tensors = without_prefix(published())
    del tensors["merge_1.0.weight"]
    tensors["transformer_decoder.level_embed.weight"] = np.zeros((1, 16))
    name = "transformer_decoder.transformer_self_attention_layers.0.norm.bias"
    tensors[name] = np.zeros(15)
    with pytest.raises(InputError) as caught:
        load_torch_encoder(tensors, where="some.pt")
    message = str(caught.value)
    for part in (
        "some.pt does not fit the prompt encoder",
        "1 missing (merge_1.0.weight)",
        "1 unexpected (transformer_decoder.level_embed.weight)",
        f"1 of another shape ({name} is [15], expected [16])",
        "; expected ",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (PromptEncoderConfig(**SIZES), "4 missing (mean_head.weight"),
        (PromptEncoderConfig(**SIZES, variational=False, extra_linear=1), "2 missing (extra.0.weight"),
        (
            PromptEncoderConfig(**SIZES | {"channels": 7}, variational=False),
            "downsample_query.0.weight is [16, 6, 1, 1], expected [16, 7, 1, 1]",
        ),
        (
            PromptEncoderConfig(**SIZES | {"prompts": 9}, variational=False),
            "supp_q_feat.weight is [5, 16], expected [9, 16]",
        ),
    ],
)
def test_a_checkpoint_of_another_encoder(config, told):
    with pytest.raises(InputError) as caught:
        load_torch_encoder(published(), config)
    assert told in str(caught.value)


def test_a_prefix_on_some_names_only():
    tensors = published()
    tensors["extra"] = np.zeros(1)
    with pytest.raises(InputError, match="The checkpoint does not have transformer_decoder"):
        load_torch_encoder(tensors)
    with pytest.raises(InputError, match=r"missing \(transformer_decoder.*unexpected \(module"):
        load_torch_encoder(tensors, KINDS[0])


@pytest.mark.parametrize("tensors", [{}, {"image_encoder.pos_embed": np.zeros(3)}])
def test_no_such_checkpoint(tensors):
    with pytest.raises(InputError, match="expected a checkpoint of VRP-SAM's code"):
        load_torch_encoder(tensors)


def test_values_that_are_not_finite():
    tensors = published()
    tensors["module.merge_1.0.weight"][3, 1] = np.nan
    with pytest.raises(InputError, match=r"merge_1.0.weight of The checkpoint holds 1 values"):
        load_torch_encoder(tensors)
