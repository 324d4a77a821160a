"""One door to what a prompt encoder is trained on: base classes, held-out pictures, novel classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from softmatch_jax._checks import InputError
from softmatch_jax.data.class_folds import (
    ClassSplit,
    Exclude,
    Scheme,
    base_lists,
    check_no_leak,
    divide,
    hold_out,
    name_novel,
    picture_names,
    split_classes,
)
from softmatch_jax.data.coco20i import CocoDraws, coco_fold
from softmatch_jax.data.coco_lists import novel_classes as coco_novel
from softmatch_jax.data.coco_lists import prepared_coco
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Sampling, checksum
from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.folder_files import named
from softmatch_jax.data.folder_layout import Layout
from softmatch_jax.data.pascal5i import PascalDraws, pascal_fold
from softmatch_jax.data.pascal_coco_draws import PublishedEpisodes
from softmatch_jax.data.pascal_coco_lists import check_fold
from softmatch_jax.data.pascal_lists import VOC_CLASSES
from softmatch_jax.data.pascal_lists import novel_classes as pascal_novel
from softmatch_jax.data.training_episodes import TrainingDraws, TrainingEpisodes

TrainingSetName: TypeAlias = Literal["pascal5i", "coco20i", "folder"]

_OF_FOLDERS = (
    "folds", "scheme", "novel", "exclude", "held_folder", "layout", "mask_threshold", "void", "labels",
    "min_area",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingSource:
    """What to train on, and what to keep from it.

    Attributes:
        dataset: Which data set.
        root: Its folder.
        sampling: How episodes are drawn: published with pascal5i and coco20i only.
        fold: Which classes are novel, from 0. Of a folder ``None`` where ``novel`` names them, or where none
            is: then there are no novel classes to evaluate.
        folds: Of a folder: how many.
        scheme: Of a folder: neighbouring classes are novel together, or every n-th.
        novel: Of a folder: names of the novel classes.
        exclude: Of a folder: whether no picture that shows a novel class is used, or only its masks are not.
            Then novel classes are evaluated in the held-out pictures.
        held_share: Share of the pictures that validates on base classes; 0 to train on published lists whole.
        held_folder: Of a folder: the pictures below it are held out instead, such as ``val``.
        held_seed: Which pictures are held out; not the seed of the training.
        grouping: Of PASCAL: its own folds, or those of COCO.
        classes: Only these, base and novel; all when empty.
        layout: Of a folder; recognised when ``None``.
        mask_threshold: Of a folder's masks.
        void: Of a folder's label maps.
        labels: Names of the values of a folder's label maps.
        min_area: Of a folder: pixels of a class that a picture must show to be one of the class.
    """

    dataset: TrainingSetName
    root: Path
    sampling: Sampling = "corrected"
    fold: int | None = None
    folds: int = 4
    scheme: Scheme = "contiguous"
    novel: tuple[str, ...] = ()
    exclude: Exclude = "pictures"
    held_share: float = 0.1
    held_folder: str = ""
    held_seed: int = 0
    grouping: Literal["standard", "coco"] = "standard"
    classes: tuple[str, ...] = ()
    layout: Layout | None = None
    mask_threshold: int | None = None
    void: tuple[int, ...] = ()
    labels: Mapping[int, str] | None = None
    min_area: int = 1


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training needs to know of its data.

    Attributes:
        name: The data set and its part.
        episodes: To train on: base classes.
        validation: Held-out pictures of base classes; ``None`` where none are held out.
        evaluation: The novel classes, drawn as in the training; ``None`` without novel classes.
        novel: Names of the novel classes.
    """

    name: str
    episodes: TrainingEpisodes
    validation: CorrectedEpisodes | None
    evaluation: CorrectedEpisodes | PublishedEpisodes | None
    novel: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Checksum of all that decides the episodes of the three parts, wherever files lie."""
        parts = (self.episodes, self.validation, self.evaluation)
        return checksum([None if part is None else [part.sampling, part.digest] for part in parts])


def open_training(source: TrainingSource) -> TrainingData:
    """Reads the lists of a data set, and divides them. Nothing is drawn and no picture read yet.

    A picture that is trained on is in neither of the other parts.

    Raises:
        InputError: The data are not there or not whole; there is no such fold, class or option; a class has
            too few pictures; or novel classes would leak into the training.
    """
    _check_options(source)
    if source.dataset == "folder":
        return _of_folder(source)
    return _of_pascal(source) if source.dataset == "pascal5i" else _of_coco(source)


def _of_pascal(source: TrainingSource) -> TrainingData:
    """A fold of PASCAL-5i, whose rule keeps novel classes out."""
    root, fold, grouping = Path(source.root), source.fold or 0, source.grouping
    numbers = pascal_novel(fold, grouping)
    wanted = _wanted(source, VOC_CLASSES, [VOC_CLASSES[number - 1] for number in numbers])
    novel, asked = pascal_fold(root, fold=fold, grouping=grouping, classes=wanted.novel)
    lists, drawn = pascal_fold(root, fold=fold, split="train", grouping=grouping, classes=wanted.base)
    kept, held = _hold_out(lists, source)
    left = picture_names(kept)
    draws = PascalDraws(tuple(target for target in drawn.targets if target[0][1].name in left))
    if source.sampling == "corrected":
        return _put_together(kept, held, novel)
    return _put_together(kept, held, novel, draws, PublishedEpisodes(lists=novel, shots=1, draws=asked))


def _of_coco(source: TrainingSource) -> TrainingData:
    """A fold of COCO-20i, whose rule keeps novel classes out."""
    root, fold = Path(source.root), source.fold or 0
    every = prepared_coco(root, "train")[1].classes
    wanted = _wanted(source, every, [every[number - 1] for number in coco_novel(fold)])
    novel = coco_fold(root, fold=fold, classes=wanted.novel)
    lists = coco_fold(root, fold=fold, split="train", classes=wanted.base)
    kept, held = _hold_out(lists, source)
    if source.sampling == "corrected":
        return _put_together(kept, held, novel)
    draws = CocoDraws()
    return _put_together(kept, held, novel, draws, PublishedEpisodes(lists=novel, shots=1, draws=draws))


def _of_folder(source: TrainingSource) -> TrainingData:
    """A folder, whose classes are divided as asked for."""
    lists = _open_folder(source, source.min_area)
    split = _split(source, lists)
    if not split.novel:
        return _put_together(*_hold_out(lists, source), None)
    part = f"novel {named(split.novel)}" if source.fold is None else f"fold {source.fold} of {source.folds}"
    lists = replace(lists, name=f"{lists.name} {part}")
    if source.exclude == "masks":
        kept, held = _hold_out(lists, source)
        novel = _evaluated(held, split)
        seen = tuple(name for name in split.base if held is not None and name in held.samples)
        validated = held.only(seen) if held is not None and seen else None
        kept = base_lists(kept, split.novel, exclude="masks")
        return _put_together(kept, validated, novel)
    # A picture that shows few pixels of a novel class is not listed under it, and shows it all the same.
    showing = lists if source.min_area == 1 else _open_folder(source, 1)
    kept, held = _hold_out(base_lists(lists, split.novel, showing=showing), source)
    check_no_leak(kept, split.novel, showing)
    return _put_together(kept, held, lists.only(split.novel))


def _put_together(
    kept: ClassLists,
    held: ClassLists | None,
    novel: ClassLists | None,
    draws: TrainingDraws | None = None,
    evaluation: CorrectedEpisodes | PublishedEpisodes | None = None,
) -> TrainingData:
    """Makes episodes of the three parts, and checks once more that nothing leaks."""
    if novel is not None:
        check_no_leak(kept, novel.classes, novel)
        evaluation = evaluation or CorrectedEpisodes(novel, 1)
    return TrainingData(
        name=kept.name,
        episodes=TrainingEpisodes(kept, draws),
        validation=None if held is None else CorrectedEpisodes(held, 1),
        evaluation=evaluation,
        novel=() if novel is None else novel.classes,
    )


def _open_folder(source: TrainingSource, min_area: int) -> ClassLists:
    return open_folder(
        Path(source.root),
        layout=source.layout,
        classes=source.classes or None,
        void=source.void,
        labels=source.labels,
        min_area=min_area,
        threshold=source.mask_threshold,
    )


def _split(source: TrainingSource, lists: ClassLists) -> ClassSplit:
    """The classes of a folder."""
    if source.novel:
        return name_novel(lists, source.novel)
    if source.fold is None:
        return ClassSplit(lists.classes, ())
    return split_classes(lists, folds=source.folds, fold=source.fold, scheme=source.scheme)


def _wanted(source: TrainingSource, every: Sequence[str], novel: Sequence[str]) -> ClassSplit:
    """The classes to take of a fold: all, or those that are named."""
    lists = ClassLists(name=source.dataset, samples=dict.fromkeys(every, ()))
    if source.classes:
        lists = lists.only(source.classes)
    kept = [name for name in lists.classes if name in novel]
    if not kept:
        raise InputError(
            f"None of the classes {', '.join(map(repr, source.classes))} is novel in fold {source.fold} of "
            f"{source.dataset}; expected one of {', '.join(map(repr, novel))} too."
        )
    return name_novel(lists, kept)


def _evaluated(held: ClassLists | None, split: ClassSplit) -> ClassLists:
    """The novel classes in the held-out pictures, the only ones that were not trained on."""
    missing = [name for name in split.novel if held is None or name not in held.samples]
    if held is None or missing:
        raise InputError(
            "With exclude 'masks' novel classes are evaluated in the pictures that are held out, but fewer "
            f"than 2 of these show {', '.join(map(repr, missing))}; hold out more (or exclude 'pictures')."
        )
    return held.only(split.novel)


def _hold_out(lists: ClassLists, source: TrainingSource) -> tuple[ClassLists, ClassLists | None]:
    """What is trained on and what is held out, if anything is."""
    if not source.held_folder:
        kept, held = hold_out(lists, source.held_share, source.held_seed)
        return kept, held if source.held_share else None
    below = source.held_folder.rstrip("/") + "/"
    kept, held = divide(lists, {name for name in picture_names(lists) if name.startswith(below)})
    if not held.samples:
        raise InputError(
            f"No class of {lists.name} has 2 pictures in the folder {source.held_folder!r} to be held out; "
            f"expected a folder in {source.root} with some."
        )
    return kept, held


def _check_options(source: TrainingSource) -> None:
    """Raises ``InputError`` where an option has no meaning for the data set."""
    name = source.dataset
    if name not in get_args(TrainingSetName):
        expected = ", ".join(get_args(TrainingSetName))
        raise InputError(f"The data set to train on is {name!r}; expected one of {expected}.")
    if name == "folder":
        _check_folder_options(source)
        return
    if source.fold is None:
        raise InputError(f"{name} needs a fold; expected --fold 0, 1, 2 or 3.")
    check_fold(source.fold)
    unset = TrainingSource(dataset=name, root=source.root)
    for option in _OF_FOLDERS:
        if getattr(source, option) != getattr(unset, option):
            raise InputError(
                f"--{option.replace('_', '-')} is given for {name}; expected it with folder only (leave it "
                "out)."
            )
    if source.grouping == "coco" and name != "pascal5i":
        raise InputError(
            f"--grouping coco is given for {name}; expected it with pascal5i only (leave it out)."
        )


def _check_folder_options(source: TrainingSource) -> None:
    if source.sampling == "published":
        raise InputError("folder has no published sampling; expected --sampling corrected (or leave it out).")
    if source.grouping != "standard":
        raise InputError("--grouping is given for folder; expected it with pascal5i only (leave it out).")
    if source.novel and source.fold is not None:
        raise InputError("Both --novel and --fold say which classes are novel; expected one of them.")
    if source.exclude != "pictures" and not source.novel and source.fold is None:
        raise InputError(
            f"--exclude {source.exclude} is given, but no class is novel; expected --fold or --novel too."
        )
