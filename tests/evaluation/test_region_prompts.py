"""Prompts made of regions, and how masks that answer them are scored."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from softmatch_jax._checks import InputError
from softmatch_jax.data.bsds500 import read_regions
from softmatch_jax.evaluation import compare, intersection_over_union
from softmatch_jax.evaluation.region_items import PROMPT_KINDS, draw_regions, region_item
from softmatch_jax.evaluation.regions import (
    mask_proposals,
    predictor,
    region_iou,
    region_scores,
    region_table,
)
from softmatch_jax.imaging import read_image
from softmatch_jax.models import GrabCut
from softmatch_jax.models.proposals import Proposals

SIZE = (40, 60)


def picture(number=0):
    return np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)


def labels(regions=6):
    """Columns of 10 pixels, each a sixth of the picture."""
    return np.repeat(np.arange(1, regions + 1), SIZE[1] // regions)[None].repeat(SIZE[0], 0)


def blob(number):
    """An irregular region: the union of three discs."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    middles = rng.uniform((5, 5), (SIZE[1] - 5, SIZE[0] - 5), (3, 2))
    return np.any([np.hypot(x - cx, y - cy) < rng.uniform(3, 12) for cx, cy in middles], axis=0)


@pytest.fixture(scope="module")
def items():
    return [
        region_item(f"picture {i}", picture(i), [blob(10 * i + j) for j in range(1 + i % 3)], seed=0)
        for i in range(8)
    ]


def oracle(items, change=lambda masks: masks[None]):
    """Answers each prompt with the region it was made of, as ``change`` makes one or several masks of it."""
    truths = {item.image.tobytes(): item for item in items}

    def predict(image, prompts):
        item = truths[image.tobytes()]
        known = {
            key(p): m for kind in PROMPT_KINDS for p, m in zip(item.prompts(kind), item.masks, strict=True)
        }
        answers = [change(known[key(prompt)]) for prompt in prompts]
        owners = np.repeat(np.arange(len(prompts)), [len(masks) for masks in answers])
        return mask_proposals(np.concatenate(answers), owners)

    return predict


def key(prompt):
    return prompt.points.tobytes(), prompt.box


def fill_box(image, prompts):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    boxes = [prompt.box for prompt in prompts]
    return mask_proposals(np.array([(x > x0) & (x < x1) & (y > y0) & (y < y1) for x0, y0, x1, y1 in boxes]))


def test_prompts_of_a_hand_made_region():
    mask = np.zeros(SIZE, bool)
    mask[10:17, 20:29], mask[12, 40] = True, True
    item = region_item("a", picture(), [mask])
    assert item.boxes.tolist() == [[20, 10, 41, 17]]  # outer edges of pixels 20 to 40 and 10 to 16
    assert item.centres.tolist() == [[23.5, 13.5]]  # the first of three pixels four deep
    x, y = np.floor(item.points[0]).astype(int)
    assert mask[y, x] and (item.points % 1 == 0.5).all()
    (box,), (centre,), (point,) = map(item.prompts, PROMPT_KINDS)
    assert box.box == (20, 10, 41, 17) and len(box.points) == 0
    assert (
        centre.box is None and centre.points.tolist() == [[23.5, 13.5]] and centre.positive.tolist() == [True]
    )
    assert point.points.tolist() == item.points.tolist()


@pytest.mark.parametrize("number", range(4))
def test_no_pixel_is_deeper_than_the_centre(number):
    mask = blob(number)
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    x, y = np.floor(region_item("a", picture(), [mask]).centres[0]).astype(int)
    assert depth[y, x] == pytest.approx(depth.max())


def test_the_border_of_the_picture_is_an_edge_of_the_region():
    item = region_item("a", picture(), [np.ones(SIZE, bool)])
    assert item.boxes.tolist() == [[0, 0, 60, 40]] and item.centres.tolist() == [[19.5, 19.5]]


def test_random_points_are_spread_over_the_region():
    mask = blob(0)
    xy = np.floor([region_item(f"{i}", picture(), [mask]).points[0] for i in range(400)]).astype(int)
    assert mask[xy[:, 1], xy[:, 0]].all()
    middle, deviation = np.argwhere(mask)[:, ::-1].mean(0), np.argwhere(mask)[:, ::-1].std(0)
    assert (np.abs(xy.mean(0) - middle) < 4 * deviation / 20).all()


def test_regions_are_drawn_by_size_and_number():
    one = np.zeros(SIZE, np.uint16)
    one[:, :38], one[0, 38:], one[1:25, 38:] = 7, 9, 300  # 63 %, 0.9 % and 22 %; the rest is no region
    item = draw_regions("a", picture(), one)
    assert item.regions == ("300",) and (item.masks[0] == (one == 300)).all()
    assert draw_regions("a", picture(), one, area=(0.009, 1)).regions == ("7", "9", "300")
    exact = draw_regions("a", picture(), labels(), area=(1 / 6, 1 / 6), most=9)
    assert exact.regions == ("1", "2", "3", "4", "5", "6")


