"""Networks of transformers with weights from the disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_checkpoints import SHAPE, refused, write_dinov2

from softmatch_jax.models.checkpoints import (
    load_pretrained,
    locate,
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


class TestLoadPretrained:
    def test_equals_transformers(self, written, capfd):
        model = load_pretrained(locate(written), transformers.Dinov2Model)
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        assert capfd.readouterr() == ("", "")
        direct = transformers.Dinov2Model.from_pretrained(written)
        pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 28, 28)).astype(np.float32))
        with torch.no_grad():
            assert torch.equal(model(pixels).last_hidden_state, direct.eval()(pixels).last_hidden_state)

    def test_transformers_keeps_its_settings(self, written):
        logging = transformers.utils.logging
        before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        load_pretrained(locate(written), transformers.Dinov2Model)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before

    def test_keyword_arguments_pass(self, written):
        model = load_pretrained(locate(written), transformers.Dinov2Model, dtype=torch.bfloat16)
        assert model.layernorm.weight.dtype == torch.bfloat16

    def test_another_architecture(self, written):
        call = lambda: load_pretrained(locate(written), transformers.SamModel)  # noqa: E731
        refused(call, "type 'dinov2'", "expected sam")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"num_hidden_layers": 3, "out_features": None, "stage_names": None}, "15 more are missing"),
            ({"num_hidden_layers": 1, "out_features": None, "stage_names": None}, "15 more are in excess"),
            ({"hidden_size": 64}, "are of another shape than config.json says"),
            ({"hidden_size": "x"}, "does not load as Dinov2Model"),
            ({"hidden_act": "none such"}, "does not load as Dinov2Model"),
        ],
    )
    def test_a_config_that_does_not_fit(self, folder, change, said):
        config = json.loads((folder / "config.json").read_text()) | change
        config = {key: value for key, value in config.items() if value is not None}
        config.pop("out_indices", None)
        (folder / "config.json").write_text(json.dumps(config))
        refused(lambda: load_pretrained(locate(folder), transformers.Dinov2Model), str(folder), said)

    def test_what_is_ignored(self, tmp_path):
        whole = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**SHAPE))
        whole.save_pretrained(tmp_path / "whole")
        checkpoint = locate(tmp_path / "whole")
        refused(lambda: load_pretrained(checkpoint, transformers.Dinov2Model), "classifier.bias", "in excess")
        assert load_pretrained(checkpoint, transformers.Dinov2Model, ignore=("classifier.",)) is not None

    def test_a_part_of_a_model(self, tmp_path):
        part = {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
        config = transformers.CLIPConfig(
            text_config=part | {"vocab_size": 20, "max_position_embeddings": 8},
            vision_config=part | {"image_size": 32, "patch_size": 16},
        )
        whole = transformers.CLIPModel(config)
        whole.save_pretrained(tmp_path / "clip")
        got = load_pretrained(locate(tmp_path / "clip"), transformers.CLIPVisionModel)
        expected = whole.vision_model.state_dict()
        values = {name.removeprefix("vision_model."): value for name, value in got.state_dict().items()}
        assert all(torch.equal(values[name], value) for name, value in expected.items())
