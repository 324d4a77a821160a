"""Checkpoints of both formats become the same model, and one that does not fit is told in one sentence."""

from __future__ import annotations

import json
import re

import jax
import numpy as np
import pytest
import sam_checkpoints
import torch
import transformers
from flax import nnx
from slow_params import mostly_slow

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoints import locate
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import check_keys, config_of, convert, load_sam
from softmatch_jax.models.sam.key_table import decoder_entries
from softmatch_jax.models.sam.model import Sam

SOURCES = ("transformers", "segment_anything")
PUBLISHED = {"vit_b": SamConfig.base(), "vit_l": SamConfig.large(), "vit_h": SamConfig.huge()}


def config_from(model):
    return SamConfig.from_transformers(model.config.to_dict())


def state_of(model, source):
    """Weights under the names of ``source``."""
    if source == "segment_anything":
        return sam_checkpoints.authors_state(model)
    return {name: value.clone() for name, value in model.state_dict().items()}


def shapes_of(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def leaves(sam):
    return {path: np.asarray(leaf.get_value()) for path, leaf in nnx.to_flat_state(nnx.state(sam))}


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize("size", mostly_slow(["tiny", "full"], "tiny"))
def test_files_of_both_formats_are_one_model(size, request, tmp_path):
    model = request.getfixturevalue(size)
    folder = locate(sam_checkpoints.save_transformers(model, tmp_path / "folder"))
    file = locate(sam_checkpoints.save_authors(model, tmp_path / "sam.pth"))
    first, second = load_sam(folder), load_sam(file, config=config_from(model))
    assert first.config == second.config == config_of(folder) == config_from(model)
    ours, theirs = leaves(first), leaves(second)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, theirs[path], err_msg=str(path))


def test_file_of_another_network_in_the_format_of_the_authors(tiny, tmp_path):
    file = locate(sam_checkpoints.save_authors(tiny, tmp_path / "sam.pth"))
    with pytest.raises(InputError, match=r"image encoder of 3 blocks of 32 channels; expected SAM ViT-B"):
        load_sam(file)


def test_parameters_of_the_published_size(full):
    sam = convert(full.state_dict(), config_from(full), "transformers")
    assert count(sam.mask_decoder) == 4_058_340
    assert count(sam.prompt_encoder) == 6_220
    trained = {path for path, _ in nnx.to_flat_state(nnx.state(sam, nnx.Param))}
    assert leaves(sam).keys() - trained == {("prompt_encoder", "positions")}


def test_arrays_are_their_own(tiny):
    state = state_of(tiny, "transformers")
    sam = convert(state, config_from(tiny), "transformers")
    before = {path: array.copy() for path, array in leaves(sam).items()}
    for value in state.values():
        value.zero_()
    for path, array in leaves(sam).items():
        np.testing.assert_array_equal(array, before[path])


@pytest.mark.parametrize("kind", mostly_slow([torch.bfloat16, torch.float64], torch.bfloat16))
def test_precisions_of_files(tiny, kind):
    state = {name: value.to(kind) for name, value in state_of(tiny, "transformers").items()}
    rounded = {name: value.float().numpy() for name, value in state.items()}
    first, second = (convert(s, config_from(tiny), "transformers") for s in (state, rounded))
    for path, array in leaves(first).items():
        np.testing.assert_array_equal(array, leaves(second)[path])


@pytest.mark.parametrize("source", SOURCES)
def test_every_array_is_filled_by_its_own_tensors(source):
    config = SamConfig()
    entries = decoder_entries(config, source)
    assert len({entry.key for entry in entries}) == len(entries)
    targets = [(entry.path, entry.row) for entry in entries]
    assert len(set(targets)) == len(targets)
    abstract = nnx.eval_shape(lambda: Sam(config, rngs=nnx.Rngs(0)))
    assert {path for path, _ in targets} == {path for path, _ in nnx.to_flat_state(nnx.state(abstract))}


@pytest.mark.parametrize("source", SOURCES)
def test_all_misfits_are_told_at_once(tiny, source):
    state = state_of(tiny, source)
    del state["mask_decoder.iou_token.weight"], state["prompt_encoder.no_mask_embed.weight"]
    state["mask_decoder.extra.weight"] = state["other.bias"] = torch.zeros(3)
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(5, 64)
    name = "mask_decoder.transformer.layers.1.mlp.lin1.weight"
    state[name] = state[name].T.clone()
    with pytest.raises(InputError) as raised:
        convert(state, config_from(tiny), source, where="here.pth")
    said = str(raised.value)
    assert said.startswith("here.pth does not fit SAM: tensors 2 missing (")
    assert "2 unexpected (mask_decoder.extra.weight, other.bias)" in said
    assert "2 of another shape (" in said
    for phrase in (
        "mask_decoder.iou_token.weight",
        "prompt_encoder.no_mask_embed.weight",
        "mask_decoder.mask_tokens.weight is [5, 64], expected [4, 64]",
        f"{name} is [64, 96], expected [96, 64]",
    ):
        assert phrase in said


