from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from flax import nnx
from small_sam import drawn_weights, small_config

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import (
    buffers,
    expected_shapes,
    flatten,
    initial_weights,
    merge,
    structure,
)


def test_names_and_size_of_the_tiny_model():
    shapes = expected_shapes(SamConfig.tiny())
    assert expected_shapes(SamConfig.tiny(128)) == shapes
    assert shapes["prompt_encoder.mask_conv1.kernel"] == (2, 2, 7, 16)
    assert shapes["image_encoder.stem.conv.kernel"] == (3, 3, 48, 48)
    assert shapes["image_encoder.blocks.1.attn.rel_pos_h"] == (31, 32)
    assert shapes["image_encoder.blocks.0.attn.rel_pos_h"] == (15, 32)
    assert {"mask_decoder.iou_token", "pooled_kinds", "drawn_fourfold.kernel"} <= shapes.keys()
    assert buffers(SamConfig.tiny()) == {"prompt_encoder.positions"}
    assert 3e6 < sum(map(math.prod, shapes.values())) < 5e6


def test_merge_and_flatten_are_inverse():
    weights = drawn_weights()
    for size in (32, 64):  # the same weights at another size
        model = merge(small_config(size), weights)
        assert model.config.image_size == size
        found = flatten(nnx.split(model)[1])
        assert found.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(found[name], array)
        assert structure(small_config(size)) == structure(small_config(size))
    assert structure(small_config(32)) != structure(small_config(64))


def test_the_blank_model_is_not_filled_by_a_merge():
    first, second = (merge(small_config(), drawn_weights(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first.pooled_kinds[...], drawn_weights(0)["pooled_kinds"])
    np.testing.assert_array_equal(second.pooled_kinds[...], drawn_weights(1)["pooled_kinds"])


@pytest.mark.slow
def test_initial_weights():
    draw = jax.jit(lambda key: initial_weights(small_config(), key))
    first, again, other = (draw(jax.random.key(seed)) for seed in (0, 0, 1))
    assert {name: array.shape for name, array in first.items()} == expected_shapes(small_config())
    for name, array in first.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again[name])
        if name.endswith(("bias", "rel_pos_h", "rel_pos_w")):
            assert not array.any()
        elif name.endswith("scale"):
            assert (array == 1).all()
        else:
            assert (array != other[name]).any()


def test_weights_that_do_not_fit():
    weights = drawn_weights()
    del weights["pooled_kinds"]
    with pytest.raises(InputError, match=r"1 of \d+ arrays of the tiny model are missing .*\(pooled_kinds\)"):
        merge(small_config(), weights)
    weights = drawn_weights() | {"drawn_fourfold.kernel": np.zeros((3, 2))}
    with pytest.raises(InputError, match=r"or of another shape \(drawn_fourfold.kernel\); expected all as"):
        merge(small_config(), weights)
