from __future__ import annotations

import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, disc, ground, paint, scene

from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.config import CompletionConfig, SoftmatcherConfig
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.pipelines.scribbling import scribble_mask, spread_points
from softmatch_jax.prompting import Box, Painted, Points, Polyline, Scribbles, seeds

SIZE = (120, 160)
CONFIG = CompletionConfig()


def completed(image, annotation, generator=None, config=CONFIG):
    generator = generator or FloodGenerator()
    size = image.shape[:2]
    encoded = Encoded(("none", generator.name), size, None, generator.encode(image))
    return scribble_mask(encoded, seeds(annotation, size), generator, config)


def bridged():
    """Two discs of one colour and a bridge between them."""
    image, truths = scene(SIZE, [((42, 60), 25, RED), ((118, 60), 25, RED)], 3)
    bridge = np.zeros(SIZE, bool)
    bridge[56:66, 60:100] = True
    return paint(image, bridge, RED, 4), truths


LEFT = Polyline(((30, 55), (54, 65)), 4)


def test_a_stroke_finds_the_object():
    image, (truth,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    assert intersection_over_union(completed(image, Scribbles((LEFT,))), truth) > 0.9


def test_a_negative_stroke_cuts_the_bridge():
    image, (left, right) = bridged()
    plain = completed(image, Scribbles((LEFT,)))
    assert (plain & right).sum() > 0.9 * right.sum()
    stroke = Polyline(((80, 50), (80, 72)), 8, False)
    made = completed(image, Scribbles((LEFT, stroke)))
    assert not (made & right).any() and (made & left).sum() > 0.9 * left.sum()
    assert not (made & seeds(Scribbles((LEFT, stroke)), SIZE).background).any()


def test_a_correction_mends_what_the_first_answer_got_wrong():
    """The one negative point goes to the thickest stroke; the next cuts the bridge.

    The stroke across the bridge counts although the thick one is much larger.
    """
    image, (left, right) = bridged()
    annotation = Scribbles(
        (LEFT, Polyline(((80, 48), (80, 74)), 6, False), Polyline(((20, 12), (140, 12)), 14, False))
    )
    generators = [FloodGenerator(), FloodGenerator()]
    without, mended = (
        completed(image, annotation, generator, CompletionConfig(points=1, rounds=rounds))
        for generator, rounds in zip(generators, (0, 3), strict=True)
    )
    assert len(generators[0].asked) == 1 and 2 <= len(generators[1].asked) <= 4
    assert (without & right).sum() > 0.9 * right.sum() and not (mended & right).any()
    assert intersection_over_union(mended, left) > 0.85
    first, then = (call[0] for call in generators[1].asked[:2])
    assert first.logits is None and then.logits is not None
    np.testing.assert_array_equal(then.points[:-1], first.points)
    x, y = then.points[-1]
    assert not then.positive[-1] and 77 <= x <= 83 and 56 <= y <= 66


def test_what_was_missed_is_asked_for():
    """Two pieces of one object, and a single point: the other piece is the correction."""
    image, truths = scene(SIZE, [((42, 60), 22, RED), ((118, 60), 22, GREEN)], 3)
    strokes = Scribbles((Polyline(((42, 50), (42, 70)), 8), Polyline(((118, 55), (118, 65)), 6)))
    generator = FloodGenerator()
    made = completed(image, strokes, generator, CompletionConfig(points=1))
    assert intersection_over_union(made, truths[0] | truths[1]) > 0.85
    x, y = generator.asked[1][0].points[-1]
    assert generator.asked[1][0].positive[-1] and truths[1][int(y), int(x)]


def test_a_click_is_one_point_and_gets_all_its_answers():
    image, (truth,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    generator = FloodGenerator()
    completed(image, Points(((60.3, 59.8),), (True,)), generator)
    assert [len(prompt.points) for prompt in generator.asked[0]] == [1]
    both = Points(((60, 60), (70, 50), (5, 5)), (True, True, False))
    made = completed(image, both, generator)
    assert generator.asked[1][0].positive.tolist() == [True, True, False]
    np.testing.assert_allclose(
        np.sort(generator.asked[1][0].points, axis=0), [[5, 5], [60, 50], [70, 60]], atol=1
    )
    assert intersection_over_union(made, truth) > 0.9


@pytest.mark.parametrize("size", [(1500, 2000), (60, 50)])
def test_a_click_is_one_point_in_pictures_of_any_size(size):
    generator = FloodGenerator()
    completed(ground(size, 0), Points(((size[1] * 0.37, size[0] * 0.61),), (True,)), generator)
    assert len(generator.asked[0][0].points) == 1


def test_a_click_that_the_map_of_strokes_cannot_tell_goes_to_the_best_score():
    image, (truth,) = scene(SIZE, [((60, 60), 32, RED)], 0)

    class Ranked(FloodGenerator):
        def _answers(self, embedding, prompt):
            (part, _), (whole, _), (more, _) = super()._answers(embedding, prompt)
            return [(part, 0.5), (whole, 0.9), (more, 0.7)]

    made = completed(image, Points(((60, 60),), (True,)), Ranked())
    assert intersection_over_union(made, truth) > 0.9


def test_a_box_is_a_box_and_its_outside_is_no_point():
    image, (truth,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    generator = FloodGenerator()
    made = completed(image, Box(25, 25, 95, 95), generator)
    assert intersection_over_union(made, truth) > 0.9
    ((prompt,),) = generator.asked
    assert prompt.box == (25, 25, 95, 95) and len(prompt.points) == 0


def test_strokes_win_over_the_answer():
    image, _ = scene(SIZE, [((60, 60), 32, RED)], 0)
    on, off = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    on[58:62, 50:140], off[50:54, 40:80] = True, True  # drawn beyond the object, and across it
    made = completed(image, Painted(on, off), FloodGenerator(), CompletionConfig(rounds=0))
    assert made[on].all() and not made[off].any()


def test_strokes_of_both_signs_in_one_cell_are_no_endless_quarrel():
    """A cell of the raster cannot be on the object and off it; the strokes decide in the picture."""
    image, _ = scene(SIZE, [((60, 60), 32, RED)], 0)
    on, off = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    on[60:62, 60:62], off[62:64, 62:64] = True, True
    generator = FloodGenerator(reach=0)
    made = completed(image, Painted(on, off), generator)
    assert made[on].all() and not made[off].any() and len(generator.asked) == 1


@pytest.mark.parametrize("size", [(121, 161), (122, 162), (5, 90)])
def test_strokes_along_the_border_need_no_correction(size):
    """The last row may lie in a cell whose centre is beyond the picture, which no mask holds."""
    image = ground(size, 0)
    image[:] = np.where(disc(size, (size[1], size[0]), 40)[..., None], np.uint8(RED), image)
    on = np.zeros(size, bool)
    on[-4:, -12:] = True
    generator = FloodGenerator()
    completed(image, Painted(on, np.zeros(size, bool)), generator)
    assert len(generator.asked) == 1


def test_no_answer_is_an_empty_mask():
    class Silent(FloodGenerator):
        def _answers(self, embedding, prompt):
            return []

    assert not completed(ground(SIZE, 0), Scribbles((LEFT,)), Silent()).any()


def test_a_generator_that_falls_silent_leaves_its_first_answer():
    image, (left, _) = bridged()

    class Once(FloodGenerator):
        def _answers(self, embedding, prompt):
            return super()._answers(embedding, prompt) if len(self.asked) == 1 else []

    annotation = Scribbles((LEFT, Polyline(((118, 40), (118, 80)), 8, False)))
    made = completed(image, annotation, Once(reach=1), CompletionConfig(points=1))
    assert (made & left).sum() > 0.9 * left.sum()


def test_points_spread_over_the_strokes():
    pixels = np.zeros((40, 100), bool)
    pixels[18:23, 10:90] = True
    points = spread_points(pixels, 5)
    assert len(points) == 5 and points.dtype == np.float32
    assert pixels[points[:, 1].astype(int), points[:, 0].astype(int)].all()
    assert points[0, 1] == 20.5  # the first is in the middle of the stroke
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)[~np.eye(5, dtype=bool)]
    assert gaps.min() > 15
    assert len(spread_points(pixels, 500, apart=10)) < 20
    assert spread_points(np.zeros((5, 5), bool), 3).shape == (0, 2)
    pixels = np.zeros((5, 5), bool)
    pixels[1, 3] = True
    assert spread_points(pixels, 3).tolist() == [[3.5, 1.5]]


def test_it_is_what_generators_that_take_points_get():
    image, (truth,) = scene(SIZE, [((60, 60), 32, RED)], 0)
    generator = FloodGenerator()
    encoded = Encoded(("none", "flood"), SIZE, None, generator.encode(image))
    made = complete_mask(encoded, seeds(Scribbles((LEFT,)), SIZE), generator, SoftmatcherConfig.foundation())
    assert intersection_over_union(made, truth) > 0.9
