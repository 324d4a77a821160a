"""Base classes to train on, novel classes to evaluate on, and pictures held out to choose a model by.

What was trained on a fold must never have seen a novel class. The published lists leave out every picture in
which a single pixel is of one; here that is done for any data set whose lists say which pictures show what.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.folder_files import named

Scheme: TypeAlias = Literal["contiguous", "interleaved"]
"""Which classes are novel in a fold: neighbours in the order of classes, as in PASCAL-5i, or every n-th, as
in COCO-20i."""

Exclude: TypeAlias = Literal["pictures", "masks"]
"""How novel classes are kept from training. ``pictures``: no picture that shows one is used, as published.
``masks``: such pictures are used, and only base classes are asked for, which is all that can be done where
every picture shows every class, as in street scenes. The novel objects are then part of the background that
is learned, and a score on them is no longer one on what was never seen."""

_MOST = 20  # names in a message


@dataclass(frozen=True)
class ClassSplit:
    """The classes of a data set, each in the order of its lists.

    Attributes:
        base: To train on.
        novel: To evaluate on.
    """

    base: tuple[str, ...]
    novel: tuple[str, ...]


def split_classes(lists: ClassLists, *, folds: int, fold: int, scheme: Scheme = "contiguous") -> ClassSplit:
    """Divides classes into ``folds`` groups, of which one is novel; over all folds each class is novel once.

    Class ``i`` of ``n``, from 0, is novel in fold ``floor(i folds / n)`` when ``contiguous``, and in fold
    ``i mod folds`` when ``interleaved``. The groups differ by one class at most.

    Args:
        lists: The data set, whose order of classes decides.
        folds: Number of groups, 2 to the number of classes.
        fold: Which is novel, from 0.
        scheme: See :data:`Scheme`.

    Raises:
        InputError: There is no such fold or scheme, or there are fewer classes than folds.
    """
    names = lists.classes
    if scheme not in get_args(Scheme):
        raise InputError(f"scheme is {scheme!r}; expected 'contiguous' or 'interleaved'.")
    if not 2 <= folds <= len(names):
        raise InputError(
            f"folds is {folds}, but {lists.name} has {len(names)} classes; expected 2 to as many folds as "
            "classes (or name the novel classes)."
        )
    if not 0 <= fold < folds:
        raise InputError(f"fold is {fold}; expected 0 to {folds - 1} of {folds} folds.")
    if scheme == "contiguous":
        return name_novel(lists, [name for i, name in enumerate(names) if i * folds // len(names) == fold])
    return name_novel(lists, names[fold::folds])


def name_novel(lists: ClassLists, novel: Sequence[str]) -> ClassSplit:
    """Divides classes by the names of the novel ones.

    Raises:
        InputError: A name is unknown, or no class is left to train on.
    """
    found = lists.only(novel).classes
    base = tuple(name for name in lists.classes if name not in found)
    if not base:
        raise InputError(
            f"All {len(found)} classes of {lists.name} are novel; expected at least one to train on."
        )
    return ClassSplit(base, found)


def base_lists(
    lists: ClassLists,
    novel: Sequence[str],
    *,
    exclude: Exclude = "pictures",
    showing: ClassLists | None = None,
) -> ClassLists:
    """The lists to train on, without the novel classes.

    Args:
        lists: The data set.
        novel: Names of the classes to leave out.
        exclude: See :data:`Exclude`.
        showing: Lists of the same pictures that name each one under every class of which it has any pixel,
            where ``lists`` leave out small objects; by default ``lists``.

    Returns:
        All other classes, even one of which no picture is left.

    Raises:
        InputError: A class is unknown, none is left, or no picture is.
    """
    if exclude not in get_args(Exclude):
        raise InputError(f"exclude is {exclude!r}; expected 'pictures' or 'masks'.")
    kept = lists.only(name_novel(lists, novel).base)
    if exclude == "masks":
        return kept
    kept = without(kept, picture_names((showing or lists).only(novel)))
    if not picture_names(kept):
        raise InputError(
            f"Every picture of {lists.name} shows one of the novel classes {', '.join(map(repr, novel))}; "
            "expected some that show none (name fewer novel classes, or leave out the masks only: exclude "
            "'masks')."
        )
    return kept


def check_no_leak(training: ClassLists, novel: Sequence[str], showing: ClassLists) -> None:
    """Refuses lists for training that would show what the evaluation takes for unseen.

    Args:
        training: What is about to be trained on.
        novel: Names of the classes to evaluate.
        showing: For each novel class the pictures that must not be trained on: all that show it, or, where
            only masks are excluded, all that it is evaluated on.

    Raises:
        InputError: A novel class is among those of training, or a picture of ``showing`` is; with the names.
    """
    asked = [name for name in training.classes if name in novel]
    if asked:
        raise InputError(
            f"{training.name} asks for {len(asked)} novel classes in training: {_list(asked)}; expected base "
            "classes only (take them out of the lists, or out of the novel classes)."
        )
    trained = picture_names(training)
    leaks = {
        name: [sample.name for sample in showing.samples[name] if sample.name in trained]
        for name in novel
        if name in showing.samples
    }
    leaks = {name: pictures for name, pictures in leaks.items() if pictures}
    if leaks:
        each = "; ".join(f"{name!r} in {_list(pictures)}" for name, pictures in leaks.items())
        count = len({picture for pictures in leaks.values() for picture in pictures})
        raise InputError(
            f"{training.name} has {count} pictures that show novel classes: {each}; leave these pictures "
            "out of training."
        )


def hold_out(lists: ClassLists, share: float, seed: int = 0) -> tuple[ClassLists, ClassLists]:
    """Sets pictures apart, so that none is in both parts.

    Pictures are ordered by a checksum of seed and name. From the rarest class on, each has the first
    ``share`` of its pictures held out, rounded up and at least 2; those that a rarer class holds out count.
    So one more picture moves few of the others, and the order of the lists none. A class of fewer than 4
    pictures, too few for two parts with a target and a reference each, holds out none of its own. Frames of a
    film that resemble each other may come apart; where films lie in folders, :func:`divide` by folder.

    Args:
        lists: The data set.
        share: Of the pictures of each class, 0 to below 1; 0 holds out none.
        seed: Not that of the training, so that trainings with several seeds are judged by the same pictures.

    Returns:
        What is kept, with all classes, and what is held out, with those that have 2 pictures there.

    Raises:
        InputError: ``share`` or ``seed`` is out of range, or too few pictures are there to hold out any.
    """
    if not 0 <= share < 1:
        raise InputError(f"hold_out is {share}; expected a share of the pictures from 0 to below 1.")
    if seed < 0:
        raise InputError(f"The seed of what is held out is {seed}; expected 0 or more.")
    held: set[str] = set()
    shown: dict[str, list[str]] = {}
    for each, samples in lists.samples.items():
        for sample in samples:
            shown.setdefault(sample.name, []).append(each)
    # A picture may show a rarer class, too, which must keep a target and a reference.
    left = {each: len(samples) for each, samples in lists.samples.items()}
    order = sorted(lists.samples.items(), key=lambda item: (len(item[1]), item[0]))
    for _, samples in order:
        if share == 0 or len(samples) < 4:
            continue
        names = sorted((sample.name for sample in samples), key=lambda name: (_mark(seed, name), name))
        needed = min(max(2, math.ceil(share * len(names))), len(names) - 2)
        needed -= sum(name in held for name in names)
        for name in [name for name in names if name not in held]:
            if needed > 0 and all(left[each] > 2 for each in shown[name]):
                needed -= 1
                held.add(name)
                left.update({each: left[each] - 1 for each in shown[name]})
    if share and not held:
        raise InputError(
            f"No class of {lists.name} has the 4 pictures of which some can be held out; add pictures, or "
            "hold out none (share 0)."
        )
    return divide(lists, held)


def divide(lists: ClassLists, held: Collection[str]) -> tuple[ClassLists, ClassLists]:
    """Divides lists by the names of the pictures to hold out; see :func:`hold_out` for what is returned."""
    held = set(held)
    apart = without(lists, picture_names(lists) - held)
    shown = {name: samples for name, samples in apart.samples.items() if len(samples) > 1}
    return without(lists, held), replace(apart, name=f"{lists.name} held out", samples=shown)


def without(lists: ClassLists, pictures: Collection[str]) -> ClassLists:
    """The same classes without some pictures, by their names."""
    left = {
        name: tuple(sample for sample in samples if sample.name not in pictures)
        for name, samples in lists.samples.items()
    }
    return replace(lists, samples=left)


def picture_names(lists: ClassLists) -> set[str]:
    """Names of all pictures."""
    return {sample.name for samples in lists.samples.values() for sample in samples}


def _mark(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()


def _list(names: Sequence[str]) -> str:
    """All names, or how many there are and the first."""
    return ", ".join(names) if len(names) <= _MOST else named(names, _MOST)