def test_every_region_is_as_likely_as_any_other():
    drawn = [draw_regions(f"{i}", picture(), labels()).regions for i in range(300)]
    assert {len(set(names)) for names in drawn} == {4}
    assert all(list(names) == sorted(names) for names in drawn)
    times = np.unique(np.concatenate(drawn), return_counts=True)[1]
    assert len(times) == 6 and (np.abs(times - 200) < 4 * np.sqrt(300 * 2 / 9)).all()


def test_the_draw_is_of_seed_and_name_alone():
    items = [
        draw_regions(name, picture(), labels(), seed=seed)
        for name, seed in 2 * [("a", 0), ("b", 0), ("a", 1)]
    ]
    questions = [(item.regions, item.points.tolist()) for item in items]
    assert questions[:3] == questions[3:]
    assert questions[0] != questions[1] and questions[0] != questions[2]


def test_a_perfect_answer_scores_one(items):
    scores = region_scores(oracle(items), items)
    assert len(scores) == 3 * sum(len(item.masks) for item in items)
    assert {score.answer.iou for score in scores} == {score.best.iou for score in scores} == {1.0}
    for kind in PROMPT_KINDS:
        assert region_iou(scores, kind) == pytest.approx((1, 1, 1))


def test_a_filled_box_scores_its_share(items):
    scores = region_scores(fill_box, items, ("box",))
    shares = [
        m.sum() / ((b[2] - b[0]) * (b[3] - b[1]))
        for i in items
        for m, b in zip(i.masks, i.boxes, strict=True)
    ]
    assert [score.answer.iou for score in scores] == pytest.approx(shares)
    mean = region_iou(scores, "box")
    assert mean.value == pytest.approx(np.mean(shares)) and 0 < mean.low < mean.value < mean.high < 1


def test_scores_come_in_order_and_once_for_each_picture(items):
    calls = []

    def predict(image, prompts):
        calls.append(len(prompts))
        return mask_proposals(np.zeros((len(prompts), *SIZE), bool))

    scores = region_scores(predict, items)
    assert calls == [3 * len(item.masks) for item in items]
    regions = [(item.name, name) for item in items for name in item.regions]
    expected = [(i, *region, kind) for i, region in enumerate(regions) for kind in PROMPT_KINDS]
    assert [(s.index, s.picture, s.region, s.prompt) for s in scores] == expected
    assert scores == region_scores(predict, items)


def shifted(mask):
    """The region moved right, the region itself, and nothing."""
    return np.stack([np.roll(mask, 4, axis=1), mask, np.zeros_like(mask)])


def test_the_best_of_three_is_never_worse(items):
    scores = region_scores(oracle(items, shifted), items)
    assert all(score.best.iou == 1 > score.answer.iou for score in scores)
    expected = [intersection_over_union(shifted(mask)[0], mask) for item in items for mask in item.masks]
    assert [s.answer.iou for s in scores if s.prompt == "centre"] == pytest.approx(expected)
    assert region_iou(scores, "centre", best=True).value == 1


def test_the_answer_is_the_mask_that_is_rated_highest(items):
    predict = oracle(items, shifted)

    def rated(ratings):
        def ask(image, prompts):
            made = predict(image, prompts)
            return mask_proposals(made.masks, made.prompts, ratings * len(prompts))

        return region_scores(ask, items, ("box",))

    assert {score.answer.iou for score in rated([0.2, 0.9, 0.3])} == {1.0}
    assert {score.answer.iou for score in rated([0.2, 0.3, 0.9])} == {0.0}


def test_no_mask_is_an_empty_one(items):
    scores = region_scores(lambda image, prompts: Proposals.empty(image.shape[:2]), items, ("box",))
    assert {(s.answer.tp, s.answer.fp, s.best.tp) for s in scores} == {(0, 0, 0)}
    assert [s.answer.fn for s in scores] == [m.sum() for item in items for m in item.masks]
    # A prompt without an answer takes none from the next one.
    late = region_scores(lambda image, prompts: mask_proposals(items[1].masks[1:], [1]), items[1:2], ("box",))
    assert [score.answer.iou for score in late] == [0, 1]


def test_masks_are_compared_at_the_size_of_the_picture():
    mask = np.zeros(SIZE, bool)
    mask[8:20, 16:40] = True
    small = np.where(mask[2::4, 2::4], 1, -1).astype(np.float32)[None]
    one = np.ones(1, np.float32)
    made = Proposals(
        logits=small,
        scores=one,
        stability=one,
        prompts=np.zeros(1, np.int32),
        image_size=SIZE,
        content=SIZE,
        scale=4,
    )
    item = region_item("a", picture(), [mask])
    (score,) = region_scores(lambda image, prompts: made, [item], ("box",))
    assert sum(score.answer) == mask.size and score.answer.iou > 0.95


