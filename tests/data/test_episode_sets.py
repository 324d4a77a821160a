"""The laws of every set of episodes, whatever data set and protocol it is of."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.bsds500 import BsdsEpisodes
from softmatch_jax.data.coco20i import CocoDraws
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.fss1000 import Fss1000Episodes
from softmatch_jax.data.pascal5i import PascalDraws
from softmatch_jax.data.pascal_coco_draws import PublishedEpisodes
from softmatch_jax.data.perseg import PersegEpisodes
from softmatch_jax.data.truths import LabelTruth

SEEDS = (0, 1, 7)


def sample(name):
    return Sample(name=name, image=Path(f"{name}.jpg"), truth=LabelTruth(Path(f"{name}.png"), (1,)))


def lists(name="letters", classes="abc", count=10, **more):
    samples = {c: tuple(sample(f"{c}/{i:02d}") for i in range(count)) for c in classes}
    return ClassLists(name=name, samples=samples, **more)


def targets(data, drop=0):
    """The pictures of two classes as targets, each of its own class and every second of the next too."""
    pairs = zip(data.samples["a"], data.samples["b"], strict=True)
    return tuple((("a", one), ("b", other))[: 1 + k % 2] for k, (one, other) in enumerate(pairs))[drop:]


# How to make each kind of set from class lists.
MAKERS = {
    "corrected": lambda data: CorrectedEpisodes(data, 3),
    "fss1000": lambda data: Fss1000Episodes(data, 3),
    "perseg": PersegEpisodes,
    "pascal5i": lambda data: PublishedEpisodes(lists=data, shots=3, draws=PascalDraws(targets(data))),
    "coco20i": lambda data: PublishedEpisodes(lists=data, shots=3, draws=CocoDraws()),
    "bsds500": lambda data: BsdsEpisodes(
        data.name, tuple(pair for pictures in data.samples.values() for pair in pairwise(pictures))
    ),
}
DRAWN = ("corrected", "fss1000", "pascal5i", "coco20i")


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


def asked(episodes, seed, order=None):
    """What each episode asks for, by names."""
    places = order or range(len(episodes))
    found = [episodes.episode(seed, index) for index in places]
    return [[e.index, e.class_name, e.target.name, *(r.name for r in e.references)] for e in found]


def test_an_episode_depends_on_seed_and_index_alone(kind):
    first, second = (MAKERS[kind](lists()) for _ in range(2))
    backwards = range(len(first) - 1, -1, -1)
    for seed in SEEDS:
        forward = asked(first, seed)
        assert asked(second, seed, backwards) == forward[::-1]
        assert asked(first, seed) == forward and [row[0] for row in forward] == list(range(len(first)))
    assert (asked(first, 0) == asked(first, 1)) == (kind not in DRAWN)


def test_sets_compare_by_value_and_travel(kind):
    episodes = MAKERS[kind](lists())
    episodes.episode(0, 0)
    again = pickle.loads(pickle.dumps(episodes))
    assert again == episodes == MAKERS[kind](lists()) != MAKERS[kind](lists(count=10, classes="ab"))
    assert again.digest == episodes.digest and again.episode(3, 4) == episodes.episode(3, 4)


def test_other_questions_have_another_digest(kind):
    digests = {
        MAKERS[kind](data).digest
        for data in (lists(), lists("digits"), lists(classes="abd"), lists(classes="bac"))
    }
    assert len(digests) == 4


def test_references_are_of_the_class_and_never_the_target(kind):
    episodes, data = MAKERS[kind](lists()), lists()
    assert episodes.classes == (("region",) if kind == "bsds500" else tuple("abc"))
    for index in range(len(episodes)):
        episode = episodes.episode(1, index)
        assert len(episode.references) == episodes.shots and episode.target not in episode.references
        if kind != "bsds500":
            assert set(episode.references) <= set(data.samples[episode.class_name])


def test_there_is_no_such_episode(kind):
    episodes = MAKERS[kind](lists())
    for seed, index in ((0, -1), (0, len(episodes)), (-1, 0)):
        with pytest.raises(InputError, match=r"expected 0 (to|or)"):
            episodes.episode(seed, index)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "bsds500"])
def test_a_class_of_one_picture_is_refused(kind):
    few = lists()
    few = replace(few, samples={**few.samples, "c": few.samples["c"][:1]})
    with pytest.raises(InputError, match="'c' of letters has 1 picture; expected at least"):
        MAKERS[kind](few)


def test_how_masks_are_read_enters_the_digest():
    plain, read = lists(), lists(reading="threshold 128")
    assert plain.digest != read.digest == lists(reading="threshold 128").digest
    assert read.only(["a", "b"]).reading == "threshold 128"


def test_targets_of_published_draws_enter_the_digest():
    data = lists()
    sets = [
        PublishedEpisodes(lists=data, shots=1, draws=PascalDraws(targets(data, drop))) for drop in (0, 1, 1)
    ]
    assert sets[0].digest != sets[1].digest == sets[2].digest


CHILD = """
import json, pickle, sys
sets, seeds = pickle.load(sys.stdin.buffer)
def asked(episodes, seed):
    found = [episodes.episode(seed, index) for index in range(0, len(episodes), 3)]
    return [[e.index, e.class_name, e.target.name, *(r.name for r in e.references)] for e in found]
print(json.dumps({kind: [asked(s, seed) for seed in seeds] for kind, s in sets.items()}))
"""


def test_another_process_draws_the_same():
    sets = {kind: make(lists()) for kind, make in MAKERS.items()}
    # Hashes of texts differ from process to process; no draw may depend on them.
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "JAX_PLATFORMS": "cpu"}
    there = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps((sets, SEEDS)),
        capture_output=True,
        env=environment,
        check=True,
    )
    here = {kind: [asked(s, seed, range(0, len(s), 3)) for seed in SEEDS] for kind, s in sets.items()}
    assert json.loads(there.stdout) == here
