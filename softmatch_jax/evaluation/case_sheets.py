"""Contact sheets of the cases that an evaluation went best, middling and worst on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Mask
from softmatch_jax.evaluation.preparing import prepare
from softmatch_jax.evaluation.records import EpisodeRecord
from softmatch_jax.evaluation.run_file import SHEETS
from softmatch_jax.evaluation.running import EvaluationProtocol, Place, mask_file
from softmatch_jax.imaging import (
    Tile,
    class_palette,
    contact_sheet,
    fit_longest,
    overlay_labels,
    overlay_strokes,
    read_mask,
    resize_image,
    write_image,
)
from softmatch_jax.prompting import Annotation, seeds

_THUMBNAIL = 256
_TRUTH, _VOID, _FOUND = 1, 2, 3
_MOST_REFERENCES = 2


def choose_cases(ranked: Sequence[Place], count: int) -> dict[str, list[Place]]:
    """The best, the middle and the worst places of a ranking, for each sheet.

    Args:
        ranked: Places, best first.
        count: Most cases on a sheet.
    """
    total = len(ranked)
    middle = max(0, (total - count) // 2)
    best, median, worst = SHEETS
    return {
        best: list(ranked[:count]),
        median: list(ranked[middle : middle + count]),
        worst: list(ranked[::-1][:count]),
    }


def write_sheets(
    root: Path,
    protocol: EvaluationProtocol,
    records: Sequence[EpisodeRecord],
    ious: Sequence[float],
    *,
    count: int = 6,
) -> None:
    """Draws the three sheets: a row for each case with its references, the truth, and what was found.

    Args:
        root: The run's folder, whose masks are shown.
        protocol: What was asked.
        records: Those of the episodes to choose among.
        ious: The IoU of each.
        count: Most cases on a sheet.

    Raises:
        InputError: A sheet cannot be written. A case whose files have gone is left out.
    """
    order = sorted(range(len(records)), key=lambda i: (-ious[i], records[i].place))
    known = {records[i].place: (records[i], ious[i]) for i in order}
    for name, places in choose_cases([records[i].place for i in order], count).items():
        rows = [row for place in places if (row := _row(root, protocol, *known[place]))]
        if rows:
            write_image(root / name, contact_sheet(rows, thumbnail=_THUMBNAIL))
        else:
            (root / name).unlink(missing_ok=True)


def _row(root: Path, protocol: EvaluationProtocol, record: EpisodeRecord, iou: float) -> list[Tile]:
    """The pictures of one case; none where its files have gone, or are others by now."""
    try:
        seed, index = record.place
        case = prepare(protocol.episodes, protocol.annotate, raster=protocol.raster, seed=seed, index=index)
        found = _fitting(read_mask(mask_file(root, record.place)), case.target.image)
    except InputError:
        return []
    shown = case.references[:_MOST_REFERENCES]
    more = f", {len(shown)} of {len(case.references)}" if len(shown) < len(case.references) else ""
    tiles = [
        Tile(_annotated(image, annotation), f"{record.class_name} (reference{more})")
        for image, annotation in shown
    ]
    if not tiles:
        silent = case.episode.references[0].read().image
        tiles = [Tile(_small(silent), f"{record.class_name} (reference, marks nothing)")]
    truth, image = case.target.truth, case.target.image
    wanted = truth.mask.astype(np.uint8) * np.uint8(_TRUTH)
    if truth.void is not None:
        wanted[truth.void] = _VOID
    verdict = "absent" if record.absent else f"IoU {iou:.2f}"
    tiles.append(Tile(_tinted(image, wanted), f"{record.target}: truth"))
    where = f"seed {seed}, index {index}"
    tiles.append(Tile(_tinted(image, found * np.uint8(_FOUND)), f"{verdict} ({where})"))
    return tiles


def _annotated(image: Image, annotation: Annotation) -> Image:
    marked = seeds(annotation, (image.shape[0], image.shape[1]))
    if marked.exact or marked.region is not None:
        inside = marked.foreground if marked.exact else marked.region
        assert inside is not None
        return _tinted(image, inside.astype(np.uint8) * np.uint8(_TRUTH))
    return _small(overlay_strokes(image, marked.foreground, marked.background, class_palette(1)[1]))


def _fitting(found: Mask, image: Image) -> np.ndarray:
    if found.shape != image.shape[:2]:
        raise InputError(f"the mask is {found.shape} and its picture {image.shape[:2]}; expected one size.")
    return found.astype(np.uint8)


def _tinted(image: Image, labels: np.ndarray) -> Image:
    return _small(overlay_labels(image, labels, class_palette(3)))


def _small(image: Image) -> Image:
    return resize_image(image, fit_longest((image.shape[0], image.shape[1]), _THUMBNAIL))
