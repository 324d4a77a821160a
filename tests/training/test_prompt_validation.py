"""Measuring a prompt encoder on held-out pairs: figures against loops over cells, questions by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import TrainingAnnotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.folder import open_folder
from softmatch_jax.imaging import write_image, write_indexed_mask
from softmatch_jax.training.prompt_pairs import Pair, Shown
from softmatch_jax.training.prompt_store import FrozenStore
from softmatch_jax.training.prompt_validation import (
    PromptValidation,
    Question,
    episode_questions,
    view_questions,
)

_MODELS = str(Path(__file__).parents[1] / "models" / "prosam")
if _MODELS not in sys.path:
    sys.path.append(_MODELS)
import small_encoder  # noqa: E402

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

PALETTE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return small_encoder.small_predictor(1, prompts=3)


@pytest.fixture(scope="module")
def store(predictor):
    return FrozenStore(predictor.features, predictor.sam)


@pytest.fixture(scope="module")
def params():
    config = small_encoder.small_predictor(1, prompts=3).config
    return {"encoder": small_encoder.random_arrays(config, 1)}


def shown(seed: int, size=(64, 48)) -> Shown:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    mask = np.hypot(rows - rng.uniform(20, 40), columns - rng.uniform(15, 30)) < rng.uniform(8, 16)
    image = np.where(mask[..., None], rng.integers(0, 255, 3), rng.integers(0, 255, (*size, 3)))
    return Shown(f"picture {seed}", lambda: image.astype(np.uint8), mask)


def counts(predictor, store, question: Question) -> tuple[int, int]:
    """Cells in both and in either, by way of the predictor and a loop."""
    known, asked = question.pair.reference, question.pair.target
    reference = predictor.reference(predictor.see(known.image()), known.mask)
    scene = predictor.sam.encode(asked.image())
    prompts = predictor.prompts(reference, predictor.see(asked.image()))
    logits = np.asarray(predictor.decode(scene, prompts.mean[None]))[0]
    truth, inside = scene.raster.reduce(asked.mask.astype(np.float32)), scene.raster.inside
    void = np.zeros_like(asked.mask) if question.void is None else question.void
    counted = scene.raster.reduce((~void).astype(np.float32))
    both = either = 0
    for cell in np.ndindex(logits.shape):
        if inside[cell] and counted[cell] > 0.5:
            found, true = logits[cell] > 0, truth[cell] > 0.5
            both, either = both + int(found and true), either + int(found or true)
    return both, either


def test_figures_are_those_of_a_loop(predictor, store, params):
    void = np.zeros((64, 48), bool)
    void[30:] = True
    questions = [
        Question(owner, Pair(shown(number), shown(number + 20)), void if number == 2 else None)
        for number, owner in enumerate("aabab abba b".replace(" ", ""))
    ]
    assert len(questions) > 8  # more than one batch, the last filled up
    found = [counts(predictor, store, question) for question in questions]
    owners = [question.owner for question in questions]
    pooled = []
    for name in ("a", "b"):
        mine = [pair for pair, owner in zip(found, owners, strict=True) if owner == name]
        pooled.append(sum(b for b, _ in mine) / sum(e for _, e in mine))
    validation = PromptValidation("val", questions, store, predictor.config, by_class=True)
    figures = validation(params)
    assert figures["val_iou"] == pytest.approx(np.mean([b / e for b, e in found]), rel=1e-3)
    assert figures["val_miou"] == pytest.approx(np.mean(pooled), rel=1e-3)
    assert figures["val_miou"] != pytest.approx(figures["val_iou"], rel=1e-3)
    assert 0 < figures["val_miou"] < 1 and validation.metric == "val_miou"
    assert validation(params) == figures  # from what is kept
    small = PromptValidation("val", questions, store, predictor.config, by_class=True, most_bytes=1)
    assert small(params) == figures and small(params) == figures
    plain = PromptValidation("held", questions, store, predictor.config, by_class=False)
    assert plain(params) == {"held_iou": figures["val_iou"]} and plain.metric == "held_iou"


def test_nothing_to_measure_on(predictor, store):
    with pytest.raises(InputError, match="nothing to measure val on"):
        PromptValidation("val", [], store, predictor.config, by_class=True)


@pytest.fixture
def episodes(tmp_path) -> CorrectedEpisodes:
    for name, count in (("cat", 4), ("dog", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            mask = np.zeros((40, 30), np.uint8)
            mask[8:24, 5 : 10 + 4 * number] = 1
            write_image(tmp_path / name / f"{number}.png", np.full((40, 30, 3), 90, np.uint8))
            write_indexed_mask(tmp_path / name / f"{number}-mask.png", mask, PALETTE)
    return CorrectedEpisodes(open_folder(tmp_path), 1)


def test_questions_are_spread_over_the_episodes(episodes):
    kinds = [TrainingAnnotator(kind="mask"), TrainingAnnotator(kind="box")]
    questions = episode_questions(episodes, 4, kinds)
    chosen = [episodes.episode(0, index) for index in (0, 1, 3, 5)]
    assert [each.owner for each in questions] == [each.class_name for each in chosen]
    assert {each.owner for each in questions} == set(episodes.classes)
    for number, (question, episode) in enumerate(zip(questions, chosen, strict=True)):
        known, asked = question.pair.reference, question.pair.target
        truth = episode.references[0].read().truth
        assert (known.mask == kinds[number % 2](truth, seed=0, index=number)).all()
        assert (asked.mask == episode.target.read().truth.mask).all()
        assert asked.key.endswith(episode.target.name) and (asked.image() == 90).all()
    again = episode_questions(episodes, 4, kinds)
    assert all(
        (a.pair.reference.mask == b.pair.reference.mask).all() for a, b in zip(questions, again, strict=True)
    )
    assert len(episode_questions(episodes, 100, kinds)) == len(episodes) == 7
    with pytest.raises(InputError, match="number of pairs to validate on is 0"):
        episode_questions(episodes, 0, kinds)


def test_published_marks_are_those_of_tests(episodes):
    annotator = TrainingAnnotator(kind="point", mode="published", raster=(512, 512))
    for question in episode_questions(episodes, 7, [annotator]):
        # In tests always 20 points; in training a uniform number up to that.
        assert question.pair.reference.mask.shape == (512, 512) and question.pair.reference.mask.sum() == 20


def test_views_come_from_the_sources_in_turn():
    class Views:
        def __init__(self, name):
            self.name = name

        def pair(self, seed, index):
            return Pair(
                Shown(f"{self.name} {index}#0", None, None), Shown(f"{self.name} {index}#1", None, None)
            )

    questions = view_questions([Views("one"), Views("two")], 3)
    assert [each.owner for each in questions] == ["one 0", "two 1", "one 2"]
