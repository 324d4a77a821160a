"""The pictures of COCO-20i: their class masks, and which are listed in a fold.

Pictures to evaluate are those of COCO ``val2014``, pictures to train those of ``train2014``. The masks lie in
``annotations/val2014`` and ``annotations/train2014``, as in the published code; ``softmatch data prepare
coco20i`` paints them, or counts those that are there.
"""

from __future__ import annotations

from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.coco_instances import CLASSES
from softmatch_jax.data.files import check_folder
from softmatch_jax.data.pascal_coco_counts import Prepared, check_current, read_prepared
from softmatch_jax.data.pascal_coco_lists import FOLDS, FoldLists, Split, check_fold, split_lists

DATASET = "coco20i"

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""Names of the classes 1 to 80, for masks without the annotations that they were painted from."""


def novel_classes(fold: int) -> tuple[int, ...]:
    """Numbers of the 20 classes that a fold evaluates: every fourth.

    Raises:
        InputError: There is no such fold.
    """
    check_fold(fold)
    return tuple(range(fold + 1, CLASSES + 1, FOLDS))


def find_coco(root: Path) -> Path:
    """The folder of COCO 2014 at, or in, ``root``.

    Raises:
        InputError: It is not there.
    """
    check_folder(root, "the folder of COCO 2014")
    for coco in (root, root / "MSCOCO14", root / "COCO2014"):
        if (coco / "annotations").is_dir():
            return coco
    raise InputError(
        f"{root} has no folder annotations, nor has MSCOCO14 or COCO2014 in it; expected COCO 2014 with "
        "annotations/instances_val2014.json and val2014/."
    )


def coco_files(pictures: Path, masks: Path, split: Split, name: str) -> tuple[Path, Path]:
    """The picture and the mask of a name."""
    return pictures / f"{split}2014" / f"{name}.jpg", masks / "annotations" / f"{split}2014" / f"{name}.png"


def prepared_coco(root: Path, split: Split) -> tuple[Path, Prepared]:
    """The folder of the masks of a split, and what was prepared there.

    Raises:
        InputError: The split is not prepared, or its masks have changed.
    """
    folder = root if read_prepared(root, DATASET) is not None else find_coco(root)
    prepared = read_prepared(folder, DATASET)
    if prepared is None or split not in prepared.splits:
        raise InputError(
            f"{folder} has no finished lists of {split}2014; run softmatch data prepare coco20i --root "
            f"{root} --split {split} first (with --{split}-list and a list of the public code, published "
            "draws are the published ones)."
        )
    check_current(prepared.splits[split], folder / "annotations" / f"{split}2014", DATASET)
    return folder, prepared


def build_coco_lists(root: Path, fold: int, split: Split) -> FoldLists:
    """The lists of one fold; see :func:`softmatch_jax.data.pascal_coco_lists.split_lists`.

    Raises:
        InputError: As :func:`prepared_coco`; or there is no such fold.
    """
    novel = novel_classes(fold)
    return split_lists(prepared_coco(root, split)[1].splits[split], novel, split, CLASSES)
