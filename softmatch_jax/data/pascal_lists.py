"""The pictures of PASCAL-5i: where they lie, and which are listed in a fold.

Masks are those of PASCAL VOC 2012 with SBD (Hariharan et al. 2011), ``SegmentationClassAug``. Pictures to
evaluate are the 1449 of VOC's validation list. Pictures to train are the 1464 of VOC's training list with the
5623 of SBD's list without VOC's validation pictures (``train_noval.txt``), together 5953; the larger list of
10582 pictures in common use (``trainaug.txt``) gives other lists for training, and the same for evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import check_folder, make_folder
from softmatch_jax.data.pascal_coco_counts import (
    Counts,
    Prepared,
    Report,
    check_current,
    count_masks,
    no_report,
    read_names,
    read_prepared,
    write_prepared,
)
from softmatch_jax.data.pascal_coco_lists import FoldLists, Split, check_fold, split_lists

DATASET = "pascal5i"

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Names of the classes 1 to 20."""

Grouping: TypeAlias = Literal["standard", "coco"]
"""How classes are grouped in folds. ``standard``: five after five. ``coco``: each class is in the fold of
COCO-20i that it is novel in, so that what was trained on a fold of COCO-20i has never seen it (RePRI, Boudiaf
et al. 2021); these folds have 6, 4, 6 and 4 classes."""

# The numbers of the same classes among the 80 of COCO, in the order of VOC_CLASSES (airplane is 5, ...).
_COCO_NUMBERS = (5, 2, 15, 9, 40, 6, 3, 16, 57, 20, 61, 17, 18, 4, 1, 59, 19, 58, 7, 63)

_MASKS, _PICTURES = "SegmentationClassAug", "JPEGImages"
_LISTS = Path("ImageSets", "Segmentation")


def novel_classes(fold: int, grouping: Grouping = "standard") -> tuple[int, ...]:
    """Numbers of the classes that a fold evaluates, ascending.

    Raises:
        InputError: There is no such fold.
    """
    check_fold(fold)
    if grouping == "standard":
        return tuple(range(5 * fold + 1, 5 * fold + 6))
    return tuple(k for k, number in enumerate(_COCO_NUMBERS, 1) if (number - 1) % 4 == fold)


def find_voc(root: Path) -> Path:
    """The folder ``VOC2012`` at, or in, ``root``.

    Raises:
        InputError: It is not there, or lacks pictures or masks.
    """
    check_folder(root, "the folder of PASCAL VOC 2012")
    candidates = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    for voc in candidates:
        if (voc / _PICTURES).is_dir():
            if (voc / _MASKS).is_dir():
                return voc
            raise InputError(
                f"{voc} has no folder {_MASKS}; expected the masks of VOC and SBD as indexed PNG files (the "
                "archive SegmentationClassAug.zip that public few-shot code links to)."
            )
    raise InputError(
        f"{root} has no folder {_PICTURES}, nor has VOC2012 or VOCdevkit/VOC2012 in it; expected PASCAL VOC "
        f"2012 with {_PICTURES} and {_MASKS}."
    )


