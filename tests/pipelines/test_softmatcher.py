from dataclasses import replace

import jax
import numpy as np
import pytest
from scenes import GREEN, RED, ground, scene
from slow_params import mostly_slow

from softmatch_jax import (
    Box,
    InputError,
    MatchingConfig,
    Painted,
    Points,
    Polyline,
    PromptingConfig,
    Scribbles,
    Softmatcher,
    SoftmatcherConfig,
)
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.models import DenseDescriptor, PatchFeatures
from softmatch_jax.pipelines.clock import Clock

KEY = jax.random.key(0)
SIZE = (160, 200)


@pytest.fixture(scope="module")
def matcher():
    return Softmatcher.embedded()


@pytest.fixture(scope="module")
def red(matcher):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    return matcher.reference(image, mask, class_name="red")


@pytest.fixture(scope="module")
def green(matcher):
    image, (mask,) = scene(SIZE, [((120, 70), 38, GREEN)], 5)
    return matcher.reference(image, mask, class_name="green")


def test_finds_the_object_elsewhere_and_at_another_size(matcher, red):
    for size, centre, radius in (((160, 200), (140, 60), 35), ((300, 180), (90, 200), 50)):
        target, (truth,) = scene(size, [(centre, radius, RED)], 9)
        found = matcher.segment(target, red, key=KEY)["red"]
        assert intersection_over_union(found.mask, truth) > 0.9
        assert not found.absent and found.reason is None
        assert len(found.instances) == 1
        assert np.allclose(found.instances[0].centroid, centre, atol=3)


def test_target_equal_to_the_reference(matcher):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    found = matcher.segment(image, matcher.reference(image, mask), key=KEY).classes[0]
    assert intersection_over_union(found.mask, mask) > 0.95
    assert found.resemblance > 0.9


def test_separate_objects_are_separate_instances(matcher, red):
    target, truths = scene(SIZE, [((50, 80), 28, RED), ((150, 80), 24, RED)], 3)
    found = matcher.segment(target, red, key=KEY)["red"]
    assert len(found.instances) == 2
    for instance in found.instances:
        piece = found.instance_labels == 1 + found.instances.index(instance)
        assert piece.sum() == instance.area
        assert max(intersection_over_union(piece, truth) for truth in truths) > 0.85
        x0, y0, x1, y1 = instance.box
        assert piece[y0:y1, x0:x1].sum() == instance.area
    assert np.array_equal(found.instance_labels > 0, found.mask)


def test_absent_object_gives_an_empty_mask_and_a_reason(matcher, red):
    target, _ = scene(SIZE, [((100, 80), 40, GREEN)], 4)
    result = matcher.segment(target, red, key=KEY)
    assert result.absent and result["red"].absent
    assert "red" in result["red"].reason
    assert not result["red"].mask.any() and not result.labels.any()


def test_blank_target_is_absent_not_a_crash(matcher, red):
    for level in (0, 128, 255):
        found = matcher.segment(np.full((64, 64, 3), level, np.uint8), red, key=KEY)["red"]
        assert found.absent and "no part of the target stands out" in found.reason
        assert len(found.points) == 0 and found.resemblance == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3)])
def test_tiny_and_thin_targets(matcher, red, size):
    result = matcher.segment(ground(size, 0), red, key=KEY)
    assert result.labels.shape == size and result.absent and not result.labels.any()


def test_classes_do_not_overlap_and_go_where_they_belong(matcher, red, green):
    target, truths = scene(SIZE, [((50, 80), 30, RED), ((150, 80), 30, GREEN)], 6)
    result = matcher.segment(target, [red, green], key=KEY)
    assert [entry.name for entry in result.classes] == ["red", "green"]
    for entry, truth in zip(result.classes, truths, strict=True):
        assert intersection_over_union(entry.mask, truth) > 0.85
        assert np.array_equal(entry.mask, result.labels == entry.index)
    assert not (result["red"].mask & result["green"].mask).any()


