from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from slow_params import mostly_slow

from softmatch_jax import MatchingConfig, Softmatcher, SoftmatcherConfig
from softmatch_jax.matching import METHODS
from softmatch_jax.models import DenseDescriptor, DescriptorConfig
from softmatch_jax.pipelines.locating import TextFactor, class_states, locate
from softmatch_jax.pipelines.reference import stack_references

SIZE, TAU = (90, 120), 0.1
PLAIN = MatchingConfig(whiten=False, target_share=0.0, temperature=TAU)
DESCRIPTOR = DenseDescriptor(DescriptorConfig(longest=64, stride=4, pooling=(2.0,)))

QUICK = ("geometric", "geometric_dense", "hungarian", "quadratic")


@pytest.fixture(scope="module")
def matcher():
    return Softmatcher(DESCRIPTOR, FloodGenerator(), SoftmatcherConfig.foundation())


@pytest.fixture(scope="module")
def references(matcher):
    discs = [("red", (40, 45), 25, RED), ("red", (70, 40), 20, RED), ("green", (60, 50), 22, GREEN)]
    made = []
    for seed, (name, centre, radius, colour) in enumerate(discs):
        image, (mask,) = scene(SIZE, [(centre, radius, colour)], seed)
        made.append(matcher.reference(image, mask, class_name=name))
    return made


@pytest.fixture(scope="module")
def target(matcher):
    image, _ = scene(SIZE, [((80, 50), 22, RED), ((30, 50), 20, GREEN)], 9)
    return matcher.encode(image).features


def located(references, target, config, text=None):
    names, arrays = stack_references(references, whiten=config.whiten)
    states = class_states(names, references, config)
    found, cut = locate(arrays, states, target, config=config, size_factor=16.0, text=text)
    return names, found, cut


def softmax(logits, valid):
    logits = np.where(valid, logits, -np.inf)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def directions(reference):
    """The weighted means of the unit features on the object and off it, in double precision."""
    flat = np.asarray(reference.encoded.features.flat(), np.float64)
    means = []
    for weights in (reference.foreground, reference.background):
        chosen = weights > 0
        means.append(weights[chosen].astype(np.float64) @ unit(flat[chosen]))
    return means


@pytest.mark.parametrize("contrast", [True, False])
def test_the_geometric_map_is_a_softmax_along_the_mean_references(references, target, contrast):
    """Mean over the references of a class: each counts the same, whatever the size of its object."""
    names, found, _ = located(references, target, replace(PLAIN, contrast=contrast))
    valid = target.valid.ravel()
    goal = np.asarray(target.flat(), np.float64)
    goal[valid] = unit(goal[valid])
    for row, name in enumerate(names):
        pairs = [directions(one) for one in references if one.class_name == name]
        on, off = np.mean(pairs, axis=0)
        wanted = softmax(goal @ (on - off if contrast else on) / TAU, valid)
        np.testing.assert_allclose(np.exp(found.log_probability[row]), wanted, rtol=2e-3, atol=1e-9)


