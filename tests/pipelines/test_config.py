from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from softmatch_jax import InputError, MatchingConfig, PromptingConfig, SoftmatcherConfig
from softmatch_jax.matching import METHODS
from softmatch_jax.pipelines import CompletionConfig, DecisionConfig, ModelsConfig
from softmatch_jax.pipelines.config import WHITENED, Method


def test_the_methods_are_those_of_matching():
    assert get_args(Method) == tuple(METHODS)
    assert set(WHITENED) <= set(METHODS)


@pytest.mark.parametrize("make", [SoftmatcherConfig, SoftmatcherConfig.foundation, SoftmatcherConfig.graph])
def test_presets_are_in_range_and_may_be_changed(make):
    config = make()
    for field in fields(config):
        assert replace(getattr(config, field.name)) == getattr(config, field.name)
    assert hash(config) == hash(make())


def test_presets_for_learned_features_do_not_whiten():
    for config in (SoftmatcherConfig.foundation(), SoftmatcherConfig.graph()):
        assert not config.matching.whiten
    assert SoftmatcherConfig().matching.whiten
    graph = SoftmatcherConfig.graph()
    assert graph.prompting.prompts == "points" and graph.decision.grouping == "graph"


WRONG = [
    (MatchingConfig, {"method": "optimal"}, "matching.method is 'optimal'; expected 'geometric'"),
    (MatchingConfig, {"method": "sinkhorn"}, "turn whiten off"),
    (MatchingConfig, {"contrast": False}, "turn whiten off"),
    (MatchingConfig, {"temperature": 0.0}, "matching.temperature"),
    (MatchingConfig, {"text_temperature": -1.0}, "matching.text_temperature"),
    (MatchingConfig, {"text_weight": 1.0}, "matching.text_weight is 1.0"),
    (MatchingConfig, {"text_weight": float("nan")}, "matching.text_weight is nan"),
    (MatchingConfig, {"shrinkage": 0.0}, "matching.shrinkage"),
    (PromptingConfig, {"sampler": "random"}, "prompting.sampler is 'random'"),
    (PromptingConfig, {"prompts": "boxes"}, "prompting.prompts is 'boxes'; expected 'clusters' or 'points'"),
    (PromptingConfig, {"points": 0}, "prompting.points"),
    (PromptingConfig, {"radius": -1.0}, "prompting.radius"),
    (DecisionConfig, {"grouping": "all"}, "decision.grouping is 'all'"),
    (DecisionConfig, {"instances": "none"}, "decision.instances is 'none'"),
    (DecisionConfig, {"min_purity": 1.5}, "decision.min_purity is 1.5; expected a fraction"),
    (DecisionConfig, {"min_score": float("nan")}, "decision.min_score is nan"),
    (DecisionConfig, {"max_overlap": -0.1}, "decision.max_overlap"),
    (DecisionConfig, {"size_factor": 0.5}, "decision.size_factor"),
    (DecisionConfig, {"min_resemblance": 2.0}, "decision.min_resemblance"),
    (CompletionConfig, {"points": 0}, "completion.points"),
    (CompletionConfig, {"rounds": -1}, "completion.rounds is -1"),
    (ModelsConfig, {"chunk": 0}, "models.chunk is 0; expected"),
    (ModelsConfig, {"cache": Path("c"), "cache_limit_mb": -1}, "models.cache_limit_mb is -1; expected"),
    (ModelsConfig, {"cache_limit_mb": 5}, "no cache to bound; expected a folder as models.cache"),
]


@pytest.mark.parametrize(("settings", "changes", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_settings_out_of_range_are_one_sentence(settings, changes, message):
    with pytest.raises(InputError) as caught:
        settings(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_corrections_may_be_turned_off():
    assert CompletionConfig(rounds=0).rounds == 0


def test_presets_do_not_pass_for_the_papers_settings():
    for preset in (SoftmatcherConfig.foundation, SoftmatcherConfig.graph):
        text = " ".join(preset.__doc__.split())
        assert "our own" in text and "none of them tuned on public weights yet" in text


def test_models_are_named_by_default():
    models = ModelsConfig()
    assert models.features.startswith("facebook/dinov2") and models.masks.startswith("facebook/sam")
    assert models.text_model is None and models.cache is None
    assert models.chunk is None and models.cache_limit_mb is None
