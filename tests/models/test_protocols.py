from __future__ import annotations

import inspect

import numpy as np
import pytest

from softmatch_jax.models import (
    DenseDescriptor,
    DescriptorConfig,
    FeatureExtractor,
    GrabCut,
    MaskGenerator,
    PatchFeatures,
    Proposals,
)
from softmatch_jax.prompting import Prompt

extractor: FeatureExtractor = DenseDescriptor(DescriptorConfig(longest=32, pooling=(2.0,)))
generator: MaskGenerator = GrabCut()


def members(protocol):
    return [n for n in vars(protocol) if n == "__call__" or not n.startswith("_")]


@pytest.mark.parametrize(("model", "protocol"), [(extractor, FeatureExtractor), (generator, MaskGenerator)])
def test_models_are_called_as_their_protocol_says(model, protocol):
    assert members(protocol)
    for name in members(protocol):
        wanted, given = (inspect.getattr_static(owner, name) for owner in (protocol, type(model)))
        assert isinstance(given, property) == isinstance(wanted, property)
        if not isinstance(wanted, property):
            wanted, given = (inspect.signature(f).parameters.values() for f in (wanted, given))
            assert [(p.name, p.kind, p.default) for p in given] == [
                (p.name, p.kind, p.default) for p in wanted
            ]


def test_an_extractor_keeps_its_word():
    shapes = set()
    for size in ((20, 50), (50, 20)):
        images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        features = extractor(images)
        assert isinstance(features, PatchFeatures)
        assert features.values.shape == (2, *features.grid.shape, extractor.dim)
        assert features.values.dtype == np.float32
        np.testing.assert_array_equal(features.valid, features.grid.valid())
        shapes.add(features.values.shape)
    assert len(shapes) == 1  # one shape whatever the size of the pictures


def test_a_generator_keeps_its_word():
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    prompt = Prompt(np.array([[25.0, 10.0]]), np.ones(1, bool))
    found = generator.decode(generator.encode(image), [prompt], prior=np.full((20, 50), 0.7, np.float32))
    assert isinstance(found, Proposals)
    assert found.masks.shape == (len(found.scores), 20, 50) and found.masks.dtype == np.bool_
    assert found.scores.dtype == np.float32 and found.prompts.dtype == np.int32
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_names_are_one_line():
    for model in (extractor, generator):
        assert model.name and model.name.isprintable()