def test_temperature_sharpens_and_does_not_move(references, target):
    _, one, first = located(references, target, PLAIN)
    _, two, second = located(references, target, replace(PLAIN, temperature=TAU / 2))
    valid = target.valid.ravel()
    np.testing.assert_allclose(two.score[:, valid], 2 * one.score[:, valid], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.threshold, 2 * first.threshold, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("method", mostly_slow(sorted(METHODS), *QUICK))
def test_every_method_answers_alike_when_asked_again(references, target, method):
    config = replace(PLAIN, method=method)
    (names, one, first), (_, two, _) = (located(references, target, config) for _ in range(2))
    assert names == ("red", "green") and one.log_probability.shape == (2, target.valid.size)
    np.testing.assert_array_equal(one.score, two.score)
    assert np.isfinite(one.score).all() or not np.isfinite(one.score[:, ~target.valid.ravel()]).any()
    assert np.isfinite(one.log_evidence).all() and np.isfinite(first.threshold).all()
    np.testing.assert_allclose(np.exp(one.log_probability).sum(axis=1), 1, rtol=1e-4)
    assert not np.exp(one.log_probability[:, ~target.valid.ravel()]).any()


@pytest.mark.parametrize(
    "method", mostly_slow((name for name in sorted(METHODS) if not METHODS[name].needs_key), *QUICK)
)
def test_references_of_one_class_may_be_given_in_any_order(references, target, method):
    config = replace(PLAIN, method=method)
    _, one, _ = located(references[:2], target, config)
    _, two, _ = located(references[1::-1], target, config)
    np.testing.assert_allclose(np.exp(one.log_probability), np.exp(two.log_probability), rtol=1e-2, atol=1e-5)


def test_whitened_methods_keep_no_state(references, target):
    assert class_states(("red", "green"), references, MatchingConfig()) is None
    _, found, _ = located(references, target, MatchingConfig())
    assert np.isfinite(found.log_evidence).all()


def test_references_are_prepared_once(references):
    for reference in references:
        reference.states.clear()
    class_states(("red", "green"), references, PLAIN)
    before = [dict(reference.states) for reference in references]
    class_states(("red", "green"), references, replace(PLAIN, temperature=0.3))
    for reference, states in zip(references, before, strict=True):
        assert list(reference.states) == list(states) == [("geometric", True)]
        assert reference.states["geometric", True] is states["geometric", True]
    class_states(("red", "green"), references, replace(PLAIN, contrast=False))
    assert set(references[0].states) == {("geometric", True), ("geometric", False)}


def test_states_of_a_class_do_not_depend_on_other_classes(references, target):
    _, both, _ = located(references, target, PLAIN)
    _, alone, _ = located(references[:2], target, PLAIN)
    np.testing.assert_allclose(both.score[0], alone.score[0], rtol=1e-5, atol=1e-5)


def test_text_joins_as_a_weighted_geometric_mean(references, target):
    valid = target.valid.ravel()
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, valid.size)).astype(np.float32) * 3
    _, plain, _ = located(references, target, PLAIN)
    _, found, _ = located(references, target, PLAIN, TextFactor(logits, np.array([0.0, 0.3], np.float32)))
    # Without a text nothing changes.
    np.testing.assert_array_equal(found.score[0], plain.score[0])
    matched, spoken = np.exp(plain.log_probability[1].astype(np.float64)), softmax(logits[1], valid)
    wanted = matched**0.7 * spoken**0.3
    np.testing.assert_allclose(np.exp(found.log_probability[1]), wanted / wanted.sum(), rtol=1e-3, atol=1e-9)


def test_an_object_in_every_patch_is_contrasted_with_its_picture(matcher, target):
    image, _ = scene(SIZE, [((60, 45), 25, RED)], 1)
    mask = np.ones(SIZE, bool)
    mask[0, 0] = False
    reference = matcher.reference(image, mask)
    assert not reference.background.any() or reference.background.sum() > 0
    for method in ("geometric", "arithmetic", "hungarian"):
        _, found, _ = located([reference], target, replace(PLAIN, method=method))
        assert np.isfinite(found.log_evidence).all()


def test_the_key_of_the_target_plays_no_part_in_the_map(matcher, references):
    image, _ = scene(SIZE, [((80, 50), 22, RED)], 9)
    config = replace(matcher.config, matching=replace(PLAIN, method="random_features"))
    drawn = replace(matcher, config=config)
    one, two = (drawn.segment(image, references[:2], key=jax.random.key(k)).classes[0] for k in (0, 1))
    np.testing.assert_array_equal(one.match_map, two.match_map)


@pytest.mark.parametrize("method", [name for name in sorted(METHODS) if METHODS[name].needs_rest])
def test_padding_is_no_part_of_the_rest(references, target, method):
    """Extractors that keep the shape of a picture leave zeros beside it."""
    reference = references[0]
    features = reference.encoded.features
    config = replace(PLAIN, method=method, contrast=False)
    found = []
    for filling in (0.0, 7.0):
        values = np.where(features.valid[..., None], features.values, np.float32(filling))
        padded = replace(features, values=jax.numpy.asarray(values))
        own = replace(reference, encoded=replace(reference.encoded, features=padded), states={})
        found.append(located([own], target, config)[1])
    np.testing.assert_array_equal(found[0].score, found[1].score)