def test_references_of_one_name_are_one_class(matcher, red):
    image, (mask,) = scene(SIZE, [((100, 60), 30, RED)], 11)
    second = matcher.reference(image, mask, class_name="red")
    target, (truth,) = scene(SIZE, [((140, 90), 35, RED)], 12)
    result = matcher.segment(target, [red, second], key=KEY)
    assert len(result.classes) == 1
    assert intersection_over_union(result.classes[0].mask, truth) > 0.9


def test_order_of_references_does_not_matter(matcher, red, green):
    target, _ = scene(SIZE, [((50, 80), 30, RED), ((150, 80), 30, GREEN)], 6)
    one = matcher.segment(target, [red, green], key=KEY)
    other = matcher.segment(target, [green, red], key=KEY)
    for name in ("red", "green"):
        assert np.allclose(one[name].match_map, other[name].match_map, atol=1e-4)


ANNOTATIONS = {
    "scribble": Scribbles((Polyline(((50, 70), (70, 95), (92, 70)), 6),)),
    "scribble and background": Scribbles(
        (Polyline(((50, 80), (92, 80)), 6), Polyline(((10, 10), (190, 15), (190, 150)), 5, False))
    ),
    "points": Points(((55, 75), (85, 85), (70, 100), (70, 60), (180, 20)), (True, True, True, True, False)),
    "box": Box(25, 35, 115, 125),
}


@pytest.mark.parametrize("name", mostly_slow(ANNOTATIONS, "scribble and background", "box"))
def test_annotations_grow_into_the_object(matcher, name):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    assert intersection_over_union(matcher.reference(image, ANNOTATIONS[name]).mask, mask) > 0.9


def test_painted_annotation_keeps_its_strokes(matcher):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    foreground, background = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    foreground[60:100, 66:74], background[:10] = True, True
    reference = matcher.reference(image, Painted(foreground, background))
    assert intersection_over_union(reference.mask, mask) > 0.9
    assert reference.mask[foreground].all() and not reference.mask[background].any()


def test_promoted_output_is_a_reference(matcher, red):
    target, (truth,) = scene(SIZE, [((140, 60), 35, RED)], 9)
    found = matcher.segment(target, red, key=KEY)["red"]
    promoted = matcher.reference(target, found.mask, class_name="red")
    third, (truth,) = scene(SIZE, [((60, 100), 30, RED)], 21)
    assert intersection_over_union(matcher.segment(third, promoted, key=KEY)["red"].mask, truth) > 0.9


def test_encoded_picture_stands_for_the_picture(matcher, red):
    target, _ = scene(SIZE, [((140, 60), 35, RED)], 9)
    direct = matcher.segment(target, red, key=KEY)
    encoded = matcher.segment(matcher.encode(target), red, key=KEY)
    assert np.array_equal(direct.labels, encoded.labels)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(SoftmatcherConfig(matching=MatchingConfig(method="arithmetic")), marks=pytest.mark.slow),
        SoftmatcherConfig(prompting=PromptingConfig(sampler="multinomial")),
    ],
    ids=["arithmetic", "multinomial"],
)
def test_other_settings_work_too(config):
    matcher = Softmatcher.embedded(config)
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    target, (truth,) = scene(SIZE, [((140, 60), 35, RED)], 9)
    found = matcher.segment(target, matcher.reference(image, mask), key=KEY).classes[0]
    assert intersection_over_union(found.mask, truth) > 0.85


def test_same_key_same_bytes(matcher, red):
    target, _ = scene(SIZE, [((140, 60), 35, RED)], 9)
    one, two = (matcher.segment(target, red, key=jax.random.key(7)) for _ in range(2))
    assert one.labels.tobytes() == two.labels.tobytes()
    assert one["red"].match_map.tobytes() == two["red"].match_map.tobytes()
    assert np.array_equal(one["red"].points, two["red"].points)


