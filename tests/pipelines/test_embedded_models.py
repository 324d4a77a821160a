"""Which models come with the package, and that the tiny one is loaded only where it is used."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.models import DenseDescriptor, GrabCut
from softmatch_jax.pipelines.embedded import embedded_models

LIGHT = """
import sys
from softmatch_jax import Softmatcher
Softmatcher.embedded()
heavy = {"flax", "safetensors", "torch", "optax"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture
def shipped(monkeypatch):
    """A network of no weights in the place of the shipped one."""
    from softmatch_jax.models.sam.tiny_network import TinyNetwork

    monkeypatch.setattr(TinyNetwork, "load", lambda path: TinyNetwork({}, source="shipped"))


def test_the_default_needs_no_flax():
    ran = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_default_is_the_pair_without_weights():
    matcher = Softmatcher.embedded(stride=8)
    assert isinstance(matcher.features, DenseDescriptor) and isinstance(matcher.masks, GrabCut)
    assert matcher.features.config.stride == 8


@pytest.mark.parametrize(
    "masks, begins", [("grabcut", "grabcut("), ("tiny", "tiny-sam(shipped"), ("both", "either(grabcut(")]
)
@pytest.mark.parametrize(
    "features, words",
    [
        ("descriptor", ["dense-descriptor"]),
        ("tiny", ["tiny-sam-features(shipped"]),
        ("joined", ["joined(dense"]),
    ],
)
def test_each_can_be_chosen(shipped, masks, begins, features, words):
    matcher = Softmatcher.embedded(masks=masks, features=features, stride=8)
    assert matcher.masks.name.startswith(begins)
    assert all(word in matcher.features.name for word in words)
    assert matcher.masks.promptable is (masks != "grabcut")
    assert np.prod(matcher.features.grid((30, 40)).shape) == (32**2 if features == "tiny" else 56**2)


def test_settings_go_with_the_masks(shipped):
    bars = {
        masks: Softmatcher.embedded(masks=masks).config.decision.min_evidence
        for masks in ("grabcut", "tiny", "both")
    }
    assert bars == {"grabcut": 0.0, "tiny": 0.6, "both": 0.0}
    assert Softmatcher.embedded(SoftmatcherConfig(), masks="tiny").config == SoftmatcherConfig()


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"masks": "sam"}, "masks is 'sam'; expected grabcut, tiny, both"),
        ({"features": "dino"}, "features is 'dino'; expected descriptor, tiny, joined"),
        ({"stride": 5}, "stride=5"),
    ],
)
def test_models_that_are_not_there(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        embedded_models(**wrong)
