"""``softmatch data prepare coco20i``: class masks from COCO's annotations, and the counts of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.coco_instances import CLASSES, CocoPicture, read_instances
from softmatch_jax.data.coco_lists import COCO_CLASSES, DATASET, find_coco
from softmatch_jax.data.coco_masks import Overlap, Tally, paint_classes
from softmatch_jax.data.files import make_folder
from softmatch_jax.data.pascal_coco_counts import (
    Counts,
    MaskRecord,
    Prepared,
    Report,
    count_masks,
    no_report,
    read_names,
    read_prepared,
    record_of,
    write_prepared,
)
from softmatch_jax.data.pascal_coco_lists import Split
from softmatch_jax.imaging import class_palette, read_labels, write_indexed_mask


@dataclass(frozen=True, kw_only=True)
class PaintConfig:
    """How masks are made.

    Attributes:
        overlap: See :data:`softmatch_jax.data.coco_masks.Overlap`.
        overwrite: Paint masks that are there anew.
    """

    overlap: Overlap = "last"
    overwrite: bool = False


def prepare_coco(
    root: Path,
    output: Path | None = None,
    *,
    splits: Sequence[Split] = ("val",),
    config: PaintConfig = PaintConfig(),
    lists: Mapping[Split, Path] | None = None,
    report: Report = no_report,
) -> tuple[Path, dict[Split, Tally]]:
    """Paints the class masks of some splits, and counts their pixels.

    Masks that are there are kept, so that an interrupted call can be repeated. Where the annotations are not
    there but masks are, such as those that the published code links to, the masks are counted.

    Args:
        root: The data set; see :func:`softmatch_jax.data.coco_lists.find_coco`.
        output: Folder for masks and counts, made if needed; by default the data set's own. It can be given as
            the root from then on.
        splits: Which to prepare; others that were prepared before are kept.
        config: How masks are made.
        lists: For a split, a list of pictures such as one of the public code: only these are taken, in this
            order. By default all that have an annotation, by name.
        report: Told of the progress in each split.

    Returns:
        The folder that was written to, and for each split what was met.

    Raises:
        InputError: Files are missing or damaged, or cannot be written; or masks were painted otherwise.
    """
    coco = find_coco(root)
    folder = coco if output is None else make_folder(output)
    tallies: dict[Split, Tally] = {}
    for split in splits:
        names = read_names(lists[split]) if lists is not None and split in lists else None
        tallies[split] = tally = Tally()
        masks = folder / "annotations" / f"{split}2014"
        instances = coco / "annotations" / f"instances_{split}2014.json"
        before = _before(folder, coco, split, config)
        if instances.is_file() or not any(masks.glob("*.png")):
            classes, pictures = read_instances(instances)
            known = {picture.name: picture for picture in pictures if picture.instances}
            chosen = _there(coco, split, known, names, tally)
            # Written now, so that a second call knows how the first has painted.
            begun = replace(before, classes=classes, overlaps={**before.overlaps, split: config.overlap})
            write_prepared(folder, begun)
            counts = _paint(make_folder(masks), [known[name] for name in chosen], config, tally, report)
        else:
            begun = before
            chosen = _there(coco, split, sorted(path.stem for path in masks.glob("*.png")), names, tally)
            counts = count_masks(masks, chosen, CLASSES, report)
            tally.kept = len(chosen)
        write_prepared(folder, replace(begun, splits={**begun.splits, split: counts}))
    return folder, tallies


def _before(folder: Path, coco: Path, split: Split, config: PaintConfig) -> Prepared:
    """What was prepared before, without this split."""
    before = read_prepared(folder, DATASET)
    if before is None:
        return Prepared(dataset=DATASET, pictures=coco, classes=COCO_CLASSES, splits={}, overlaps={})
    painted = before.overlaps.get(split, config.overlap)
    if painted != config.overlap and not config.overwrite:
        raise InputError(
            f"The masks of {split}2014 in {folder} were painted with --overlap {painted}, not "
            f"{config.overlap}; give --overwrite to paint them anew, or another --output."
        )
    splits = {kept: counts for kept, counts in before.splits.items() if kept != split}
    return replace(before, pictures=coco, splits=splits)


def _there(
    coco: Path,
    split: Split,
    known: Sequence[str] | Mapping[str, CocoPicture],
    names: Sequence[str] | None,
    tally: Tally,
) -> list[str]:
    """Names of the known pictures that are in the folder, in the order of ``names``; counts those missing."""
    if names is None:
        names = sorted(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"Nothing is annotated in {len(unknown)} of {len(names)} listed pictures of {split}2014, first "
            f"{unknown[0]}; give a list of annotated pictures."
        )
    folder = coco / f"{split}2014"
    present = {path.stem for path in folder.glob("*.jpg")}
    chosen = [name for name in names if name in present]
    if not chosen:
        raise InputError(f"{folder} has none of {len(names)} annotated pictures; unpack them there.")
    tally.missing = len(names) - len(chosen)
    return chosen


def _paint(
    masks: Path, pictures: Sequence[CocoPicture], config: PaintConfig, tally: Tally, report: Report
) -> Counts:
    """Writes the masks that are not there, and counts all."""
    palette = class_palette(CLASSES)
    counts: dict[str, MaskRecord] = {}
    for done, picture in enumerate(pictures, 1):
        path = masks / f"{picture.name}.png"
        if path.is_file() and not config.overwrite:
            labels = read_labels(path)
            if labels.shape != picture.size:
                raise InputError(
                    f"{path} is {labels.shape[1]}x{labels.shape[0]} pixels but its picture is "
                    f"{picture.size[1]}x{picture.size[0]}; delete it, or give --overwrite."
                )
            tally.kept += 1
        else:
            labels = paint_classes(picture, config.overlap, tally)
            write_indexed_mask(path, labels, palette)
            tally.painted += 1
        counts[picture.name] = record_of(path, labels, CLASSES)
        report(done, len(pictures))
    return counts