def test_between_stages_others_have_their_turn(matcher, red):
    target, _ = scene(SIZE, [((140, 60), 35, RED)], 9)
    alone, inner = matcher.segment(target, red, key=KEY), []
    calls = []

    def between():
        calls.append(1)
        if len(calls) in (3, 8):  # in the middle, and at the end
            inner.append(matcher.segment(target, red, key=KEY))

    found = matcher.segment(target, red, key=KEY, between=between)
    assert len(calls) == len(found.timings) == 8
    assert all(np.array_equal(one.labels, alone.labels) for one in [found, *inner])


def test_the_time_between_stages_is_booked_nowhere(monkeypatch):
    now = [0.0]

    def spend(seconds):
        now[0] += seconds

    monkeypatch.setattr("softmatch_jax.pipelines.clock.time.perf_counter", lambda: now[0])
    clock = Clock(lambda: spend(100))
    for name, seconds in (("match", 1), ("decode", 2), ("match", 4)):
        spend(seconds)
        clock.lap(name)
    assert clock.seconds == {"match": 5, "decode": 2}


def test_what_is_raised_between_stages_ends_it(matcher, red):
    target, _ = scene(SIZE, [((140, 60), 35, RED)], 9)
    calls = []

    def between():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matcher.segment(target, red, key=KEY, between=between)
    assert len(calls) == 3


def test_points_lie_where_the_map_is_above_one_half(matcher, red):
    target, _ = scene(SIZE, [((140, 60), 35, RED)], 9)
    found = matcher.segment(target, red, key=KEY)["red"]
    x, y = np.floor(found.points).astype(int).T
    # A patch centre falls between pixels; the map there is interpolated, hence the slack.
    assert (found.match_map[y, x] > 0.4).all()
    assert set(found.clusters) <= set(range(8)) and len(found.points) == len(found.clusters) > 0


def test_targets_of_new_sizes_compile_nothing(matcher, red, count_compiles):
    matcher.segment(ground((90, 120), 0), red, key=KEY)
    with count_compiles() as compiled:
        for size in ((120, 90), (333, 77), (64, 512)):
            matcher.segment(ground(size, 1), red, key=KEY)
    assert compiled == []


class _Broken:
    """An extractor whose weights are not finite."""

    name, dim = "broken", 30

    def __call__(self, images):
        features = DenseDescriptor()(images)
        return PatchFeatures(features.values.at[0, 0, 0, 0].set(np.nan), features.valid, features.grid)


def test_features_that_are_not_finite_are_refused(matcher):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    with pytest.raises(InputError, match="features from broken holds 1 values that are NaN"):
        replace(matcher, features=_Broken()).reference(image, mask)


def test_bad_input_is_one_sentence(matcher, red):
    image, (mask,) = scene(SIZE, [((70, 80), 40, RED)], 0)
    with pytest.raises(InputError, match="no references"):
        matcher.segment(image, [], key=KEY)
    with pytest.raises(InputError, match="class_name is empty"):
        matcher.reference(image, mask, class_name=" ")
    with pytest.raises(InputError, match="same size"):
        matcher.reference(image, mask[:-1])
    with pytest.raises(InputError):
        matcher.reference(image, np.zeros(SIZE, bool))
    with pytest.raises(InputError):
        matcher.reference(image, np.ones(SIZE, bool))
    with pytest.raises(InputError, match=r"uint8 \[H, W, 3\]"):
        matcher.segment(image.astype(float), red, key=KEY)
    with pytest.raises(InputError, match="annotation is a tuple"):
        matcher.reference(image, (1, 2, 3, 4))
    with pytest.raises(InputError, match=r"expected a random key, such as jax.random.key\(0\)"):
        matcher.segment(image, red, key=0)
    with pytest.raises(InputError, match="No class 'blue'"):
        matcher.segment(image, red, key=KEY)["blue"]
