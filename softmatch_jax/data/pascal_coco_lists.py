"""The rule by which PASCAL-5i and COCO-20i list their pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.data.pascal_coco_counts import Counts

MINIMUM_PIXELS = 2 * 32 * 32
"""A picture is listed under a class of at least so many pixels at the mask's own size."""

FOLDS = 4

Split: TypeAlias = Literal["val", "train"]
"""``val``: novel classes in pictures for evaluation. ``train``: base classes in pictures for training."""


@dataclass(frozen=True)
class FoldLists:
    """The lists of one fold.

    Attributes:
        images: Names of the pictures, in the order of the data set's list.
        by_class: For each class the names of its pictures, in the same order.
        present: For each of ``images``, the classes of the fold that have any pixel in it, ascending.
            The published code asks for these, even where a class is too small to be listed.
    """

    images: tuple[str, ...]
    by_class: Mapping[int, tuple[str, ...]]
    present: tuple[tuple[int, ...], ...]


def list_pictures(counts: Counts, classes: Sequence[int], *, absent: Collection[int] = ()) -> FoldLists:
    """Lists pictures by the rule of PFENet, and of BAM where classes must be absent.

    A picture is listed under each class that has at least :data:`MINIMUM_PIXELS` pixels in its mask, and not
    at all where it has none, or where any pixel is of a class that must be ``absent``. Void pixels do not
    matter.

    Args:
        counts: Of all pictures of a split.
        classes: To list.
        absent: The novel classes, when lists for training are made.
    """
    by_class: dict[int, list[str]] = {index: [] for index in classes}
    images, present = [], []
    for name, record in counts.items():
        if not record.pixels.keys().isdisjoint(absent):
            continue
        large = [index for index in classes if record.pixels.get(index, 0) >= MINIMUM_PIXELS]
        for index in large:
            by_class[index].append(name)
        if large:
            images.append(name)
            present.append(tuple(sorted(record.pixels.keys() & by_class.keys())))
    return FoldLists(tuple(images), {k: tuple(v) for k, v in by_class.items()}, tuple(present))


def split_lists(counts: Counts, novel: Sequence[int], split: Split, classes: int) -> FoldLists:
    """The lists of a fold: its ``novel`` classes to evaluate, or the others of ``classes`` to train."""
    if split == "val":
        return list_pictures(counts, novel)
    base = [index for index in range(1, classes + 1) if index not in novel]
    return list_pictures(counts, base, absent=novel)


def check_fold(fold: int) -> None:
    """Raises ``InputError`` unless there is such a fold."""
    if not 0 <= fold < FOLDS:
        raise InputError(
            f"fold is {fold}; expected 0 to {FOLDS - 1} (the papers' folds 1 to 4 may be meant)."
        )
