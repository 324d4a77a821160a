"""PASCAL-5i (Shaban et al. 2017): four folds of five classes of PASCAL VOC 2012."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from softmatch_jax._types import Size
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Episode, EpisodeSet, Sample, Sampling, checksum
from softmatch_jax.data.pascal_coco_counts import VOID
from softmatch_jax.data.pascal_coco_draws import EPISODES, PublishedEpisodes, pick_references
from softmatch_jax.data.pascal_coco_lists import Split, list_pictures
from softmatch_jax.data.pascal_lists import (
    VOC_CLASSES,
    Grouping,
    locate_pascal,
    novel_classes,
    pascal_counts,
    pascal_files,
)
from softmatch_jax.data.truths import LabelTruth

RASTER: Size = (512, 512)
"""The size to which VRP-SAM and ProSAM squash pictures and masks."""

Question: TypeAlias = tuple[str, Sample]
"""A class that is in a picture, and the picture with its truth."""


@dataclass(frozen=True)
class PascalDraws:
    """Draws as VRP-SAM does on PASCAL-5i, to train and to evaluate.

    Target ``index`` is picture ``index % len(targets)``. The class is drawn, with Python's generator, among
    those of the fold that have any pixel in the target's mask, even where it is too small to be listed under.
    References are drawn, with NumPy's, from the pictures of the class, and may repeat.

    Attributes:
        targets: For each picture of the fold the classes present, by ascending number.
    """

    targets: tuple[tuple[Question, ...], ...]

    @property
    def digest(self) -> str:
        """Checksum of the targets and their classes: the lists do not tell which small ones are asked for."""
        return checksum([[(name, sample.name) for name, sample in target] for target in self.targets])

    def __call__(
        self, lists: ClassLists, shots: int, seed: int, count: int = EPISODES
    ) -> tuple[Episode, ...]:
        """The first ``count`` episodes for a seed of both generators, in order."""
        classes, pictures = random.Random(seed), np.random.RandomState(seed)
        episodes = []
        for index in range(count):
            questions = self.targets[index % len(self.targets)]
            name, target = questions[classes.randint(1, len(questions)) - 1]
            references = pick_references(pictures, lists.samples[name], target, shots)
            episodes.append(Episode(index=index, class_name=name, target=target, references=references))
        return tuple(episodes)


def open_pascal5i(
    root: Path,
    *,
    fold: int,
    shots: int,
    sampling: Sampling,
    classes: Sequence[str] | None = None,
    grouping: Literal["standard", "coco"] = "standard",
) -> EpisodeSet:
    """The episodes that evaluate one fold of PASCAL-5i.

    The published lists keep the order of VOC's ``val.txt``, so the published episodes are drawn again.

    Args:
        root: The folder of VOC 2012 or one above it, or one that ``softmatch data prepare pascal5i`` wrote.
            Without preparation the 1449 masks are counted first, in some seconds.
        fold: 0 to 3.
        shots: References for each target.
        sampling: ``published``: see :class:`PascalDraws`. ``corrected``: every picture of every list once.
        classes: Names of those of the fold's classes to keep; by default all.
        grouping: See :data:`softmatch_jax.data.pascal_lists.Grouping`.

    Raises:
        InputError: Files are missing or damaged; no such fold or class; or too few pictures.
    """
    lists, draws = pascal_fold(Path(root), fold=fold, grouping=grouping, classes=classes)
    if sampling == "corrected":
        return CorrectedEpisodes(lists=lists, shots=shots)
    return PublishedEpisodes(lists=lists, shots=shots, draws=draws)


def pascal_fold(
    root: Path,
    *,
    fold: int,
    split: Split = "val",
    grouping: Grouping = "standard",
    classes: Sequence[str] | None = None,
) -> tuple[ClassLists, PascalDraws]:
    """The lists of a fold of PASCAL-5i, and how the published code draws from them.

    Args:
        root: See :func:`open_pascal5i`; the masks of a split that was not prepared are counted first.
        fold: 0 to 3.
        split: ``val``: the fold's novel classes in VOC's validation pictures. ``train``: the other classes
            in the training pictures that have no pixel of a novel class.
        grouping: See :func:`open_pascal5i`.
        classes: Those of the split's classes to keep; by default all.

    Raises:
        InputError: Files are missing or damaged; no such fold or class.
    """
    name = f"pascal5i fold {fold}" if grouping == "standard" else f"pascal5i coco-fold {fold}"
    name = name if split == "val" else f"{name} training"
    novel = novel_classes(fold, grouping)
    asked = [n for n in range(1, len(VOC_CLASSES) + 1) if (n in novel) == (split == "val")]
    numbers = {VOC_CLASSES[number - 1]: number for number in asked}
    voc, _ = locate_pascal(root)

    def sample(picture: str, number: int) -> Sample:
        image, mask = pascal_files(voc, picture)
        return Sample(name=picture, image=image, truth=LabelTruth(mask, (number,), (VOID,)))

    if classes is not None:
        known = ClassLists(name=name, samples=dict.fromkeys(numbers, ()))
        numbers = {kept: numbers[kept] for kept in known.only(classes).classes}
    absent = () if split == "val" else novel
    found = list_pictures(pascal_counts(root, split), tuple(numbers.values()), absent=absent)
    samples = {
        class_name: tuple(sample(picture, number) for picture in found.by_class[number])
        for class_name, number in numbers.items()
    }
    targets = tuple(
        tuple((VOC_CLASSES[number - 1], sample(picture, number)) for number in present)
        for picture, present in zip(found.images, found.present, strict=True)
    )
    return ClassLists(name=name, samples=samples, raster=RASTER), PascalDraws(targets)
