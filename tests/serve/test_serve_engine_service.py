"""The models at work: prompts to masks, corrections, matchings, and what is remembered."""

from dataclasses import replace

import numpy as np
import pytest
from serve_scenes import GREEN, RED, SIZE, Pouring, pouring_matcher, scene, stored

from softmatch_jax import InputError, Softmatcher
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.serve.engine.requests import Completion, Example, Examples, Matching, Picture
from softmatch_jax.serve.engine.service import Memory, ModelService
from softmatch_jax.serve.project.documents import Box, Point, Scribble

LEFT, RIGHT = ((45, 60), 28, RED), ((118, 60), 28, RED)


def stroke(x0, y0, x1, y1, width=5.0, positive=True):
    return Scribble(points=((x0, y0), (x1, y1)), width=width, positive=positive)


def same(one, other):
    return np.array_equal(one, other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def two(folder):
    image, masks = scene([LEFT, RIGHT], 0)
    return stored(image, folder), masks


@pytest.fixture(scope="module")
def target(folder):
    image, masks = scene([((80, 50), 26, RED), ((30, 95), 15, GREEN)], 9)
    return stored(image, folder), masks


@pytest.fixture(scope="module")
def empty(folder):
    image, _ = scene([((80, 50), 20, GREEN)], 7)
    return stored(image, folder)


@pytest.fixture(scope="module")
def service():
    return ModelService(pouring_matcher())


def example(two, *prompts, class_id="c1", labels=None):
    picture, (left, right) = two
    if labels is None:
        labels = (left | right).astype(np.uint16)
    return Example(picture=picture, class_id=class_id, labels=labels, prompts=prompts)


def examples(*references, digest="e" * 64, phrases=None):
    return Examples(digest=digest, references=references, phrases=phrases or {})


def completed(service, picture, *prompts, base=None):
    return service.complete(Completion(picture=picture, prompts=prompts, base=base)).labels


# Completion


def test_strokes_clicks_and_boxes_find_the_object(service, two):
    picture, (left, right) = two
    for prompt in (
        stroke(38, 60, 52, 60),
        Point(xy=(45, 60)),
        Box(x0=14, y0=30, x1=76, y1=92),
    ):
        labels = completed(service, picture, prompt)
        assert labels.dtype == np.uint16 and labels.shape == SIZE
        assert intersection_over_union(labels > 0, left) > 0.9 and labels.max() == 1
    both = completed(service, picture, stroke(38, 60, 52, 60), Point(xy=(118, 60)))
    assert intersection_over_union(both > 0, left | right) > 0.9
    assert both.max() == 2 and len(np.unique(both[left & (both > 0)])) == 1


def test_each_box_is_an_object_and_strokes_in_it_are_of_it(service, two):
    picture, (left, right) = two
    boxes = (Box(x0=14, y0=30, x1=76, y1=92), Box(x0=86, y0=28, x1=150, y1=92))
    labels = completed(service, picture, *boxes)
    assert labels.max() == 2 and labels[60, 45] != labels[60, 118]
    assert intersection_over_union(labels > 0, left | right) > 0.9
    cut = stroke(30, 30, 30, 90, positive=False)
    held = completed(service, picture, boxes[0], cut)
    assert not held[40:80, 29:31].any() and held[60, 45]
    mixed = completed(service, picture, boxes[0], stroke(110, 60, 126, 60))
    assert mixed[60, 118] and intersection_over_union(mixed > 0, left | right) > 0.9


def test_what_cannot_be_completed_is_said(service, two):
    picture, _ = two
    with pytest.raises(InputError, match="no prompts"):
        completed(service, picture)
    with pytest.raises(InputError, match="no positive stroke"):
        completed(service, picture, stroke(1, 1, 9, 9, positive=False))
    with pytest.raises(InputError, match="outside the picture"):
        completed(service, picture, stroke(500, 500, 510, 510))
    with pytest.raises(InputError, match=r"missing\.png"):
        completed(service, Picture("m", picture.path.parent / "missing.png"), Point(xy=(3, 3)))


def test_the_same_request_has_the_same_answer_whatever_came_before(service, two, target):
    picture, _ = two
    prompt = stroke(38, 60, 52, 60)
    question = Matching(picture=target[0], examples=examples(example(two)), seed=3)
    forgetful = ModelService(pouring_matcher(), memory=Memory(pictures=1, references=1, masks=1))
    for asked in (service, forgetful, forgetful):
        labels = completed(asked, picture, prompt)
        assert same(labels, completed(service, picture, prompt))
        ((one,), (other,)) = asked.match([question]), service.match([question])
        assert same(one.classes["c1"].labels, other.classes["c1"].labels)
        assert one.uncertainty == other.uncertainty


# Corrections


def corrected(service, two, base, *prompts):
    return completed(service, two[0], *prompts, base=base)


@pytest.fixture
def base(two):
    """The left object under the number 7; the other was missed."""
    return np.where(two[1][0], 7, 0).astype(np.uint16)


def test_a_stroke_that_agrees_changes_nothing(service, two, base):
    kept = corrected(service, two, base, stroke(38, 60, 52, 60), stroke(80, 5, 80, 20, positive=False))
    assert same(kept, base)


def test_a_missed_object_gets_the_next_number(service, two, base):
    made = corrected(service, two, base, stroke(112, 60, 124, 60))
    assert intersection_over_union(made == 8, two[1][1]) > 0.9
    assert same(made == 7, base == 7)


def test_a_false_find_is_taken_away_and_others_keep_their_numbers(service, two):
    left, right = two[1]
    base = np.where(left, 3, np.where(right, 5, 0)).astype(np.uint16)
    off, also = (stroke(x - 15, 60, x + 15, 60, positive=False) for x in (118, 45))
    assert same(corrected(service, two, base, off), np.where(left, 3, 0))
    assert not corrected(service, two, base, off, also).any()


def test_strokes_count_in_their_order(service, two, base):
    on, off = stroke(112, 60, 124, 60), stroke(118, 50, 118, 70, positive=False)
    made = corrected(service, two, base, on, off)
    assert not made[52:68, 117:119].any() and made[60, 113] == 8
    back = corrected(service, two, base, on, off, stroke(116, 56, 120, 56))
    assert back[56, 116:120].all() and not back[66, 118]


def test_steps_are_remembered_and_change_nothing(two, base):
    service = ModelService(pouring_matcher())
    prompts = stroke(112, 60, 124, 60), stroke(150, 5, 155, 5), Point(xy=(45, 60), positive=False)
    at_once = corrected(service, two, base, *prompts)
    calls = len(service.matcher.masks.calls)
    again = ModelService(pouring_matcher())
    for count in (1, 2, 3):
        made = corrected(again, two, base, *prompts[:count])
    assert same(made, at_once) and len(again.matcher.masks.calls) == calls
    assert same(corrected(again, two, base, *prompts[:2]), corrected(again, two, base, *prompts[:2]))
    assert len(again.matcher.masks.calls) == calls


def test_a_base_of_another_size_is_refused(service, two):
    with pytest.raises(InputError, match="9x7 pixels"):
        corrected(service, two, np.ones((7, 9), np.uint16), Point(xy=(3, 3)))


# Matching


def test_finds_the_class_and_refuses_where_it_is_absent(service, two, target, empty):
    asked = examples(example(two))
    found, nothing = service.match(
        [Matching(picture=picture, examples=asked, seed=0) for picture in (target[0], empty)]
    )
    there = found.classes["c1"]
    assert intersection_over_union(there.labels > 0, target[1][0]) > 0.85
    assert not there.absent and there.reason is None and there.instances == there.labels.max() == 1
    assert there.labels.dtype == np.uint16 and there.heat.dtype == np.uint8
    assert there.heat.shape == SIZE and there.heat[50, 80] > 200 > 60 > there.heat[5, 5]
    absent = nothing.classes["c1"]
    assert absent.absent and absent.labels is None and "c1" in absent.reason
    assert 0 <= found.uncertainty <= 1 and 0 <= nothing.uncertainty <= 1


def test_the_answers_are_those_of_the_pipeline(service, two, target):
    import jax

    from softmatch_jax.imaging import read_image

    (answer,) = service.match([Matching(picture=target[0], examples=examples(example(two)), seed=5)])
    matcher = pouring_matcher()
    reference = matcher.reference(read_image(two[0].path), two[1][0] | two[1][1], class_name="c1")
    own = matcher.segment(read_image(target[0].path), reference, key=jax.random.key(5))["c1"]
    found = answer.classes["c1"]
    assert same(found.labels, own.instance_labels)
    assert found.score == own.score and found.resemblance == own.resemblance
    assert found.log_evidence == own.log_evidence and found.instances == len(own.instances)


def test_a_failure_is_an_answer_and_stops_no_other(service, two, target):
    asked = examples(example(two))
    missing = Picture("x", target[0].path.parent / "gone.png")
    failed, fine = service.match(
        [Matching(picture=picture, examples=asked, seed=0) for picture in (missing, target[0])]
    )
    assert isinstance(failed, InputError) and "gone.png" in str(failed)
    assert not fine.classes["c1"].absent
    small = examples(example(two, labels=np.ones((4, 5), np.uint16)), digest="1" * 64)
    (refused,) = service.match([Matching(picture=target[0], examples=small, seed=0)])
    assert isinstance(refused, InputError) and "5x4 pixels" in str(refused)
    (refused,) = service.match([Matching(picture=target[0], examples=examples(digest="2" * 64), seed=0)])
    assert isinstance(refused, InputError) and "no examples" in str(refused)


def test_what_matchings_share_is_made_once(two, target, monkeypatch):
    service, joins = ModelService(pouring_matcher()), []
    join = Softmatcher.join
    monkeypatch.setattr(
        Softmatcher, "join", lambda self, chosen: joins.append(len(chosen)) or join(self, chosen)
    )
    asked = Matching(picture=target[0], examples=examples(example(two)), seed=0)
    service.match([asked, asked])
    service.match([asked])
    assert joins == [1]
    service.match([replace(asked, examples=examples(example(two), example(two), digest="f" * 64))])
    assert joins == [1, 2] and len(service._references) == 1


def test_between_stages_the_service_answers_others(two, target):
    service = ModelService(pouring_matcher())
    asked = Matching(picture=target[0], examples=examples(example(two)), seed=0)
    (alone,) = ModelService(pouring_matcher()).match([asked])
    inner = []

    def between():
        inner.append(service.complete(Completion(picture=two[0], prompts=(Point(xy=(45, 60)),))))
        inner.append(service.match([replace(asked, picture=two[0])])[0].classes["c1"])

    (found,) = service.match([asked], between=between)
    assert len(inner) == 2 * (2 + 8)
    assert same(found.classes["c1"].labels, alone.classes["c1"].labels)
    for place in range(2):
        assert all(same(one.labels, inner[place].labels) for one in inner[place::2])


def test_pictures_are_encoded_once(two, monkeypatch):
    service, encodings = ModelService(pouring_matcher()), []
    encode = Pouring.encode
    monkeypatch.setattr(Pouring, "encode", lambda self, image: encodings.append(1) or encode(self, image))
    service.encode(two[0])
    completed(service, two[0], Point(xy=(45, 60)))
    service.encode(two[0])
    assert len(encodings) == 1


def test_strokes_beside_the_object_are_its_surroundings(service, two):
    plain = service._reference(example(two))
    marked = service._reference(example(two, stroke(80, 4, 80, 16, positive=False)))
    assert not same(plain.background, marked.background)
    assert same(plain.foreground, marked.foreground)
    assert marked.background.reshape(20, 20)[:3].sum() > 0.7


def test_the_largest_seed(service, two, target):
    (answer,) = service.match([Matching(picture=target[0], examples=examples(example(two)), seed=2**32 - 1)])
    assert not answer.classes["c1"].absent


def test_phrases_need_a_model_for_them(service, two, target):
    plain, phrased = (examples(example(two), phrases=phrases) for phrases in ({}, {"c1": "red disc"}))
    answers = [service.match([Matching(picture=target[0], examples=e, seed=0)])[0] for e in (plain, phrased)]
    assert same(*[answer.classes["c1"].labels for answer in answers])


def test_the_name_says_all_that_decides_answers(service):
    from softmatch_jax import __version__

    matcher = service.matcher
    model = service.info.model
    assert __version__ in model and matcher.features.name in model and "pouring" in model
    assert service.info.backend == "embedded" and not service.info.texts
    decision = replace(matcher.config.decision, min_resemblance=0.4)
    other = ModelService(replace(matcher, config=replace(matcher.config, decision=decision)))
    assert other.info.model != model and ModelService(pouring_matcher()).info == service.info


def test_warming_up_leaves_nothing_behind():
    service = ModelService(pouring_matcher())
    service.warm_up()
    assert not len(service._pictures) and not len(service._sets)