def test_pictures_without_regions_are_passed_over(items):
    bare = region_item("bare", picture(), [])
    assert bare.masks.shape == (0, *SIZE) and bare.boxes.shape == (0, 4) and bare.prompts("box") == ()
    assert draw_regions("zeros", picture(), np.zeros(SIZE, int)).regions == ()
    scores = region_scores(oracle(items), [bare, *items])
    assert [vars(s) for s in scores] == [vars(s) for s in region_scores(oracle(items), items)]
    assert region_scores(oracle(items), [bare]) == []
    with pytest.raises(InputError, match="no episode to score"):
        region_iou([], "box")


def test_regions_of_a_picture_move_together():
    """A picture four times as good for all its regions is one piece of evidence, not four."""
    mask = blob(0)
    many = [region_item(f"{i}", picture(i), [mask] * 4) for i in range(10)]
    once = [region_item(f"{i}", picture(i), [mask]) for i in range(10)]

    def predict(image, prompts):
        moved = np.roll(mask, image[0, 0, 0] % 12, axis=1)
        return mask_proposals(np.stack([moved] * len(prompts)))

    assert region_iou(region_scores(predict, many), "box") == pytest.approx(
        region_iou(region_scores(predict, once), "box")
    )


def test_two_generators_are_compared_in_pairs(items):
    worse, better = (region_scores(oracle(items, change), items) for change in (shifted, lambda m: m[None]))
    found = compare(region_table(worse, "point"), region_table(better, "point"))
    gain = [b.answer.iou - a.answer.iou for a, b in zip(worse, better, strict=True) if a.prompt == "point"]
    assert found.differences["mean_iou"].value == pytest.approx(np.mean(gain))
    assert found.wins == len(items) and found.losses == 0 and found.p_value < 0.02
    same = compare(region_table(worse, "centre", best=True), region_table(better, "centre"))
    assert same.differences["mean_iou"] == pytest.approx((0, 0, 0))
    with pytest.raises(InputError, match="do not share their episodes"):
        compare(region_table(worse[:9], "box"), region_table(better, "box"))


class Together:
    """Answers as many prompts as it is given in one call with all their boxes."""

    name = "together"

    def __init__(self, promptable):
        self.promptable, self.encoded, self.asked = promptable, 0, []

    def encode(self, image):
        self.encoded += 1
        return image

    def decode(self, embedding, prompts, *, prior=None):
        self.asked.append(len(prompts))
        masks = fill_box(embedding, prompts).masks
        return mask_proposals(masks, scores=np.arange(len(masks)) / 8)


@pytest.mark.parametrize("promptable", [True, False])
def test_a_generator_is_asked_for_all_or_one_by_one(items, promptable):
    generator = Together(promptable)
    scores = region_scores(predictor(generator), items, ("box",))
    assert scores == region_scores(fill_box, items, ("box",))
    assert generator.encoded == len(items)
    counts = [len(item.masks) for item in items]
    assert generator.asked == (counts if promptable else [1] * sum(counts))


def test_grabcut_finds_discs_of_another_colour():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    discs = [np.hypot(x - middle, y - 20) < 9 for middle in (15, 44)]
    image = np.full((*SIZE, 3), 30, np.uint8) + picture() // 16
    image[discs[0]] += np.array([150, 0, 0], np.uint8)
    image[discs[1]] += np.array([0, 150, 0], np.uint8)
    scores = region_scores(predictor(GrabCut()), [region_item("discs", image, discs)], ("box",))
    assert min(score.answer.iou for score in scores) > 0.95


def test_bad_input_is_refused(items):
    with pytest.raises(InputError, match="second of a is empty; expected at least one pixel"):
        region_item("a", picture(), [blob(0), np.zeros(SIZE, bool)], regions=["first", "second"])
    with pytest.raises(InputError, match="0 of a is 4x4 pixels but its image is 60x40"):
        region_item("a", picture(), [np.ones((4, 4), bool)])
    with pytest.raises(InputError, match="2 masks but 1 names"):
        region_item("a", picture(), [blob(0), blob(1)], regions=["one"])
    for wrong in (labels()[:, 1:], labels().astype(float), labels() - 2):
        with pytest.raises(InputError, match="expected whole numbers from 0"):
            draw_regions("a", picture(), wrong)
    for settings in ({"area": (0.5, 0.1)}, {"area": (-0.1, 1)}, {"area": (0, 60)}, {"most": 0}):
        with pytest.raises(InputError, match="expected fractions from 0 to 1, in order, and 1 or more"):
            draw_regions("a", picture(), labels(), **settings)
    with pytest.raises(InputError, match="found is 8x8 pixels but its image is 60x40"):
        region_scores(lambda image, prompts: mask_proposals(np.ones((1, 8, 8), bool)), items, ("box",))


def test_the_regions_of_bsds500(data_dir):
    regions = []
    for path in sorted((data_dir / "bsds500" / "val").glob("*.jpg"))[:60]:
        item = draw_regions(path.stem, read_image(path), read_regions(path.with_name(f"{path.stem}_0.png")))
        regions.append(len(item.masks))
        shares = item.masks.mean(axis=(1, 2))
        assert (shares >= 0.01).all() and (shares <= 0.6).all()
    assert min(regions) >= 1 and max(regions) == 4 and sum(regions) == 207
