"""One way to call every method."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from small_models import Colours, write_models

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.pipelines import CacheConfig, FeatureCache, MatchingConfig, ModelsConfig
from softmatch_jax.pipelines.one_class import Encodings, one_class, with_method
from softmatch_jax.pipelines.one_class_names import BASELINES, MATCHING_METHODS, ONE_CLASS_METHODS
from softmatch_jax.prompting import MaskAnnotation, Polyline, Scribbles

KEY = jax.random.key(0)
SIZE = (96, 128)
LEAST = 0.85  # of a disc of 13 cells on the stand-in's raster, a cell about the rim costs a tenth
QUICK = ("geometric", *BASELINES)
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ONE_CLASS_METHODS]


def made(config=None, **changes):
    settings = config or SoftmatcherConfig.foundation()
    return Softmatcher(Colours(16), FloodGenerator(), settings, **changes)


def shown(centre=(50, 50), seed=0, colour=RED):
    image, (mask,) = scene(SIZE, [(centre, 26, colour)], seed)
    return image, mask


@pytest.fixture(scope="module")
def reference():
    image, mask = shown()
    return image, MaskAnnotation(mask)


@pytest.mark.parametrize("method", ALL)
def test_every_method_finds_an_obvious_object(method, reference):
    target, truth = shown((80, 40), 7)
    asked = one_class(method, made())
    found = asked(target, [reference], key=KEY)
    assert asked.name == method
    assert not found.absent and found.reason is None
    assert found.mask.dtype == bool and found.mask.shape == SIZE
    assert intersection_over_union(found.mask, truth) > LEAST
    again = one_class(method, made())(target, [reference], key=KEY)
    np.testing.assert_array_equal(found.mask, again.mask)


@pytest.mark.parametrize("method", ["geometric", "persam"])
def test_takes_several_references_and_scribbles(method):
    (first, _), (second, mask) = shown(), shown((60, 45), 3)
    stroke = Scribbles((Polyline(((40, 50), (60, 50)), 6),))
    target, truth = shown((80, 40), 7)
    several = [(first, stroke), (second, MaskAnnotation(mask)), (second, MaskAnnotation(mask))]
    found = one_class(method, made())(target, several, key=KEY)
    assert intersection_over_union(found.mask, truth) > LEAST


def test_what_is_not_there_is_absent_to_our_pipeline(reference):
    found = one_class("geometric", made())(shown(colour=GREEN)[0], [reference], key=KEY)
    assert found.absent and found.reason and not found.mask.any()


@pytest.mark.parametrize("method", ONE_CLASS_METHODS)
def test_settings_are_json_and_tell_methods_and_models_apart(method):
    settings = one_class(method, made()).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["features"] == Colours(16).name and settings["masks"] == "flood"
    other = one_class(method, Softmatcher(Colours(12), FloodGenerator(), made().config)).settings
    assert other != settings


@pytest.mark.parametrize("method", MATCHING_METHODS)
def test_whitening_stays_where_it_goes_with_the_method(method):
    whitened = with_method(SoftmatcherConfig(), method).matching
    assert whitened.method == method
    assert whitened.whiten is (method in ("geometric", "arithmetic"))
    plain = SoftmatcherConfig(matching=MatchingConfig(whiten=False, temperature=0.3))
    assert not with_method(plain, method).matching.whiten
    assert with_method(plain, method).matching.temperature == 0.3


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"'segment'; expected 'geometric', .* or 'gf-sam'"):
        one_class("segment", made())


@pytest.mark.parametrize("method", ["geometric", *BASELINES])
def test_no_references_and_no_pictures_are_told(method, reference):
    asked = one_class(method, made())
    with pytest.raises(InputError, match="no references"):
        asked(reference[0], [], key=KEY)
    with pytest.raises(InputError, match="uint8"):
        asked(reference[0].astype(float), [reference], key=KEY)


def test_a_picture_is_encoded_once(reference):
    matcher = made()
    asked = one_class("persam", matcher)
    target = shown((80, 40), 7)[0]
    for _ in range(2):
        asked(target, [reference, (reference[0].copy(), reference[1])], key=KEY)
    assert matcher.features.calls == matcher.masks.encodings == 2


def test_what_was_not_used_for_longest_is_forgotten():
    matcher = made()
    encodings = Encodings(matcher, pictures=2)
    a, b, c = (shown(seed=seed)[0] for seed in (1, 2, 3))
    for image in (a, b, a, c, a):  # c takes the place of b
        encodings.encode(image)
    assert matcher.features.calls == 3
    encodings.encode(b)
    assert matcher.features.calls == 4


def test_a_pipeline_with_a_cache_remembers_by_itself():
    matcher = made(cache=FeatureCache(CacheConfig()))
    encodings = Encodings(matcher)
    image = shown()[0]
    first, second = encodings.encode(image), encodings.encode(image)
    assert first is not second and matcher.features.calls == 1


def test_pictures_of_one_content_and_two_shapes_are_two():
    encodings = Encodings(made())
    image = np.zeros((8, 32, 3), np.uint8)
    assert encodings.encode(image).image_size == (8, 32)
    assert encodings.encode(image.reshape(32, 8, 3)).image_size == (32, 8)


def test_names_are_read_without_jax():
    code = (
        "import sys; from softmatch_jax.pipelines.one_class_names import ONE_CLASS_METHODS as names; "
        "print(len(names), 'jax' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(len(ONE_CLASS_METHODS)), "False"]


def test_names_are_unique_and_known():
    assert len(set(ONE_CLASS_METHODS)) == len(ONE_CLASS_METHODS) == 12
    assert set(BASELINES) == {"matcher", "persam", "gf-sam"}


@pytest.mark.slow
def test_every_baseline_runs_on_dinov2_and_sam(tmp_path):
    models = ModelsConfig(size=112, device="cpu", **write_models(tmp_path))
    matcher = Softmatcher.foundation(models)
    (image, mask), (target, _) = shown(), shown((80, 40), 7)
    for method in BASELINES:
        asked = one_class(method, matcher)
        first, second = (asked(target, [(image, MaskAnnotation(mask))], key=KEY) for _ in range(2))
        assert (
            first.mask.shape == SIZE and first.absent is not first.mask.any()
        )  # random weights find anything
        np.testing.assert_array_equal(first.mask, second.mask)
