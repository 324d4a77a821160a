"""Corrections by one stroke: what they change, and what they leave alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from flood_generator import FloodGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import GREEN, RED, scene

from softmatch_jax import InputError, SoftmatcherConfig
from softmatch_jax._types import MOST_OBJECTS
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut
from softmatch_jax.pipelines.correcting import LEAST_REACH, REACH, correct_labels
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.prompting import Seeds, draw_polyline, fill_box

SIZE = (120, 160)
CONFIG = SoftmatcherConfig()
IMAGE, (LEFT, RIGHT, THIRD) = scene(
    SIZE, [((40, 60), 22, RED), ((95, 60), 22, RED), ((140, 20), 14, GREEN)], 0
)
ENCODED = Encoded(("none", "flood", ""), SIZE, None, FloodGenerator().encode(IMAGE))
NOTHING = np.zeros(SIZE, bool)


def line(x0, y0, x1, y1, width=5.0):
    return draw_polyline([(x0, y0), (x1, y1)], width, SIZE)


def correct(labels, stroke, *, positive=True, against=NOTHING, generator=None, region=None):
    marked = Seeds(stroke, against & ~stroke, region)
    return correct_labels(
        ENCODED, labels.astype(np.uint16), marked, generator or FloodGenerator(), CONFIG, positive=positive
    )


def distance(stroke):
    return cv2.distanceTransform((~stroke).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def reach(stroke):
    rows, columns = np.nonzero(stroke)
    longest = max(np.ptp(rows), np.ptp(columns)) + 1
    return max(REACH * longest, LEAST_REACH * max(SIZE))


strokes = st.builds(
    line,
    st.integers(2, 157),
    st.integers(2, 117),
    st.integers(2, 157),
    st.integers(2, 117),
    st.sampled_from([1.0, 3.0, 9.0]),
)
bases = st.sampled_from(
    [0 * LEFT, 4 * LEFT, 4 * LEFT + 2 * RIGHT, 1 * (LEFT | RIGHT) + 6 * THIRD, 1 * ~THIRD]
)


@settings(max_examples=60, deadline=None)
@given(bases, strokes, strokes)
def test_a_positive_stroke_is_in_and_takes_nothing_from_anyone(labels, stroke, against):
    made = correct(labels, stroke, against=against)
    assert (made[stroke] > 0).all()
    np.testing.assert_array_equal(made[labels > 0], labels[labels > 0])
    changed = made != labels
    assert not (changed & against & ~stroke).any()
    if changed.any():
        assert len(np.unique(made[changed])) == 1  # one object was added to, or is new
        _, pieces = cv2.connectedComponents((changed | stroke).astype(np.uint8), connectivity=8)
        touched = cv2.dilate(stroke.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert set(np.unique(pieces[changed])) <= set(np.unique(pieces[touched]))
        if made[changed][0] <= labels.max():
            assert distance(stroke)[changed].max() <= reach(stroke) + 1e-3


@settings(max_examples=60, deadline=None)
@given(bases, strokes, strokes)
def test_a_negative_stroke_is_out_and_takes_only_from_what_it_touches(labels, stroke, against):
    made = correct(labels, stroke, positive=False, against=against)
    assert not made[stroke].any()
    changed = made != labels
    assert not made[changed].any() and not (changed & against & ~stroke).any()
    assert set(np.unique(labels[changed])) <= set(np.unique(labels[stroke]))
    if changed.any():
        assert distance(stroke)[changed].max() <= reach(stroke) + 1e-3


@settings(max_examples=30, deadline=None)
@given(bases, strokes, st.booleans())
def test_a_stroke_that_agrees_changes_nothing_and_asks_nothing(labels, stroke, positive):
    agreeing = stroke & ((labels > 0) == positive)
    generator = FloodGenerator()
    if agreeing.any():
        made = correct(labels, agreeing, positive=positive, generator=generator)
        np.testing.assert_array_equal(made, labels)
        assert not generator.asked


def test_a_missed_object_is_added_whole_under_the_next_number():
    made = correct(7 * LEFT, line(90, 60, 100, 60))
    assert intersection_over_union(made == 8, RIGHT) > 0.9
    # However large: an object of its own ends where it ends.
    stroke = line(80, 60, 88, 60)
    assert distance(stroke)[RIGHT].max() > reach(stroke) + 5
    assert intersection_over_union(correct(7 * LEFT, stroke) == 8, RIGHT) > 0.9


def test_a_missed_part_goes_to_its_object():
    half = LEFT & (np.arange(160) < 40)
    made = correct(3 * half, line(46, 60, 52, 60))
    assert intersection_over_union(made == 3, LEFT) > 0.9 and made.max() == 3
    touching = correct(3 * half, line(36, 60, 52, 60))
    assert intersection_over_union(touching == 3, LEFT) > 0.9 and touching.max() == 3


def test_a_spill_is_taken_away_and_no_more():
    spill = line(67, 5, 67, 115, 12) & ~LEFT & ~RIGHT
    base = 2 * LEFT
    base[spill] = 2
    made = correct(base, line(67, 40, 67, 80, 3), positive=False)
    assert (made[LEFT] == 2).mean() > 0.95 and not made[40:80, 65:70].any()


def test_a_false_find_goes_with_its_rim():
    wide = cv2.dilate(RIGHT.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    made = correct(1 * LEFT + 2 * wide, line(85, 60, 105, 60), positive=False)
    np.testing.assert_array_equal(made, 1 * LEFT)
    held = correct(
        1 * LEFT + 2 * wide, line(85, 55, 105, 55), positive=False, against=line(85, 66, 105, 66, 3)
    )
    assert (held[line(85, 66, 105, 66, 3)] == 2).all()


def test_a_box_adds_what_is_in_it():
    region = fill_box((68, 34, 122, 86), SIZE)
    made = correct(1 * LEFT, NOTHING, region=region, against=~region)
    assert intersection_over_union(made == 2, RIGHT) > 0.85
    np.testing.assert_array_equal(made == 1, LEFT)


def test_where_the_generator_finds_nothing_the_stroke_is_all():
    class Blind(FloodGenerator):
        def decode(self, embedding, prompts, *, prior=None):
            return super().decode(embedding, prompts)[:0]

    stroke = line(90, 60, 100, 60)
    np.testing.assert_array_equal(correct(1 * LEFT, stroke, generator=Blind()), 1 * LEFT + 2 * stroke)
    made = correct(1 * LEFT, line(38, 60, 42, 60), positive=False, generator=Blind())
    np.testing.assert_array_equal(made, np.where(line(38, 60, 42, 60), 0, LEFT))


@pytest.mark.slow
def test_generators_that_take_no_points_correct_too():
    descriptor, cut = DenseDescriptor(DescriptorConfig(longest=80, stride=4, pooling=(2.0, 4.0))), GrabCut()
    encoded = Encoded((descriptor.name, cut.name, ""), SIZE, descriptor(IMAGE[None]), cut.encode(IMAGE))
    labels, stroke = (4 * LEFT).astype(np.uint16), line(85, 60, 105, 60)
    made = correct_labels(encoded, labels, Seeds(stroke, NOTHING), cut, CONFIG)
    assert (made[stroke] > 0).all()
    np.testing.assert_array_equal(made[LEFT], 4)


def test_what_cannot_be_corrected_is_said():
    with pytest.raises(InputError, match="8x5 pixels"):
        correct(np.zeros((5, 8)), NOTHING)
    full = np.zeros(SIZE)
    full[0, 0] = MOST_OBJECTS
    with pytest.raises(InputError, match="65535 objects"):
        correct(full, line(90, 60, 100, 60))
