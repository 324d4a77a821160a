"""Base and novel classes, and pictures held out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from class_lists import drawn_lists, lists_of, names_of

from softmatch_jax._checks import InputError
from softmatch_jax.data.class_folds import (
    ClassSplit,
    base_lists,
    check_no_leak,
    divide,
    hold_out,
    name_novel,
    picture_names,
    split_classes,
)
from softmatch_jax.data.coco_lists import novel_classes as coco_novel
from softmatch_jax.data.pascal_lists import novel_classes as pascal_novel


def numbered(count):
    return lists_of({f"class {k}": ["a", "b"] for k in range(1, count + 1)})


@pytest.mark.parametrize("fold", range(4))
def test_folds_are_those_of_the_published_data_sets(fold):
    pascal = split_classes(numbered(20), folds=4, fold=fold)
    assert pascal.novel == tuple(f"class {k}" for k in pascal_novel(fold))
    coco = split_classes(numbered(80), folds=4, fold=fold, scheme="interleaved")
    assert coco.novel == tuple(f"class {k}" for k in coco_novel(fold))
    assert len(coco.base) == 60


@pytest.mark.parametrize("scheme", ["contiguous", "interleaved"])
@pytest.mark.parametrize(("classes", "folds"), [(11, 4), (5, 5), (7, 2), (3, 2)])
def test_each_class_is_novel_in_one_fold(scheme, classes, folds):
    lists = numbered(classes)
    splits = [split_classes(lists, folds=folds, fold=fold, scheme=scheme) for fold in range(folds)]
    novel = [name for split in splits for name in split.novel]
    assert sorted(novel) == sorted(lists.classes)
    assert scheme == "interleaved" or novel == list(lists.classes)
    sizes = [len(split.novel) for split in splits]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    for split in splits:
        assert sorted(split.base + split.novel) == sorted(lists.classes)


def test_no_such_fold():
    for options, words in (
        ({"folds": 1, "fold": 0}, "folds is 1, but things has 3 classes"),
        ({"folds": 4, "fold": 0}, "folds is 4, but things has 3 classes"),
        ({"folds": 3, "fold": 3}, "fold is 3; expected 0 to 2"),
        ({"folds": 3, "fold": -1}, "fold is -1"),
        ({"folds": 3, "fold": 0, "scheme": "random"}, "scheme is 'random'"),
    ):
        with pytest.raises(InputError, match=words):
            split_classes(numbered(3), **options)


def test_named_classes():
    lists = lists_of({"cat": "ab", "dog": "bc", "cow": "de"})
    assert name_novel(lists, ["cow", "cat"]) == ClassSplit(("dog",), ("cat", "cow"))
    with pytest.raises(InputError, match="has no class 'hen'; expected one of 'cat', 'dog', 'cow'"):
        name_novel(lists, ["hen"])
    with pytest.raises(InputError, match="All 3 classes of things are novel"):
        name_novel(lists, ["cow", "cat", "dog"])


@pytest.mark.parametrize("seed", range(5))
def test_base_lists_show_no_novel_class(seed):
    lists = drawn_lists(seed)
    novel = ["class 1", "class 4"]
    shown = {name: set(names) for name, names in names_of(lists).items()}
    expected = {
        name: [p for p in names if not any(p in shown[other] for other in novel)]
        for name, names in names_of(lists).items()
        if name not in novel
    }
    kept = base_lists(lists, novel)
    assert names_of(kept) == expected
    check_no_leak(kept, novel, lists)
    masks = base_lists(lists, novel, exclude="masks")
    assert names_of(masks) == {name: names_of(lists)[name] for name in expected}
    with pytest.raises(InputError, match=r"things has \d+ pictures that show novel classes: 'class 1' in "):
        check_no_leak(masks, novel, lists)


def test_a_pixel_of_a_novel_class_is_enough():
    """Lists of large objects do not tell: ``d`` shows too little of a cat to be listed."""
    lists, showing = lists_of({"cat": "ab", "dog": "bcd"}), lists_of({"cat": "abd", "dog": "bcd"})
    assert names_of(base_lists(lists, ["cat"])) == {"dog": ["c", "d"]}
    assert names_of(base_lists(lists, ["cat"], showing=showing)) == {"dog": ["c"]}


def test_leaks_are_refused_with_the_list():
    lists = lists_of({"cat": "ab", "dog": "bcd", "cow": "dc"})
    with pytest.raises(InputError, match="asks for 2 novel classes in training: cat, cow; expected base"):
        check_no_leak(lists, ["cat", "cow"], lists)
    with pytest.raises(InputError) as error:
        check_no_leak(lists.only(["dog"]), ["cat", "cow"], lists)
    assert "has 3 pictures that show novel classes: 'cat' in b; 'cow' in d, c; leave" in str(error.value)
    many = lists_of({"cat": [f"p{i}" for i in range(99)], "dog": [f"p{i}" for i in range(99)]})
    with pytest.raises(InputError) as error:
        check_no_leak(many.only(["dog"]), ["cat"], many)
    assert "99 pictures" in str(error.value) and len(str(error.value)) < 400


def test_no_picture_without_novel_classes():
    street = lists_of({"road": "abc", "car": "abc"})
    with pytest.raises(InputError, match="Every picture of things shows one of the novel classes 'car'"):
        base_lists(street, ["car"])
    assert names_of(base_lists(street, ["car"], exclude="masks")) == {"road": ["a", "b", "c"]}
    with pytest.raises(InputError, match="exclude is 'all'"):
        base_lists(street, ["car"], exclude="all")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_no_picture_is_in_both_parts(seed, share):
    lists = drawn_lists(seed)
    kept, held = hold_out(lists, share, seed)
    assert kept.classes == lists.classes and set(held.classes) <= set(lists.classes)
    assert not picture_names(kept) & picture_names(held)
    for name, samples in lists.samples.items():
        apart = len(samples) - len(kept.samples[name])
        if len(samples) >= 4:
            assert max(2, math.floor(share * len(samples))) <= apart
            assert [s for s in samples if s in held.samples[name]] == list(held.samples[name])
            assert len(held.samples[name]) == apart
    assert hold_out(lists, share, seed) == (kept, held)
    backwards = replace(lists, samples=dict(reversed(lists.samples.items())))
    assert picture_names(hold_out(backwards, share, seed)[1]) == picture_names(held)


def test_shares_are_exact_where_classes_share_no_picture():
    lists = lists_of({"cat": [f"c{i}" for i in range(40)], "dog": [f"d{i}" for i in range(15)]})
    kept, held = hold_out(lists, 0.1)
    assert {name: len(samples) for name, samples in held.samples.items()} == {"cat": 4, "dog": 2}
    assert held.name == "things held out" and kept.name == "things"
    parts = [picture_names(hold_out(lists, 0.1, seed)[1]) for seed in range(3)]
    assert parts[0] != parts[1] != parts[2]


def test_another_picture_moves_at_most_one():
    names = [f"p{i}" for i in range(60)]
    held = picture_names(hold_out(lists_of({"cat": names}), 0.2)[1])
    for more in ("x", "y", "z"):
        other = picture_names(hold_out(lists_of({"cat": [more, *names]}), 0.2)[1])
        assert len(held - other) <= 1


def test_too_few_to_hold_out():
    lists = lists_of({"cat": "abc", "dog": "defg"})
    kept, held = hold_out(lists, 0.9)
    assert held.classes == ("dog",) and len(held.samples["dog"]) == 2 == len(kept.samples["dog"])
    assert hold_out(lists, 0)[0] == lists and hold_out(lists, 0)[1].samples == {}
    with pytest.raises(InputError, match="No class of things has the 4 pictures"):
        hold_out(lists.only(["cat"]), 0.1)
    for share, seed in ((1.0, 0), (-0.1, 0), (float("nan"), 0), (0.1, -1)):
        with pytest.raises(InputError, match="expected"):
            hold_out(lists, share, seed)


def test_division_by_name():
    lists = lists_of({"cat": ["train/a", "val/a", "val/b"], "dog": ["train/a", "train/b", "val/a"]})
    kept, held = divide(lists, {"val/a", "val/b"})
    assert names_of(kept) == {"cat": ["train/a"], "dog": ["train/a", "train/b"]}
    assert names_of(held) == {"cat": ["val/a", "val/b"]}  # a single dog has no reference
