from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.data.corrected import CorrectedEpisodes, leave_out_empty
from softmatch_jax.data.episodes import ClassLists, Sample, Truth


@dataclass(frozen=True)
class Known:
    """A truth that is never read."""

    path: Path
    shown: bool = True

    def read(self, size):
        return Truth(np.full(size, self.shown))


def samples(name, count):
    return tuple(
        Sample(name=f"{name}{i}", image=Path(f"{name}{i}.jpg"), truth=Known(Path())) for i in range(count)
    )


def lists(**counts):
    return ClassLists(name="letters", samples={name: samples(name, count) for name, count in counts.items()})


def drawn(episodes, seed=0):
    """For each target the names of its references."""
    asked = [episodes.episode(seed, i) for i in range(len(episodes))]
    return {e.target.name: tuple(r.name for r in e.references) for e in asked}


@settings(max_examples=50, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(4, 9), min_size=1),
    shots=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_every_picture_is_a_target_once_with_other_pictures_of_its_class(counts, shots, seed):
    data = lists(**counts)
    episodes = CorrectedEpisodes(data, shots)
    asked = [episodes.episode(seed, i) for i in range(len(episodes))]
    in_order = [(name, sample) for name, pictures in data.samples.items() for sample in pictures]
    assert [(e.class_name, e.target) for e in asked] == in_order
    assert [e.index for e in asked] == list(range(len(asked)))
    for e in asked:
        assert len(set(e.references)) == shots
        assert set(e.references) <= set(data.samples[e.class_name]) - {e.target}


def test_other_classes_and_their_order_change_no_references():
    alone = drawn(CorrectedEpisodes(lists(b=6), 2), seed=7)
    crowd = drawn(CorrectedEpisodes(lists(c=9, a=4, b=6, d=5), 2), seed=7)
    assert alone == {name: references for name, references in crowd.items() if name[0] == "b"}


def test_references_of_fewer_shots_are_the_first_of_those_of_more():
    few, many = (drawn(CorrectedEpisodes(lists(a=8, b=6), shots), seed=3) for shots in (2, 5))
    assert few == {name: references[:2] for name, references in many.items()}


def test_all_others_when_as_many_are_asked_for():
    for target, references in drawn(CorrectedEpisodes(lists(a=5), 4)).items():
        assert sorted((target, *references)) == [f"a{i}" for i in range(5)]


def test_an_episode_depends_on_seed_and_index_alone():
    episodes = CorrectedEpisodes(lists(a=9, b=9), 3)
    assert drawn(episodes, 5) == drawn(CorrectedEpisodes(lists(a=9, b=9), 3), 5) != drawn(episodes, 6)
    backwards = [episodes.episode(5, i) for i in reversed(range(18))]
    assert backwards[::-1] == [episodes.episode(5, i) for i in range(18)]
    assert pickle.loads(pickle.dumps(episodes)) == episodes
    assert drawn(pickle.loads(pickle.dumps(episodes)), 5) == drawn(episodes, 5)


def test_pairs_of_references_are_uniform():
    """Chi-square over the 30 ordered pairs of 6 others: mean 29, deviation 7.6."""
    episodes = CorrectedEpisodes(lists(a=7), 2)
    seen = Counter(episodes.episode(seed, 3).references for seed in range(6000))
    counts = np.array(list(seen.values()))
    assert len(counts) == 30
    assert ((counts - 200) ** 2 / 200).sum() < 70


def test_draws_stay_as_they_are():
    """Results of earlier versions are compared with those of later ones."""
    assert drawn(CorrectedEpisodes(lists(a=4, b=3), 2), seed=1) == {
        "a0": ("a1", "a2"),
        "a1": ("a0", "a3"),
        "a2": ("a1", "a0"),
        "a3": ("a1", "a2"),
        "b0": ("b2", "b1"),
        "b1": ("b0", "b2"),
        "b2": ("b0", "b1"),
    }


def test_attributes_are_those_of_the_lists():
    data = ClassLists(name="letters", samples=lists(a=3, b=2).samples, raster=(5, 6))
    episodes = CorrectedEpisodes(data, 1)
    assert (episodes.name, episodes.sampling, episodes.shots) == ("letters", "corrected", 1)
    assert (episodes.classes, episodes.raster, episodes.digest) == (("a", "b"), (5, 6), data.digest)
    assert len(episodes) == 5


@pytest.mark.parametrize(
    ("counts", "shots", "message"),
    [
        ({"a": 3, "b": 1}, 1, "'b' of letters has 1 picture; expected at least 2"),
        ({"a": 3}, 3, "'a' of letters has 3 pictures; expected at least 4"),
        ({"a": 3}, 0, "shots is 0"),
        ({}, 1, "no class"),
    ],
)
def test_too_few_pictures(counts, shots, message):
    with pytest.raises(InputError, match=message):
        CorrectedEpisodes(lists(**counts), shots)


def test_a_picture_listed_twice_is_refused():
    twice = ClassLists(name="letters", samples={"a": samples("a", 2) + samples("a", 1)})
    with pytest.raises(InputError, match="'a' of letters lists the picture 'a0' twice"):
        CorrectedEpisodes(twice, 1)


@pytest.mark.parametrize(("seed", "index"), [(0, 3), (0, -1), (-1, 0)])
def test_there_is_no_such_episode(seed, index):
    with pytest.raises(InputError, match="expected 0"):
        CorrectedEpisodes(lists(a=3), 1).episode(seed, index)


def test_empty_truths_are_left_out(tmp_path):
    PIL.Image.new("RGB", (4, 3)).save(tmp_path / "image.png")
    pictures = tuple(
        Sample(name=f"a{i}", image=tmp_path / "image.png", truth=Known(Path(), shown=i != 1))
        for i in range(3)
    )
    data = ClassLists(name="letters", samples={"a": pictures, "b": pictures[:1]}, raster=(2, 2))
    kept, empty = leave_out_empty(data)
    assert empty == ("a1",)
    assert kept == ClassLists(
        name="letters", samples={"a": (pictures[0], pictures[2]), "b": pictures[:1]}, raster=(2, 2)
    )
