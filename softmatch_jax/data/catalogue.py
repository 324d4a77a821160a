"""One door to all data sets: from a name and options to the episodes of a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.data.bsds500 import open_bsds500
from softmatch_jax.data.coco20i import open_coco20i
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import EpisodeSet, Sampling
from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.folder_layout import Layout
from softmatch_jax.data.fss1000 import open_fss1000
from softmatch_jax.data.pascal5i import open_pascal5i
from softmatch_jax.data.perseg import open_perseg

DataSetName: TypeAlias = Literal["folder", "fss1000", "pascal5i", "coco20i", "perseg", "bsds500"]

FOLDED = ("pascal5i", "coco20i")
"""Data sets of four folds, each with its own classes."""

PUBLISHED = ("fss1000", "pascal5i", "coco20i", "perseg")
"""Data sets with an order of episodes of their own."""


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """What to read, and how to draw from it.

    Attributes:
        dataset: Which data set.
        root: Its folder.
        shots: References for each target.
        sampling: How they are drawn.
        fold: Of the folded data sets.
        grouping: Of PASCAL: its own folds, or those of COCO.
        classes: Only these; all when empty.
        layout: Of a folder; recognised when ``None``.
        mask_threshold: Of a folder's masks.
        void: Of a folder's label maps.
        labels: Names of the values of a folder's label maps.
        min_area: Of a folder: pixels of a class that a picture must show to be one of the class.
        test_classes: Of FSS-1000.
    """

    dataset: DataSetName
    root: Path
    shots: int = 1
    sampling: Sampling = "corrected"
    fold: int = 0
    grouping: Literal["standard", "coco"] = "standard"
    classes: tuple[str, ...] = ()
    layout: Layout | None = None
    mask_threshold: int | None = None
    void: tuple[int, ...] = ()
    labels: Mapping[int, str] | None = None
    min_area: int = 1
    test_classes: Path | None = None


def open_episodes(source: DataSource) -> EpisodeSet:
    """Reads the lists of a data set.

    Raises:
        InputError: The data are not there or not whole, a class is unknown or has too few pictures, or the
            data set has no such sampling or option.
    """
    _check_options(source)
    shots, sampling = source.shots, source.sampling
    classes: Sequence[str] | None = source.classes or None
    match source.dataset:
        case "fss1000":
            return open_fss1000(
                source.root, shots=shots, sampling=sampling, classes=classes, test_classes=source.test_classes
            )
        case "pascal5i":
            return open_pascal5i(
                source.root,
                fold=source.fold,
                shots=shots,
                sampling=sampling,
                classes=classes,
                grouping=source.grouping,
            )
        case "coco20i":
            return open_coco20i(
                source.root, fold=source.fold, shots=shots, sampling=sampling, classes=classes
            )
        case "perseg":
            return open_perseg(source.root, shots=shots, sampling=sampling, classes=classes)
        case "bsds500":
            return open_bsds500(source.root, shots=shots, sampling=sampling)
        case "folder":
            lists = open_folder(
                source.root,
                layout=source.layout,
                classes=classes,
                void=source.void,
                labels=source.labels,
                min_area=source.min_area,
                threshold=source.mask_threshold,
            )
            return CorrectedEpisodes(lists, shots)


def _check_options(source: DataSource) -> None:
    """Raises ``InputError`` where an option has no meaning for the data set."""
    name = source.dataset
    if source.sampling == "published" and name not in PUBLISHED:
        raise InputError(
            f"{name} has no published sampling; expected --sampling corrected (or leave --sampling out)."
        )
    of_folders = {
        "--layout": source.layout,
        "--mask-threshold": source.mask_threshold is not None,
        "--void": source.void,
        "--label": source.labels,
        "--min-area": source.min_area != 1,
    }
    for option, value in of_folders.items():
        if value and name != "folder":
            raise InputError(f"{option} is given for {name}; expected it with folder only (leave it out).")
    if source.test_classes is not None and name != "fss1000":
        raise InputError(f"--test-classes is given for {name}; expected it with fss1000 only (leave it out).")
    if source.grouping == "coco" and name != "pascal5i":
        raise InputError(f"--folds coco is given for {name}; expected it with pascal5i only (leave it out).")
    if source.classes and name == "bsds500":
        raise InputError("--class-name is given for bsds500, which has regions and no classes; leave it out.")
    if name in FOLDED and source.fold not in range(4):
        raise InputError(f"--fold is {source.fold}; expected 0, 1, 2 or 3.")
