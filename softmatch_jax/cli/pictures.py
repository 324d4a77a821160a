"""The pictures of a run: mask, overlay and maps of each target, and the contact sheet of all.

The sheet is drawn from the files, so that nothing of a target is kept in memory and a resumed run
draws the same sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from softmatch_jax._types import Image
from softmatch_jax.cli.layout import SHEET, TargetFiles
from softmatch_jax.cli.records import Record, class_names
from softmatch_jax.cli.references import LoadedReference
from softmatch_jax.imaging import (
    Tile,
    class_palette,
    contact_sheet,
    fit_longest,
    heat_map,
    overlay_labels,
    overlay_points,
    overlay_strokes,
    overlay_uncertainty,
    read_image,
    resize_image,
    write_image,
    write_indexed_mask,
    write_map,
)
from softmatch_jax.pipelines import Segmentation

MOST_TARGETS = 24
"""Targets on the contact sheet."""

_MOST_MAPS = 4
_MOST_POINTS = 24  # of each class; more would hide the object
_COLUMNS = 6
_LONGEST_JPEG = 65_500  # pixels; what libjpeg can write
_THUMBNAIL = 320


def write_pictures(root: Path, files: TargetFiles, image: Image, segmentation: Segmentation) -> None:
    """Writes mask, overlay and maps of one target, those that its files have.

    Raises:
        InputError: A file cannot be written.
    """
    palette = class_palette(len(segmentation.classes))
    write_indexed_mask(root / files.mask, segmentation.labels, palette)
    overlay = overlay_labels(image, segmentation.labels, palette)
    unsure = [found.uncertainty for found in segmentation.classes if found.uncertainty is not None]
    if unsure:
        overlay = overlay_uncertainty(overlay, np.max(unsure, axis=0))
    size = fit_longest(segmentation.image_size, _LONGEST_JPEG, enlarge=False)
    write_image(root / files.overlay, resize_image(overlay, size) if size != overlay.shape[:2] else overlay)
    for found, file in zip(segmentation.classes, files.maps, strict=True):
        write_map(root / file, found.match_map)
    for found, file in zip(segmentation.classes, files.confidence, strict=bool(files.confidence)):
        write_map(root / file, found.confidence)
    for found, file in zip(segmentation.classes, files.uncertainty, strict=bool(files.uncertainty)):
        # An encoder without a distribution is sure of everything.
        write_map(
            root / file, np.zeros_like(found.confidence) if found.uncertainty is None else found.uncertainty
        )


def reference_tiles(references: Sequence[LoadedReference]) -> list[list[Tile]]:
    """For each reference its annotation and its mask, as thumbnails."""
    names = class_names(references)
    palette = class_palette(len(names))
    rows = []
    for loaded in references:
        image, one = loaded.origin.image, loaded.reference
        index = names.index(one.class_name) + 1
        marked = one.seeds
        if marked.exact:
            annotated = image
        elif marked.region is not None:
            annotated = overlay_labels(image, marked.region.astype(np.uint8) * index, palette, alpha=0)
        else:
            annotated = overlay_strokes(image, marked.foreground, marked.background, palette[index])
        labels = one.mask.astype(np.uint8) * np.uint8(index)
        name = loaded.origin.path.name
        told = marked.foreground if marked.region is None else marked.region
        grown = "mask" if marked.exact else f"mask grown from {loaded.origin.kind}"
        if not marked.exact and np.array_equal(one.mask, told):
            grown = loaded.origin.kind
        rows.append(
            [
                Tile(_small(annotated), f"{name} (reference)"),
                Tile(_small(overlay_labels(image, labels, palette)), f"{one.class_name}: {grown}"),
            ]
        )
    return rows


def write_sheet(root: Path, references: Sequence[Sequence[Tile]], records: Sequence[Record]) -> None:
    """Draws the contact sheet: references first, then each target with its points and its maps.

    Args:
        root: The output folder.
        references: From :func:`reference_tiles`.
        records: Of the finished targets; the first of them are shown.

    Raises:
        InputError: A file cannot be read or written.
    """
    targets = [_target_tiles(root, record) for record in records[:MOST_TARGETS]]
    # Few targets stand one below the other; many stand side by side, and the references with them.
    side_by_side = len(targets) > _COLUMNS // 2
    rows = [
        row for groups in (references, targets) for row in _packed(groups, _COLUMNS if side_by_side else 1)
    ]
    write_image(root / SHEET, contact_sheet(rows, thumbnail=_THUMBNAIL))


def _target_tiles(root: Path, record: Record) -> list[Tile]:
    entry = record.entry
    classes = entry["classes"]
    palette = class_palette(len(classes))
    overlay = read_image(root / entry["overlay"], max_pixels=_no_limit(entry))
    small = _small(overlay)
    scale = small.shape[1] / overlay.shape[1]
    for index, points in enumerate(record.points, start=1):
        if classes[index - 1]["absent"]:
            continue
        xy = np.asarray(points[:_MOST_POINTS], np.float32).reshape(-1, 3)[:, :2] * scale
        small = overlay_points(small, xy, None, palette[[0, index]])
    tiles = [Tile(small, Path(record.files()[0]).stem)]
    for found in classes[:_MOST_MAPS]:
        values = _small(read_image(root / found["map"], max_pixels=_no_limit(entry)))[..., 0]
        verdict = (
            "absent" if found["absent"] else f"score {found['score']:.2f}, {len(found['instances'])} found"
        )
        if "disagreement" in found:
            verdict += f", disagreement {found['disagreement']:.2f}"
        tiles.append(Tile(_colours()[values], f"{found['name']}: {verdict}"))
    return tiles


def _packed(groups: Sequence[Sequence[Tile]], columns: int) -> list[list[Tile]]:
    """Rows of as many groups as fit the columns, at least one."""
    per_row = max(1, columns // max(map(len, groups), default=1))
    return [
        [tile for group in groups[start : start + per_row] for tile in group]
        for start in range(0, len(groups), per_row)
    ]


def _colours() -> Any:
    """Colours of the probabilities 0 to 1 in 256 steps: the same in every map, unlike a heat map's own."""
    return heat_map(np.linspace(0, 1, 256, dtype=np.float32)[None])[0]


def _small(image: Image) -> Image:
    return resize_image(image, fit_longest((image.shape[0], image.shape[1]), _THUMBNAIL))


def _no_limit(entry: dict[str, Any]) -> int:
    """The limit is for what users bring; these files are our own, of the target's size."""
    width, height = entry["size"]
    return int(width * height)
