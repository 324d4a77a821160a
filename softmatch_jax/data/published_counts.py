"""How many pictures the lists of published code name, to compare those made from a data set here.

Counted in the lists that VRP-SAM (Sun et al. 2024) distributes. Of COCO-20i they were there to count for the
evaluation on three of the four folds only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from softmatch_jax.data.coco_instances import CLASSES
from softmatch_jax.data.coco_lists import novel_classes as coco_novel
from softmatch_jax.data.pascal_coco_counts import Counts
from softmatch_jax.data.pascal_coco_lists import FOLDS, Split, split_lists
from softmatch_jax.data.pascal_lists import VOC_CLASSES
from softmatch_jax.data.pascal_lists import novel_classes as pascal_novel

PASCAL_PICTURES: dict[Split, int] = {"val": 1449, "train": 5953}
"""Pictures of PASCAL-5i before any is left out."""

PASCAL_LISTED: dict[Split, tuple[int, int, int, int]] = {
    "val": (364, 445, 592, 336),
    "train": (4208, 3726, 2752, 4510),
}
"""Pictures listed in each fold of PASCAL-5i."""

PASCAL_VAL_CLASSES = (
    81, 63, 89, 61, 71,
    70, 100, 118, 110, 69,
    73, 125, 76, 74, 386,
    63, 53, 90, 82, 69,
)  # fmt: skip
"""Pictures to evaluate of the classes 1 to 20."""

COCO_VAL_PICTURES = 40137
"""Annotated pictures of COCO ``val2014``."""

COCO_VAL_LISTED = (None, 15305, 13138, 12640)
"""Pictures listed to evaluate in each fold of COCO-20i."""

COCO_VAL_ENTRIES = (None, 17912, 14563, 14315)
"""The same, a picture counted once for each class that it is listed under."""

COCO_TOLERANCE = 0.01
"""By how much lists of COCO-20i may differ: how overlaps were painted in the published masks is not known."""


@dataclass(frozen=True)
class Comparison:
    """One count of ours beside the published one.

    Attributes:
        what: Is counted.
        ours: Our count.
        published: ``None`` where it is not known.
        tolerance: Allowed difference, as a fraction of the published count.
    """

    what: str
    ours: int
    published: int | None
    tolerance: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than the tolerance."""
        return self.published is None or abs(self.ours - self.published) <= self.tolerance * self.published


def compare_pascal(counts: Counts, split: Split) -> Iterator[Comparison]:
    """Compares the lists of all folds of PASCAL-5i, made from the counts of a split."""
    yield Comparison(f"{split} pictures", len(counts), PASCAL_PICTURES[split])
    for fold in range(FOLDS):
        lists = split_lists(counts, pascal_novel(fold), split, len(VOC_CLASSES))
        yield Comparison(f"{split} fold {fold}", len(lists.images), PASCAL_LISTED[split][fold])
        if split == "val":
            for number, names in lists.by_class.items():
                what = f"{split} fold {fold} {VOC_CLASSES[number - 1]}"
                yield Comparison(what, len(names), PASCAL_VAL_CLASSES[number - 1])


def compare_coco(counts: Counts) -> Iterator[Comparison]:
    """Compares the lists to evaluate of all folds of COCO-20i."""
    yield Comparison("val pictures", len(counts), COCO_VAL_PICTURES, COCO_TOLERANCE)
    for fold in range(FOLDS):
        lists = split_lists(counts, coco_novel(fold), "val", CLASSES)
        entries = sum(map(len, lists.by_class.values()))
        yield Comparison(f"val fold {fold}", len(lists.images), COCO_VAL_LISTED[fold], COCO_TOLERANCE)
        yield Comparison(f"val fold {fold} entries", entries, COCO_VAL_ENTRIES[fold], COCO_TOLERANCE)
