"""The stream of episodes for training."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from class_lists import drawn_lists, lists_of, names_of
from folder_tree import label_map, picture
from mersenne_twister import Twister
from scipy.stats import chisquare

from softmatch_jax._checks import InputError
from softmatch_jax.data.coco20i import CocoDraws
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.pascal5i import PascalDraws
from softmatch_jax.data.training_episodes import TrainingEpisodes, first_usable, read_shown
from softmatch_jax.data.truths import LabelTruth


def asked(episode):
    return episode.class_name, episode.target.name, episode.references[0].name


def test_every_epoch_has_each_picture_once():
    lists = drawn_lists(0)
    episodes = TrainingEpisodes(lists)
    shown = {name: set(names) for name, names in names_of(lists).items()}
    pictures = sorted(set().union(*shown.values()))
    count = len(episodes)
    assert (count, episodes.sampling, episodes.shots) == (len(pictures), "corrected", 1)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 500)):
        drawn = [episodes.episode(seed, epoch * count + place) for place in range(count)]
        assert [e.index for e in drawn] == list(range(epoch * count, (epoch + 1) * count))
        orders.append([e.target.name for e in drawn])
        assert sorted(orders[-1]) == pictures
        for name, target, reference in map(asked, drawn):
            assert target in shown[name] and reference in shown[name] and target != reference
    assert len(set(map(tuple, orders))) == len(orders)


def test_class_and_reference_are_uniform():
    lists = lists_of({"cat": "abcdef", "dog": "abc", "cow": ["a", "z"]})
    episodes = TrainingEpisodes(lists)
    drawn = [asked(episodes.episode(3, i)) for i in range(1000 * len(episodes))]
    of_a = [(name, reference) for name, target, reference in drawn if target == "a"]
    assert len(of_a) == 1000
    classes = Counter(name for name, _ in of_a)
    assert set(classes) == {"cat", "dog", "cow"} and chisquare(list(classes.values())).pvalue > 1e-3
    references = Counter(reference for name, reference in of_a if name == "cat")
    assert set(references) == set("bcdef") and chisquare(list(references.values())).pvalue > 1e-3
    assert {r for name, t, r in drawn if t == "z"} == {"a"}


def test_pure_in_seed_and_index():
    first, second = (TrainingEpisodes(drawn_lists(1)) for _ in range(2))
    places = range(3 * len(first))
    forward = [first.episode(7, i) for i in places]
    assert [second.episode(7, i) for i in reversed(places)] == forward[::-1]
    again = pickle.loads(pickle.dumps(first))
    assert again == first and again.digest == first.digest and again.episode(7, 5) == forward[5]
    assert [first.episode(8, i) for i in places] != forward


def test_bad_lists_and_numbers():
    with pytest.raises(InputError, match=r"The class 'dog' of things has 1 picture; expected at least 2"):
        TrainingEpisodes(lists_of({"cat": "ab", "dog": "a"}))
    with pytest.raises(InputError, match=r"The class 'dog' of things has 0 pictures"):
        TrainingEpisodes(lists_of({"cat": "ab", "dog": ""}))
    with pytest.raises(InputError, match="lists the picture 'a' twice"):
        TrainingEpisodes(lists_of({"cat": "aba"}))
    with pytest.raises(InputError, match="things has no class"):
        TrainingEpisodes(lists_of({}))
    episodes = TrainingEpisodes(lists_of({"cat": "ab"}), CocoDraws())
    for numbers in ((-1, 0), (0, -1), (0, 0, -1), (2**32, 0)):
        with pytest.raises(InputError, match="expected"):
            episodes.episode(*numbers)


def test_published_pascal():
    """Targets in the order of the list, the class among all that are present, however small."""
    lists = lists_of({"cat": "abcd", "dog": "bde", "cow": "fg"})
    present = {
        "a": "cat dog",
        "b": "cat dog",
        "c": "cat",
        "d": "cat dog",
        "e": "dog",
        "f": "cow",
        "g": "cow cat",
    }
    samples = {s.name: s for listed in lists.samples.values() for s in listed}
    targets = tuple(tuple((n, samples[t]) for n in names.split()) for t, names in present.items())
    episodes = TrainingEpisodes(lists, PascalDraws(targets))
    assert (len(episodes), episodes.sampling) == (7, "published")
    for seed, epoch in ((0, 0), (0, 1), (2, 3)):
        python, numpy = (make(321 + seed + epoch) for make in (Twister.python, Twister.numpy))
        for place, (target, names) in enumerate(present.items()):
            name = names.split()[python.randint(len(names.split()))]
            pictures, reference = names_of(lists)[name], target
            while reference == target:
                reference = pictures[numpy.first_of_permutation(len(pictures))]
            episode = episodes.episode(seed, 7 * epoch + place)
            assert (episode.index, *asked(episode)) == (7 * epoch + place, name, target, reference)
    backwards = [TrainingEpisodes(lists, PascalDraws(targets)).episode(1, i) for i in range(29, -1, -1)]
    assert backwards[::-1] == [episodes.episode(1, i) for i in range(30)]
    assert pickle.loads(pickle.dumps(episodes)) == episodes


def test_published_coco():
    lists = drawn_lists(2)
    episodes, pictures = TrainingEpisodes(lists, CocoDraws()), names_of(lists)
    numbers = Twister.numpy(321 + 5 + 1)
    for place in range(len(episodes)):
        name = lists.classes[numbers.first_of_permutation(len(pictures))]
        target = reference = pictures[name][numbers.first_of_permutation(len(pictures[name]))]
        while reference == target:
            reference = pictures[name][numbers.first_of_permutation(len(pictures[name]))]
        assert asked(episodes.episode(5, len(episodes) + place)) == (name, target, reference)


def test_digests_tell_what_is_drawn():
    lists = lists_of({"cat": "abc", "dog": "cde"})
    sets = [
        TrainingEpisodes(lists),
        TrainingEpisodes(lists, CocoDraws()),
        TrainingEpisodes(lists, PascalDraws(tuple((("cat", s),) for s in lists.samples["cat"]))),
        TrainingEpisodes(lists_of({"cat": "abc", "dog": "cd"})),
    ]
    assert len({episodes.digest for episodes in sets}) == len(sets)
    elsewhere = ClassLists(
        name="things",
        samples={
            name: tuple(
                Sample(name=s.name, image=Path("/elsewhere") / s.image, truth=s.truth) for s in samples
            )
            for name, samples in lists.samples.items()
        },
    )
    assert TrainingEpisodes(elsewhere).digest == sets[0].digest


@pytest.mark.parametrize("draws", [None, CocoDraws()])
def test_what_is_of_no_use_is_drawn_again(draws):
    lists = drawn_lists(3)
    episodes = TrainingEpisodes(lists, draws)
    useless = {"p0", "p1", "p2", "p3"}
    seen = []

    def read(episode):
        seen.append(asked(episode))
        return None if {episode.target.name, episode.references[0].name} & useless else asked(episode)

    first = [first_usable(episodes, 0, i, read) for i in range(200)]
    assert len(seen) > 220
    assert not {name for _, target, reference in first for name in (target, reference)} & useless
    shown = names_of(lists)
    assert all(t in shown[n] and r in shown[n] and t != r for n, t, r in first)
    assert [first_usable(episodes, 0, i, read) for i in (150, 3)] == [first[150], first[3]]
    for i in range(200):  # the first attempt is the episode itself
        if not set(asked(episodes.episode(0, i))[1:]) & useless:
            assert first[i] == asked(episodes.episode(0, i))
    with pytest.raises(
        InputError, match=r"5 episodes drawn from things show no pixel .* last 'class \d' in p"
    ):
        first_usable(episodes, 0, 0, lambda episode: None, tries=5)
    with pytest.raises(InputError, match="tries is 0"):
        first_usable(episodes, 0, 0, read, tries=0)


def test_reading(tmp_path):
    """Pictures ``c`` and ``d`` are listed, and show nothing of the class."""
    for name, area in {"a": 5, "b": 9, "c": 0, "d": 0}.items():
        picture(tmp_path / f"{name}.jpg")
        label_map(tmp_path / f"{name}.png", {1: area})
    samples = tuple(
        Sample(name=n, image=tmp_path / f"{n}.jpg", truth=LabelTruth(tmp_path / f"{n}.png", (1,)))
        for n in "abcd"
    )
    episodes = TrainingEpisodes(ClassLists(name="made", samples={"thing": samples}))
    plain = [asked(episodes.episode(0, i))[1:] for i in range(40)]
    assert any("c" in pair for pair in plain)
    areas = {"a": 5, "b": 9}
    for index in range(40):
        read = first_usable(episodes, 0, index, read_shown, tries=64)
        _, target, reference = asked(read.episode)
        assert {target, reference} == {"a", "b"} and read.episode.index == index
        assert read.target.truth.mask.sum() == areas[target]
        assert read.reference.truth.mask.sum() == areas[reference]
        assert read.target.image.shape == (12, 16, 3)
    empty = TrainingEpisodes(ClassLists(name="made", samples={"thing": samples[2:]}))
    with pytest.raises(InputError, match="16 episodes drawn from made show no pixel of the class"):
        first_usable(empty, 0, 0, read_shown)
    PIL.Image.new("RGB", (3, 3)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a.png is 16x12 pixels but its image is 3x3"):
        [first_usable(episodes, 0, i, read_shown, tries=64) for i in range(40)]


def test_numbers_of_targets_do_not_depend_on_the_order_of_classes():
    pictures = {"cat": list("abcd"), "dog": list("cdef")}
    one, other = (TrainingEpisodes(lists_of(dict(p))) for p in (pictures.items(), reversed(pictures.items())))
    count = 5 * len(one)
    targets = [[e.episode(0, i).target.name for i in range(count)] for e in (one, other)]
    assert targets[0] == targets[1]
    np.testing.assert_array_equal(np.bincount([ord(t) - 97 for t in targets[0]]), np.full(6, 5))
