from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from small_models import Colours

from softmatch_jax import InputError, MatchingConfig, Softmatcher, SoftmatcherConfig
from softmatch_jax.models import DenseDescriptor, DescriptorConfig
from softmatch_jax.pipelines.texts import text_factor

SIZE, KEY = (90, 120), jax.random.key(0)
CONFIG = MatchingConfig(whiten=False, target_share=0.0, text_weight=0.3, text_temperature=0.05)
DESCRIPTOR = DenseDescriptor(DescriptorConfig(longest=64, stride=4, pooling=(2.0,)))


@pytest.fixture(scope="module")
def image():
    return scene(SIZE, [((85, 45), 25, RED), ((30, 45), 25, GREEN)], 2)[0]


def factor(texts, names, image, model=None, config=CONFIG, extractor=DESCRIPTOR):
    model = model or Colours()
    return text_factor(texts, names, model, model(image[None]), extractor.grid(image.shape[:2]), config)


def test_a_map_is_the_similarity_to_the_text_over_its_temperature(image):
    """On the same grid nothing is resized."""
    model = Colours(8)
    made = factor({"b": "red"}, ("a", "b"), image, model, extractor=model)
    values = np.asarray(model(image[None]).values[0], np.float64)
    cosine = (
        values
        / np.linalg.norm(values, axis=-1, keepdims=True)
        @ np.asarray(model.text_embeddings(["red"])[0])
    )
    np.testing.assert_allclose(made.logits[1].reshape(8, 8), cosine / 0.05, rtol=1e-4, atol=1e-4)
    assert not made.logits[0].any() and made.weight.tolist() == [0, np.float32(0.3)]


@pytest.mark.parametrize("fit", ["stretch", "aspect"])
def test_a_map_comes_to_the_grid_of_the_features(image, fit):
    """The text model may have another number of patches, and other padding."""
    made = factor({"one": "red"}, ("one",), image, Colours(6, fit))
    grid = DESCRIPTOR.grid(SIZE)
    logits = made.logits[0].reshape(grid.shape)
    assert not logits[~grid.valid()].any()
    x, y = grid.patch_centres()[np.unravel_index(np.argmax(logits), grid.shape)]
    assert np.hypot(x - 85, y - 45) < 25
    inside = np.hypot(*np.moveaxis(grid.patch_centres() - (85, 45), -1, 0)) < 12
    assert logits[inside & grid.valid()].min() > np.median(logits[grid.valid()])


def test_texts_go_to_their_classes_in_whatever_order(image):
    both = factor({"b": "red", "a": "green"}, ("a", "b"), image)
    for row, (name, text) in enumerate({"a": "green", "b": "red"}.items()):
        alone = factor({name: text}, ("a", "b"), image)
        np.testing.assert_array_equal(both.logits[row], alone.logits[row])
    assert (both.weight == np.float32(0.3)).all()


def matcher(weight=0.3, text=None):
    config = SoftmatcherConfig.foundation()
    matching = replace(config.matching, text_weight=weight, text_temperature=0.05)
    return Softmatcher(DESCRIPTOR, FloodGenerator(), replace(config, matching=matching), text or Colours())


@pytest.fixture(scope="module")
def reference():
    picture, (mask,) = scene(SIZE, [((60, 45), 25, RED)], 0)
    return matcher().reference(picture, mask, class_name="thing")


def test_a_text_moves_the_map_its_way(image, reference):
    plain, red, green = (
        matcher(0.6).segment(image, reference, key=KEY, texts=texts)["thing"]
        for texts in (None, {"thing": "red"}, {"thing": "green"})
    )
    y, x = 45, 30  # on the green disc
    assert green.match_map[y, x] > plain.match_map[y, x] + 0.1
    assert red.match_map[y, x] <= plain.match_map[y, x] + 1e-3
    assert red.match_map[45, 85] > 0.9


def test_a_text_without_weight_changes_nothing(image, reference):
    plain = matcher(0.0).segment(image, reference, key=KEY)["thing"]
    with_text = matcher(0.0).segment(image, reference, key=KEY, texts={"thing": "green"})["thing"]
    np.testing.assert_array_equal(plain.match_map, with_text.match_map)


def test_an_unknown_class_is_named(image, reference):
    with pytest.raises(InputError, match=r"'red' is for the class 'other', which has no reference.*'thing'"):
        matcher().segment(image, reference, key=KEY, texts={"other": "red"})


def test_a_text_needs_a_model(image, reference):
    with pytest.raises(InputError, match="not encoded by this text model"):
        replace(matcher(), text=None).segment(image, reference, key=KEY, texts={"thing": "red"})
    encoded = replace(matcher(), text=None).encode(image)
    with pytest.raises(InputError, match="not encoded by this text model"):
        matcher().segment(encoded, reference, key=KEY, texts={"thing": "red"})


def test_references_need_no_text_features(image, reference):
    """Only the target is compared with the text."""
    picture, (mask,) = scene(SIZE, [((60, 45), 25, RED)], 0)
    bare = replace(matcher(), text=None).reference(picture, mask, class_name="thing")
    one, two = (
        matcher().segment(image, given, key=KEY, texts={"thing": "red"})["thing"]
        for given in (bare, reference)
    )
    np.testing.assert_array_equal(one.match_map, two.match_map)
