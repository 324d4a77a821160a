"""References that were put together once."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.models import DenseDescriptor, DescriptorConfig

SIZE = (120, 160)
DESCRIPTOR = DenseDescriptor(DescriptorConfig(longest=80, stride=4, pooling=(2.0, 4.0)))


def made(config):
    return Softmatcher(DESCRIPTOR, FloodGenerator(), config)


@pytest.mark.parametrize(
    "config", [SoftmatcherConfig.foundation(), SoftmatcherConfig()], ids=["plain", "white"]
)
def test_they_match_as_if_they_had_not_been(config):
    matcher, references = made(config), []
    for seed, (name, colour) in enumerate((("red", RED), ("green", GREEN), ("red", RED))):
        image, (mask,) = scene(SIZE, [((60, 60), 30, colour)], seed)
        references.append(matcher.reference(image, mask, class_name=name))
    joined = matcher.join(references)
    assert joined.names == ("red", "green")
    for seed in (8, 9):
        target, _ = scene(SIZE, [((100, 50), 26, RED), ((40, 80), 20, GREEN)], seed)
        one, other = (matcher.segment(target, r, key=jax.random.key(1)) for r in (references, joined))
        np.testing.assert_array_equal(one.labels, other.labels)
        for name in joined.names:
            assert one[name].resemblance == other[name].resemblance
            np.testing.assert_array_equal(one[name].match_map, other[name].match_map)


def test_other_settings_or_models_are_refused():
    config = SoftmatcherConfig()
    matcher = made(config)
    image, (mask,) = scene(SIZE, [((60, 60), 30, RED)], 0)
    joined = matcher.join(matcher.reference(image, mask))
    hotter = replace(config, matching=replace(config.matching, temperature=0.3))
    stricter = replace(config, decision=replace(config.decision, min_resemblance=0.9))
    with pytest.raises(InputError, match="call its join"):
        made(hotter).segment(image, joined, key=jax.random.key(0))
    made(stricter).segment(image, joined, key=jax.random.key(0))  # decides, and matches as before
    other = Softmatcher(
        DenseDescriptor(DescriptorConfig(longest=80, stride=8, pooling=(2.0, 4.0))), FloodGenerator()
    )
    with pytest.raises(InputError, match="call its join"):
        other.segment(image, joined, key=jax.random.key(0))
    with pytest.raises(InputError, match="no references"):
        matcher.join([])
