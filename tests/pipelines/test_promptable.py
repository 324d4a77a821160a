"""The pipeline with a generator that takes points, on pictures whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from slow_params import mostly_slow

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.matching import METHODS
from softmatch_jax.models import DenseDescriptor, DescriptorConfig
from softmatch_jax.prompting import Points, Polyline, Scribbles

KEY = jax.random.key(0)
SIZE = (120, 160)
DESCRIPTOR = DenseDescriptor(DescriptorConfig(longest=80, stride=4, pooling=(2.0, 4.0)))


def change(config, **parts):
    return replace(config, **{name: replace(getattr(config, name), **new) for name, new in parts.items()})


def made(config=None, **flood):
    return Softmatcher(DESCRIPTOR, FloodGenerator(**flood), config or SoftmatcherConfig.foundation())


@pytest.fixture(scope="module")
def matcher():
    return made()


@pytest.fixture(scope="module")
def red(matcher):
    image, (mask,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    return matcher.reference(image, mask, class_name="red")


@pytest.fixture(scope="module")
def green(matcher):
    image, (mask,) = scene(SIZE, [((100, 55), 30, GREEN)], 5)
    return matcher.reference(image, mask, class_name="green")


@pytest.fixture(scope="module")
def target():
    image, (truth,) = scene(SIZE, [((110, 50), 28, RED)], 9)
    return image, truth


def iou(found, truth):
    return intersection_over_union(found.mask, truth)


def test_finds_the_object_and_is_surer_of_it_than_of_the_rest(matcher, red, target):
    found = matcher.segment(target[0], red, key=KEY)["red"]
    assert iou(found, target[1]) > 0.9 and not found.absent and len(found.instances) == 1
    assert found.confidence.shape == SIZE and found.confidence.dtype == np.float32
    assert found.confidence.min() >= 0 and found.confidence.max() <= 1
    assert found.confidence[found.mask].mean() > 0.5 > 0.1 > found.confidence[~found.mask].mean()
    assert len(found.kept) and set(found.kept) <= set(range(len(found.proposals)))


def test_pictures_of_other_shapes(matcher, red):
    for size, centre, radius in (((200, 90), (40, 120), 30), ((61, 143), (100, 30), 20)):
        image, (truth,) = scene(size, [(centre, radius, RED)], 4)
        assert iou(matcher.segment(image, red, key=KEY)["red"], truth) > 0.85


@pytest.mark.parametrize("method", mostly_slow(sorted(METHODS), "geometric", "hungarian"))
def test_every_method_finds_it(red, target, method):
    matcher = made(change(SoftmatcherConfig.foundation(), matching={"method": method}))
    one, two = (matcher.segment(target[0], red, key=KEY)["red"] for _ in range(2))
    assert iou(one, target[1]) > 0.85
    # Also where the method draws random numbers: the same references and key, the same answer.
    assert one.match_map.tobytes() == two.match_map.tobytes()
    assert np.array_equal(one.mask, two.mask)


@pytest.mark.parametrize(
    "method", mostly_slow(["geometric", "arithmetic", "hungarian", "sinkhorn"], "geometric", "arithmetic")
)
def test_the_object_alone_finds_it_too(red, target, method):
    config = SoftmatcherConfig.foundation()
    config = change(config, matching={"method": method, "contrast": False}, decision={"min_resemblance": -9})
    found = made(config).segment(target[0], red, key=KEY)["red"]
    x, y = found.points.astype(int).T
    assert target[1][y, x].mean() > 0.7


def test_several_classes_and_references(matcher, red, green):
    image, truths = scene(SIZE, [((45, 60), 25, RED), ((115, 60), 25, GREEN)], 6)
    other_image, (other_mask,) = scene(SIZE, [((80, 70), 20, RED)], 8)
    second = matcher.reference(other_image, other_mask, class_name="red")
    result = matcher.segment(image, [red, green, second], key=KEY)
    assert [entry.name for entry in result.classes] == ["red", "green"]
    for entry, truth in zip(result.classes, truths, strict=True):
        assert iou(entry, truth) > 0.85
        assert np.array_equal(entry.mask, result.labels == entry.index)


def test_touching_objects_are_told_apart_by_their_proposals(red):
    image, truths = scene(SIZE, [((52, 60), 27, RED), ((106, 60), 27, (165, 50, 45))], 3)
    matcher = made(change(SoftmatcherConfig.foundation(), prompting={"prompts": "points"}), tolerance=25.0)
    found = matcher.segment(image, red, key=KEY)["red"]
    # Points on the rim yield specks of its mixed colour besides.
    large = [number for number, one in enumerate(found.instances, start=1) if one.area > 200]
    assert len(large) == 2
    for number in large:
        piece = found.instance_labels == number
        assert piece.sum() == found.instances[number - 1].area
        assert max(intersection_over_union(piece, truth) for truth in truths) > 0.85
    assert np.array_equal(found.instance_labels > 0, found.mask)
    joined = replace(matcher, config=change(matcher.config, decision={"instances": "components"}))
    assert len(joined.segment(image, red, key=KEY)["red"].instances) == 1


def test_absent_objects_leave_an_empty_mask_and_a_reason(matcher, red):
    image, _ = scene(SIZE, [((100, 60), 30, GREEN)], 4)
    result = matcher.segment(image, red, key=KEY)
    assert result.absent and not result.labels.any() and "red" in result["red"].reason


def test_a_class_that_loses_every_pixel_is_told_so(matcher, red, target):
    """The earlier of two classes that are equal in all things takes what both claim."""
    twin = replace(red, class_name="twin", states={})
    alike = change(matcher.config, prompting={"sampler": "top_k", "clusters": 1})
    result = replace(matcher, config=alike).segment(target[0], [red, twin], key=KEY)
    assert not result["red"].absent and result["twin"].absent and not result["twin"].mask.any()
    assert result["twin"].reason == "whatever looks like 'twin' looks more like another class"
    tiny = change(matcher.config, decision={"min_area": 0.9})
    assert (
        "smaller than min_area"
        in replace(matcher, config=tiny).segment(target[0], red, key=KEY)["red"].reason
    )


def test_a_blank_target_is_absent(matcher, red):
    found = matcher.segment(np.full((50, 70, 3), 128, np.uint8), red, key=KEY)["red"]
    assert found.absent and len(found.proposals) == 0 and found.confidence.shape == (50, 70)
    assert not found.confidence.any()


@pytest.mark.parametrize("prompts", ["clusters", "points"])
def test_a_prompt_is_a_cluster_or_a_point(red, target, prompts):
    matcher = made(change(SoftmatcherConfig.foundation(), prompting={"prompts": prompts}))
    found = matcher.segment(target[0], red, key=KEY)["red"]
    assert iou(found, target[1]) > 0.85
    (asked,) = matcher.masks.asked
    wanted = len(found.points) if prompts == "points" else len(set(found.clusters.tolist()))
    assert len(asked) == wanted and sum(len(prompt.points) for prompt in asked) == len(found.points)


def test_the_graph_variant(red, target):
    found = made(SoftmatcherConfig.graph()).segment(target[0], red, key=KEY)["red"]
    assert iou(found, target[1]) > 0.85
    assert intersection_over_union(found.instance_labels == 1, target[1]) > 0.85


BARS = {
    "min_score": (0.95, {}),
    "min_stability": (0.7, {"stability": 0.65}),
    "min_purity": (0.7, {"tolerance": 1000.0}),
    "min_coverage": (0.9, {"tolerance": 1.0}),
    "min_evidence": (0.99, {"tolerance": 1000.0}),
}


@pytest.mark.parametrize("bar", BARS)
def test_the_reason_names_the_bar(red, target, bar):
    """Paint that goes everywhere is not pure; paint that goes nowhere covers little."""
    least, flood = BARS[bar]
    config = change(
        SoftmatcherConfig.foundation(), decision={"min_purity": 0.0, "min_resemblance": -9.0, bar: least}
    )
    found = made(config, **flood).segment(target[0], red, key=KEY)["red"]
    assert found.absent and not found.mask.any()
    assert f"decision.{bar}" in found.reason and "red" in found.reason
    config = change(config, decision={bar: 0.0})
    assert made(config, **flood).segment(target[0], red, key=KEY)["red"].mask.any()


def test_an_output_becomes_a_reference(matcher, red, target):
    found = matcher.segment(target[0], red, key=KEY)["red"]
    promoted = matcher.reference(target[0], found.mask, class_name="red")
    third, (truth,) = scene(SIZE, [((50, 70), 26, RED)], 21)
    assert iou(matcher.segment(third, [red, promoted], key=KEY)["red"], truth) > 0.9


def test_scribbles_become_prompts(matcher):
    image, (mask,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    strokes = Scribbles((Polyline(((45, 55), (75, 65)), 4), Polyline(((5, 5), (150, 8)), 4, False)))
    assert intersection_over_union(matcher.reference(image, strokes).mask, mask) > 0.9


def test_a_click_that_finds_nothing_is_one_sentence(matcher):
    class Silent(FloodGenerator):
        def _answers(self, embedding, prompt):
            return []

    image, _ = scene(SIZE, [((60, 60), 32, RED)], 0)
    with pytest.raises(InputError, match="The annotation grew into nothing"):
        replace(matcher, masks=Silent()).reference(image, Points(((60, 60),), (True,)))


def test_the_next_target_compiles_nothing(matcher, red, target, count_compiles):
    matcher.segment(target[0], red, key=KEY)
    with count_compiles() as compiled:
        for size in ((90, 130), (144, 77)):
            image, _ = scene(size, [((40, 40), 25, RED)], 2)
            matcher.segment(image, red, key=jax.random.key(1))
    assert compiled == []


def test_the_key_decides(matcher, red, target):
    one, two, other = (matcher.segment(target[0], red, key=jax.random.key(seed))["red"] for seed in (3, 3, 4))
    assert np.array_equal(one.points, two.points) and np.array_equal(one.mask, two.mask)
    assert not np.array_equal(one.points, other.points)