def listed_names(voc: Path, split: Split, names_file: Path | None = None) -> tuple[str, ...]:
    """Names of the pictures of a split, before any is left out.

    For training: SBD's ``train_noval.txt`` with VOC's ``train.txt`` where the first lies beside the second
    in ``ImageSets/Segmentation``; else ``trainaug.txt``; else all with a mask that ``val.txt`` does not name.

    Args:
        voc: See :func:`find_voc`.
        split: Which.
        names_file: A list to take instead, such as one of the public code.

    Raises:
        InputError: A list is missing or damaged, or a picture of it has no mask.
    """
    lists = voc / _LISTS
    if names_file is not None:
        names = read_names(names_file)
    elif split == "val":
        names = read_names(lists / "val.txt")
    elif (lists / "train_noval.txt").is_file():
        names = tuple(
            dict.fromkeys([*read_names(lists / "train_noval.txt"), *read_names(lists / "train.txt")])
        )
    elif (lists / "trainaug.txt").is_file():
        names = read_names(lists / "trainaug.txt")
    else:
        kept = set(read_names(lists / "val.txt"))
        names = tuple(sorted(path.stem for path in (voc / _MASKS).glob("*.png") if path.stem not in kept))
    for folder, suffix in ((voc / _MASKS, ".png"), (voc / _PICTURES, ".jpg")):
        there = {path.stem for path in folder.glob(f"*{suffix}")}
        missing = [name for name in names if name not in there]
        if missing:
            raise InputError(
                f"{folder} lacks {len(missing)} of {len(names)} files of the {split} list, first "
                f"{missing[0]}{suffix}; copy them, or give a shorter list."
            )
    return names


def pascal_counts(root: Path, split: Split, report: Report = no_report) -> Counts:
    """The pixels of each class in each mask of a split: as prepared, or counted now.

    Args:
        root: The data set, or the folder that ``softmatch data prepare pascal5i`` wrote to.
        split: Which.
        report: Told of the progress where they are counted now.

    Raises:
        InputError: Files are missing, damaged, or have changed since they were prepared.
    """
    voc, prepared = locate_pascal(root)
    if prepared is not None and split in prepared.splits:
        check_current(prepared.splits[split], voc / _MASKS, DATASET)
        return prepared.splits[split]
    return count_masks(voc / _MASKS, listed_names(voc, split), len(VOC_CLASSES), report)


def locate_pascal(root: Path) -> tuple[Path, Prepared | None]:
    """The folder ``VOC2012`` of a data set or of a prepared folder, and what was prepared."""
    prepared = read_prepared(root, DATASET)
    if prepared is not None:
        return find_voc(prepared.pictures), prepared
    voc = find_voc(root)
    return voc, read_prepared(voc, DATASET)


def prepare_pascal(
    root: Path,
    output: Path | None = None,
    *,
    splits: Sequence[Split] = ("val", "train"),
    val_list: Path | None = None,
    train_list: Path | None = None,
    report: Report = no_report,
) -> Path:
    """Counts the masks of some splits, and writes the counts.

    Args:
        root: The data set; see :func:`find_voc`.
        output: Folder to write to, made if needed; by default the data set's own. It can be given as the
            root from then on.
        splits: Which to count; others that were prepared before are kept.
        val_list: List of pictures to take in place of VOC's, which decides their order too.
        train_list: As well; see :func:`listed_names`.
        report: Told of the progress in each split.

    Returns:
        The folder that was written to.

    Raises:
        InputError: Files are missing or damaged, or the folder cannot be written.
    """
    voc = find_voc(root)
    folder = voc if output is None else make_folder(output)
    before = read_prepared(folder, DATASET)
    counts = dict(before.splits) if before is not None else {}
    for split in splits:
        names = listed_names(voc, split, val_list if split == "val" else train_list)
        counts[split] = count_masks(voc / _MASKS, names, len(VOC_CLASSES), report)
    write_prepared(
        folder, Prepared(dataset=DATASET, pictures=voc, classes=VOC_CLASSES, splits=counts, overlaps={})
    )
    return folder


def build_pascal_lists(root: Path, fold: int, split: Split, grouping: Grouping = "standard") -> FoldLists:
    """The lists of one fold; see :func:`softmatch_jax.data.pascal_coco_lists.split_lists`.

    Raises:
        InputError: As :func:`pascal_counts`; or there is no such fold.
    """
    novel = novel_classes(fold, grouping)
    return split_lists(pascal_counts(root, split), novel, split, len(VOC_CLASSES))


def pascal_files(voc: Path, name: str) -> tuple[Path, Path]:
    """The picture and the mask of a name."""
    return voc / _PICTURES / f"{name}.jpg", voc / _MASKS / f"{name}.png"
