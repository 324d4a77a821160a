from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from small_study import StandIn, contender, disc, disc_episodes, disc_questions, models, stand_in_questions

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.prompting import Box, MaskAnnotation, Points
from softmatch_jax.studies.question import Contender, ask, check_contenders, load_questions, marked_pixels

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

ANNOTATE = Annotator(kind="mask", mode="fixed")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return disc_questions(tmp_path_factory.mktemp("discs"), shots=2, count=2)


class Counting:
    """The features, which count the pictures they saw."""

    def __init__(self) -> None:
        self.inner, self.seen = models()[0], 0
        self.name, self.dim, self.grid = self.inner.name, self.inner.dim, self.inner.grid

    def __call__(self, images):
        self.seen += len(images)
        return self.inner(images)


def test_questions_are_spread_over_the_set(questions):
    assert [question.index for question in questions] == [0, 3]
    assert [question.class_name for question in questions] == ["red", "blue"]
    first = questions[0]
    assert first.entry == (0, "red", "red0")
    assert (first.truth == disc(16, 20, 9)).all() and first.void is not None
    assert len(first.references) == 2
    assert first.references[0].mask.max() == 1
    assert first.small_truth.sum() == pytest.approx(first.truth.sum() / 48 / 64 * 16 * 12, rel=0.01)


def test_a_picture_is_seen_once(tmp_path):
    features = Counting()
    asked = load_questions(features, models()[1], disc_episodes(tmp_path), ANNOTATE, to_grid="area")
    assert len(asked) == 6 and features.seen == 6


def test_questions_come_one_by_one(tmp_path):
    features = Counting()
    asked = ask(features, models()[1], disc_episodes(tmp_path), ANNOTATE, to_grid="area")
    assert features.seen == 0
    next(asked)
    assert features.seen == 2


def test_an_annotation_that_marks_nothing_leaves_an_empty_mask(tmp_path):
    def nothing(truth, **place):
        return None

    features, sam = models()
    (question,) = load_questions(features, sam, disc_episodes(tmp_path), nothing, to_grid="any", count=1)
    assert not question.references[0].mask.any()


def test_a_wrong_annotation_names_the_file(tmp_path):
    def refuses(truth, **place):
        raise InputError("no")

    with pytest.raises(InputError, match=r"disc\.png: no"):
        load_questions(*models(), disc_episodes(tmp_path), refuses, to_grid="any", count=1)
    with pytest.raises(InputError, match="at least 1"):
        load_questions(*models(), disc_episodes(tmp_path), ANNOTATE, to_grid="any", count=0)


def test_marked_pixels():
    mask = disc(20, 20, 5)
    assert (marked_pixels(MaskAnnotation(mask), mask.shape) == mask).all()
    box = marked_pixels(Box(10, 5, 20, 15), mask.shape)
    assert box.sum() == 100 and box[5:15, 10:20].all()
    points = marked_pixels(Points(((30.5, 20.5),), (True,)), mask.shape)
    assert points[20, 30] and points.sum() < 30
    assert not marked_pixels(None, mask.shape).any()


def test_prompts_of_all_references_one_after_the_other(questions):
    one = contender("one")
    question = questions[0]
    both = one.prompts(question)
    alone = [one.prompts(replace(question, references=(each,))) for each in question.references]
    assert both.shape == (6, models()[1].dim)
    assert np.asarray(both) == pytest.approx(np.concatenate(alone), abs=1e-6)
    drawn = one.samples(question, 4, key=jax.random.key(0))
    assert drawn.shape == (4, *both.shape)
    spread = np.asarray(drawn - both)
    assert spread.std() > 0 and np.abs(np.corrcoef(spread[:, :3].ravel(), spread[:, 3:].ravel())[0, 1]) < 0.5


def test_a_constant_encoder_prompts_the_same_everywhere(questions):
    constant = contender("constant", constant=True)
    first, second = (np.asarray(constant.prompts(question)) for question in questions)
    assert first == pytest.approx(second, abs=1e-6)
    assert first == pytest.approx(np.broadcast_to(first[:1], first.shape), abs=1e-6)


def test_decoded_masks_are_counted_at_the_pictures_size(questions):
    question = questions[0]
    tp, fp, fn, tn = question.counts(100 * (question.small_truth[None] - 0.5))[0]
    assert fp + fn < 0.1 * question.truth.sum()
    assert tp + fp + fn + tn == 48 * 64 - question.void.sum()


def stand_in(name: str, **changes) -> Contender:
    predictor = StandIn(lambda place: np.ones((1, 2)), lambda place, prompts: np.zeros((16, 16)))
    for key, value in changes.items():
        getattr(predictor, key).__dict__.update(value)
    return Contender(name=name, predictor=predictor)


@pytest.mark.parametrize(
    ("contenders", "cure"),
    [
        ([], "at least one"),
        ([stand_in("a"), stand_in("a")], "a name of its own"),
        ([stand_in("a"), stand_in("b", features={"name": "others"})], "different features"),
        ([stand_in("a"), stand_in("b", sam={"name": "another"})], "different sam"),
        ([stand_in("a", config={"to_grid": "any"})], "load them with to_grid='any'"),
    ],
)
def test_contenders_that_do_not_fit(contenders, cure):
    questions = stand_in_questions([disc(20, 20, 5)], ["a"])
    with pytest.raises(InputError, match=cure):
        list(check_contenders(contenders, questions))


def test_no_question():
    with pytest.raises(InputError, match="no question"):
        list(check_contenders([stand_in("a")], []))
