"""Which layout a user's folder has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.folder_coco import find_coco
from softmatch_jax.data.folder_files import FolderFiles, named
from softmatch_jax.data.folder_labelme import find_labelme
from softmatch_jax.data.folder_labels import NAME_FILES
from softmatch_jax.data.folder_pairing import Pair, find_masks, find_pairs
from softmatch_jax.data.folder_yolo import find_yolo
from softmatch_jax.imaging import read_labels

Layout: TypeAlias = Literal["pairs", "indexed", "coco", "labelme", "yolo"]
"""How a folder holds its masks: ``pairs`` of pictures and binary masks, ``indexed`` maps of classes, or the
outlines that COCO, labelme or YOLO write."""

LAYOUTS: tuple[Layout, ...] = ("pairs", "indexed", "coco", "labelme", "yolo")
"""All of them."""

_LOOKED_AT = 32  # masks, spread over the folder
_MOST_CLASSES = 64  # in a folder or a picture whose kind is not given: beyond it, grey levels are soft edges


def recognise(files: FolderFiles, *, indexed: bool, threshold: bool) -> Layout:
    """Finds the only layout that fits.

    Args:
        files: The folder.
        indexed: Values were named or declared void, so that masks can only be maps of classes.
        threshold: A threshold was given, so that masks can only be binary.

    Raises:
        InputError: None fits, or several do.
    """
    found: list[tuple[Layout, str]] = []
    if coco := find_coco(files):
        found.append(("coco", f"JSON files of COCO, {named(coco)}"))
    if labelme := find_labelme(files):
        found.append(("labelme", f"JSON files of labelme, {named(labelme)}"))
    if labels := find_yolo(files):
        found.append(("yolo", f"text files of labels, {named(labels)}"))
    try:
        masks = find_masks(files)
    except InputError:
        if not found:
            raise
        masks = ()
    if masks:
        found.append(("pairs", f"masks, {named(masks)}"))
    if len(found) > 1:
        listed = "; ".join(f"{what} ({layout})" for layout, what in found)
        raise InputError(f"{files.root} fits several layouts: {listed}; choose one (layout, --layout).")
    if not found:
        raise InputError(
            f"{files.root} has pictures, {named(files.images)}, but no masks were found; expected x.png "
            "beside x.jpg, x_mask.png beside x.png, masks/ beside images/, a JSON file of COCO, x.json of "
            "labelme, or labels/x.txt of YOLO."
        )
    return _kind(files, find_pairs(files), indexed, threshold) if masks else found[0][0]


def _kind(files: FolderFiles, pairs: Sequence[Pair], indexed: bool, threshold: bool) -> Layout:
    """Whether masks are binary or maps of classes."""
    if indexed and threshold:
        raise InputError("threshold is for binary masks, labels and void for maps of classes; give one kind.")
    if indexed or threshold:
        return "indexed" if indexed else "pairs"
    chosen = pairs[:: max(1, len(pairs) // _LOOKED_AT)]
    values = [_values(files, pair) for pair in chosen]
    binary = max(map(len, values)) <= 2
    in_classes = any(pair.folders for pair in pairs)
    if any((files.root / name).is_file() for name in NAME_FILES) and not (binary and in_classes):
        return "indexed"
    if (binary and _agree(chosen, values)) or max(map(len, values)) > _MOST_CLASSES:
        return "pairs"  # where edges are soft, reading asks for the threshold
    if not binary and not in_classes and max(max(v - {255}, default=0) for v in values) < _MOST_CLASSES:
        return "indexed"
    example, held = max(zip(chosen, values, strict=True), key=lambda item: len(item[1]))
    raise InputError(
        f"{files.root} could have binary masks or maps of classes: {example.mask} holds {len(held)} values, "
        f"up to {max(held)}, and others may hold different ones; say which (layout indexed, or layout pairs, "
        "with a threshold such as --mask-threshold 128 where masks have more than two values)."
    )


def _agree(pairs: Sequence[Pair], values: Sequence[set[int]]) -> bool:
    """Whether the object has one value in each folder; some tools write 1 for 255."""
    tops: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for pair, held in zip(pairs, values, strict=True):
        tops[pair.folders].add(max(held))
    return all(len(top - {0}) <= 1 or top <= {0, 1, 255} for top in tops.values())


def _values(files: FolderFiles, pair: Pair) -> set[int]:
    """The values of a mask; of one that cannot be a map of classes, just two."""
    try:
        return set(np.unique(read_labels(files.root / pair.mask)).tolist())
    except InputError:
        return {0, 255}