@pytest.mark.parametrize("source", SOURCES)
def test_the_bystanders_do_not_matter(tiny, source):
    state = state_of(tiny, source)
    state |= {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    without = {k: v for k, v in state.items() if not k.startswith(("vision_encoder.", "image_encoder."))}
    for given in (state, without):
        convert(given, config_from(tiny), source)


def test_long_lists_are_cut_short(tiny):
    with pytest.raises(InputError, match=r"tensors \d{3} missing \([^()]*, \.\.\.\); expected") as raised:
        convert({}, config_from(tiny), "transformers")
    assert str(raised.value).count("mask_decoder") + str(raised.value).count("prompt_encoder") == 10


def test_names_of_the_other_format_do_not_fit(tiny):
    for source, other in (SOURCES, SOURCES[::-1]):
        with pytest.raises(InputError, match=r"missing .* unexpected"):
            convert(state_of(tiny, source), config_from(tiny), other)


@pytest.mark.parametrize(
    "kept",
    [
        ("prompt_encoder.shared_embedding.positional_embedding",),
        ("shared_image_embedding.positional_embedding",),
        ("prompt_encoder.positional_embedding",),
    ],
)
def test_names_of_the_position_matrix(tiny, kept):
    state = state_of(tiny, "transformers")
    matrix = state.pop("prompt_encoder.shared_embedding.positional_embedding")
    state.pop("shared_image_embedding.positional_embedding")
    state |= dict.fromkeys(kept, matrix)
    sam = convert(state, config_from(tiny), "transformers")
    np.testing.assert_array_equal(sam.prompt_encoder.positions[...], matrix)
    assert check_keys(shapes_of(state), "transformers", config=config_from(tiny)) == []


def test_copies_of_the_position_matrix_must_agree(tiny):
    state = state_of(tiny, "transformers")
    state["shared_image_embedding.positional_embedding"] += 1
    with pytest.raises(InputError, match="with different values; expected two copies of one matrix"):
        convert(state, config_from(tiny), "transformers")


@pytest.mark.parametrize("name", mostly_slow(PUBLISHED, "vit_b"))
def test_published_models(name):
    """Names, shapes and sizes of the three published models, from networks without values."""
    config = PUBLISHED[name]
    registry = sam_checkpoints.segment_anything().sam_model_registry
    with torch.device("meta"):
        authors = shapes_of(registry[name]().state_dict())
    assert SamConfig.from_segment_anything(authors) == config
    assert check_keys(authors, "segment_anything") == []
    vision = transformers.SamVisionConfig(
        hidden_size=config.encoder_dim,
        num_hidden_layers=config.encoder_depth,
        num_attention_heads=config.encoder_heads,
        global_attn_indexes=list(config.global_attention),
    )
    described = transformers.SamConfig(vision_config=vision)
    with torch.device("meta"):
        model = transformers.SamModel(described)
    read = SamConfig.from_transformers(described.to_dict())
    assert read.layer_norm_eps == 1e-6 and config.layer_norm_eps == 1e-5
    assert check_keys(shapes_of(model.state_dict()), "transformers", config=read) == []


def test_phrases_on_keys(tiny):
    shapes = shapes_of(tiny.state_dict())
    del shapes["vision_encoder.neck.conv1.weight"]
    shapes |= {"spare": (3,), "vision_encoder.pos_embed": (1, 8, 8, 31)}
    assert check_keys(shapes, "transformers", config=config_from(tiny)) == [
        "vision_encoder.neck.conv1.weight is missing",
        "spare is unexpected",
        "vision_encoder.pos_embed is [1, 8, 8, 31], expected [1, 8, 8, 32]",
    ]


def test_config_of_a_folder(tiny):
    config = json.loads(tiny.config.to_json_string(use_diff=False))
    read = SamConfig.from_transformers(config)
    assert (read.dim, read.heads, read.mlp_dim, read.embedding_size, read.patch_size) == (64, 4, 96, 8, 16)
    assert (read.encoder_dim, read.encoder_mlp_dim, read.encoder_window) == (32, 128, 3)
    assert read.global_attention == (1,)
    assert SamConfig.from_transformers({"model_type": "sam"}) == SamConfig(layer_norm_eps=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "sam_hq"}, "model_type 'sam_hq'; expected 'sam'"),
        ({"mask_decoder_config": {"hidden_act": "gelu"}}, "mask_decoder_config.hidden_act = 'gelu'"),
        ({"vision_config": {"use_rel_pos": False}}, "vision_config.use_rel_pos = False; expected True"),
        ({"mask_decoder_config": {"hidden_size": 128}}, "prompt_encoder_config.hidden_size = 256"),
        ({"vision_config": {"image_size": 512}}, "prompt_encoder_config.image_size = 1024; expected 512"),
        ({"vision_config": {"num_attention_heads": 7}}, "768 is not a multiple of 7"),
        ({"vision_config": {"global_attn_indexes": [12]}}, r"global_attention is \(12,\)"),
        ({"mask_decoder_config": {"iou_head_depth": 1}}, "iou_depth is 1; expected at least 2"),
        ({"mask_decoder_config": {"mlp_dim": 0}}, "mlp_dim is 0; expected a finite number"),
    ],
)
def test_configs_that_do_not_fit(change, message):
    with pytest.raises(InputError, match=message if "\\" in message else re.escape(message)):
        SamConfig.from_transformers({"model_type": "sam", **change})
