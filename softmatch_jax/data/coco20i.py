"""COCO-20i (Nguyen and Todorovic 2019): four folds of twenty classes of COCO 2014."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softmatch_jax._types import Size
from softmatch_jax.data.coco_instances import CLASSES
from softmatch_jax.data.coco_lists import coco_files, novel_classes, prepared_coco
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Episode, EpisodeSet, Sample, Sampling
from softmatch_jax.data.pascal_coco_draws import EPISODES, PublishedEpisodes, pick, pick_references
from softmatch_jax.data.pascal_coco_lists import Split, list_pictures
from softmatch_jax.data.truths import LabelTruth

RASTER: Size = (512, 512)
"""The size to which VRP-SAM and ProSAM squash pictures and masks."""


@dataclass(frozen=True)
class CocoDraws:
    """Draws as VRP-SAM does on COCO-20i, to train and to evaluate.

    All draws are of NumPy's legacy generator: the class; the target, among the pictures of the class; each
    reference, among the same, again while it is the target. Targets and references may repeat.
    """

    @property
    def digest(self) -> str:
        """Empty: the lists decide all."""
        return ""

    def __call__(
        self, lists: ClassLists, shots: int, seed: int, count: int = EPISODES
    ) -> tuple[Episode, ...]:
        """The first ``count`` episodes for a seed of the generator, in order."""
        stream = np.random.RandomState(seed)
        episodes = []
        for index in range(count):
            name = lists.classes[pick(stream, len(lists.classes))]
            samples = lists.samples[name]
            target = samples[pick(stream, len(samples))]
            references = pick_references(stream, samples, target, shots)
            episodes.append(Episode(index=index, class_name=name, target=target, references=references))
        return tuple(episodes)


def open_coco20i(
    root: Path, *, fold: int, shots: int, sampling: Sampling, classes: Sequence[str] | None = None
) -> EpisodeSet:
    """The episodes that evaluate one fold of COCO-20i.

    Published draws pick by the order of the lists, and the public lists have an order that no rule tells: the
    same episodes are drawn only where the masks were prepared with a public list (``--val-list``). Another
    order gives other episodes of the same distribution. No pixel is void: 255 in a mask is background.

    Args:
        root: The folder of COCO 2014 or one above it, or one that ``softmatch data prepare coco20i`` wrote.
        fold: 0 to 3.
        shots: References for each target.
        sampling: ``published``: see :class:`CocoDraws`. ``corrected``: every picture of every list once.
        classes: Names of those of the fold's classes to keep; by default all.

    Raises:
        InputError: The masks are not prepared; no such fold or class; or too few pictures.
    """
    lists = coco_fold(Path(root), fold=fold, classes=classes)
    if sampling == "corrected":
        return CorrectedEpisodes(lists=lists, shots=shots)
    return PublishedEpisodes(lists=lists, shots=shots, draws=CocoDraws())


def coco_fold(
    root: Path, *, fold: int, split: Split = "val", classes: Sequence[str] | None = None
) -> ClassLists:
    """The lists of a fold of COCO-20i.

    Args:
        root: See :func:`open_coco20i`.
        fold: 0 to 3.
        split: ``val``: the fold's novel classes in val2014. ``train``: the other classes in those pictures of
            train2014 that have no pixel of a novel class.
        classes: Those of the split's classes to keep; by default all.

    Raises:
        InputError: The masks of the split are not prepared; no such fold or class.
    """
    novel = novel_classes(fold)
    asked = [number for number in range(1, CLASSES + 1) if (number in novel) == (split == "val")]
    folder, prepared = prepared_coco(root, split)
    absent = () if split == "val" else novel
    found = list_pictures(prepared.splits[split], asked, absent=absent)

    def sample(picture: str, number: int) -> Sample:
        image, mask = coco_files(prepared.pictures, folder, split, picture)
        return Sample(name=picture, image=image, truth=LabelTruth(mask, (number,)))

    samples = {
        prepared.classes[number - 1]: tuple(sample(picture, number) for picture in found.by_class[number])
        for number in asked
    }
    overlap = prepared.overlaps.get(split)
    name = f"coco20i fold {fold}" if split == "val" else f"coco20i fold {fold} training"
    reading = "" if overlap is None else f"overlap {overlap}"
    lists = ClassLists(name=name, samples=samples, raster=RASTER, reading=reading)
    return lists if classes is None else lists.only(classes)
