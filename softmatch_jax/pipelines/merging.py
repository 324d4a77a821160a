"""From proposals to one mask per class, its instances, and one indexed mask for all classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int32

from softmatch_jax._types import IndexedMask, Map, Mask
from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.config import DecisionConfig
from softmatch_jax.pipelines.grouping import group_by_graph, group_by_overlap
from softmatch_jax.pipelines.scoring import (
    MapScores,
    bars_of_map,
    best_of_each_prompt,
    confidence_raster,
    discarded,
    map_scores,
)
from softmatch_jax.pipelines.segmentation import Instance
from softmatch_jax.prompting import Prompt, window_about

PART = 0.2
"""Least size of a part that is an object of its own, in sizes of its group's largest part."""


@dataclass(frozen=True, eq=False)
class Merged:
    """What is left of the proposals of one class.

    Attributes:
        kept: Indices of the proposals that stayed, those of one object together and the best object first.
        groups: The objects, as logits on the raster of the proposals.
        proposals: The proposals that stayed.
        confidence: ``float32 [H, W]`` in ``[0, 1]``.
        reason: Why nothing stayed, or None.
    """

    kept: np.ndarray
    groups: Float[np.ndarray, "k h w"]
    proposals: Proposals
    confidence: Map
    reason: str | None = None

    @cached_property
    def mask(self) -> Mask:
        """Union of the objects, at the size of the picture."""
        if not len(self.groups):
            return np.zeros(self.proposals.image_size, bool)
        return self.proposals.enlarge(self.groups.max(axis=0)) > self.proposals.threshold

    @cached_property
    def pieces(self) -> Int32[np.ndarray, "H W"]:
        """Which object each pixel of the mask belongs to, from 1: the one that claims it most."""
        pieces = np.zeros(self.proposals.image_size, np.int32)
        best = np.full(pieces.shape, -np.inf, np.float32)
        for number, logits in enumerate(self.groups, start=1):
            large = self.proposals.enlarge(logits)
            wins = large > best
            pieces[wins], best[wins] = number, large[wins]
        return np.where(self.mask, pieces, 0)


def merge(
    proposals: Proposals, prompts: Sequence[Prompt], probability: Map, decision: DecisionConfig
) -> Merged:
    """Scores proposals against the map, discards the poor ones and puts those of one object together.

    Args:
        proposals: All that were decoded for one class.
        prompts: What they answer.
        probability: ``[H, W]``, the match map.
        decision: Bars and grouping.
    """
    if not len(proposals):
        return _nothing(proposals, "no proposal was decoded")
    raster = proposals.reduce(probability)
    masks = proposals.small_masks
    scores = map_scores(masks, raster)
    kept = best_of_each_prompt(proposals, scores)
    by_graph = decision.grouping == "graph"
    below = discarded(proposals[kept], _rows(scores, kept), decision, by_map=not by_graph)
    good = kept[~np.any(list(below.values()), axis=0)]
    good = good[masks[good].any(axis=(1, 2))]
    if not len(good):
        return _nothing(proposals, _blame(below, len(kept)))
    worth = np.clip(proposals.scores[good], 0, 1) * scores.evidence[good]
    if by_graph:
        groups = group_by_graph(proposals[good], masks[good], prompts)
        names, below = _judged(groups, masks[good], raster, decision)
        passed = np.isin(groups, names[~np.any(list(below.values()), axis=0)])
        if not passed.any():
            return _nothing(proposals, _blame(below, len(names), "groups of proposals"))
        good, worth, groups = good[passed], worth[passed], groups[passed]
    else:
        groups = group_by_overlap(masks[good], worth, max_overlap=decision.max_overlap)
        good, worth, groups = good[groups >= 0], worth[groups >= 0], groups[groups >= 0]
    order = _best_first(groups, worth)
    good, worth, groups = good[order], worth[order], groups[order]
    united = [proposals.logits[good[groups == name]].max(axis=0) for name in dict.fromkeys(groups)]
    stayed = proposals[good]
    confidence = proposals.enlarge(confidence_raster(stayed, worth))
    return Merged(good, np.stack(united), stayed, confidence)


def _nothing(proposals: Proposals, reason: str) -> Merged:
    empty = proposals[:0]
    return Merged(np.zeros(0, int), empty.logits, empty, np.zeros(proposals.image_size, np.float32), reason)


def _rows(scores: MapScores, chosen: np.ndarray) -> MapScores:
    return MapScores(*(values[chosen] for values in scores))


def _blame(below: dict[str, np.ndarray], count: int, noun: str = "proposals") -> str:
    """Which bar kept most proposals out."""
    name = max(below, key=lambda bar: int(below[bar].sum()))
    fallen = int(below[name].sum())
    if not fallen:
        return f"all {count} {noun} are empty"
    return f"{fallen} of {count} {noun} are below decision.{name}"


def _judged(
    groups: np.ndarray, masks: np.ndarray, raster: np.ndarray, decision: DecisionConfig
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The groups, and for each bar of the map which of them have a union below it."""
    names = np.unique(groups)
    unions = np.stack([masks[groups == name].any(axis=0) for name in names])
    bars = bars_of_map(map_scores(unions, raster))
    return names, {name: value < getattr(decision, name) for name, value in bars.items()}


def _best_first(groups: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """An order in which groups follow by their best member, and members by their own worth."""
    best = np.array([worth[groups == name].max() for name in groups])
    return np.lexsort((-worth, groups, -best))


def resolve_classes(masks: Sequence[Mask], maps: Iterable[Map]) -> IndexedMask:
    """Gives each pixel to the class of the highest map among those whose mask holds it.

    Args:
        masks: One ``bool [H, W]`` per class.
        maps: One map ``[H, W]`` per class: logits rather than probabilities, which cannot tell apart what is
            all but certain.

    Returns:
        ``uint8 [H, W]``; 0 is background and class ``i`` of the sequence is ``i + 1``. A tie goes to the
        earlier class.
    """
    labels = np.zeros(masks[0].shape, np.uint8)
    best = np.full(masks[0].shape, -np.inf, np.float32)
    for index, (mask, values) in enumerate(zip(masks, maps, strict=True), start=1):
        wins = mask & (values > best)
        labels[wins] = index
        best[wins] = values[wins]
    return labels


def split_instances(
    mask: Mask, probability: Map, *, min_area: float
) -> tuple[Int32[np.ndarray, "H W"], tuple[Instance, ...]]:
    """Separates a mask into its connected components (8-neighbours), best first.

    Args:
        mask: ``bool [H, W]``.
        probability: ``[H, W]``, averaged over each component for its score.
        min_area: Components smaller than this fraction of the picture are dropped.

    Returns:
        Labels ``int32 [H, W]``, 0 where there is no instance, and the instances.
    """
    window, pieces = window_about(mask), np.zeros(mask.shape, np.int32)
    if mask[window].size:
        pieces[window] = cv2.connectedComponents(mask[window].astype(np.uint8), connectivity=8)[1]
    return measure_instances(pieces, probability, min_area=min_area)


def split_groups(pieces: Int32[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Parts the objects of a group that lie apart: one prompt may have had points on several.

    A connected part that has at least ``PART`` of the area of its group's largest is an object of its own;
    smaller ones, as masks have about their rims, stay with the largest.

    Args:
        pieces: ``int32 [H, W]``, the group of each pixel from 1, 0 where there is none.
    """
    result, count = pieces.copy(), int(pieces.max(initial=0))
    for group, window in enumerate(scipy.ndimage.find_objects(pieces), start=1):
        if window is None:
            continue
        own = (pieces[window] == group).astype(np.uint8)
        total, parts, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0
        for part in np.flatnonzero(areas >= PART * areas.max()) if total > 2 else ():
            if part != np.argmax(areas):
                count += 1
                result[window][parts == part] = count
    return result


def measure_instances(
    pieces: Int32[np.ndarray, "H W"], probability: Map, *, min_area: float
) -> tuple[Int32[np.ndarray, "H W"], tuple[Instance, ...]]:
    """Measures labelled pieces, drops small ones and numbers the rest by score, best first.

    Args:
        pieces: ``int32 [H, W]``, 0 where there is none.
        probability: ``[H, W]``, averaged over each piece for its score.
        min_area: Pieces smaller than this fraction of the picture are dropped.
    """
    rows, columns = about = window_about(pieces)
    labels, inner = np.zeros(pieces.shape, np.int32), pieces[about]
    if not inner.size:
        return labels, ()
    windows = scipy.ndimage.find_objects(inner)
    least = max(min_area * pieces.size, 1)
    found = []
    for piece, window in enumerate(windows, start=1):
        # Most specks are told by their windows, which need not be looked into.
        if window is None or np.prod([part.stop - part.start for part in window]) < least:
            continue
        own = inner[window] == piece
        if np.count_nonzero(own) >= least:
            place = _moved(window, rows.start, columns.start)
            found.append((_measured(own, place, probability[place]), piece))
    found.sort(key=lambda pair: (-pair[0].score, pair[1]))
    names = np.zeros(len(windows) + 1, np.int32)
    for rank, (_, piece) in enumerate(found, start=1):
        names[piece] = rank
    labels[about] = names[inner]
    return labels, tuple(instance for instance, _ in found)


def _moved(window: tuple[slice, slice], down: int, right: int) -> tuple[slice, slice]:
    rows, columns = window
    return slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)


def _measured(piece: Mask, window: tuple[slice, slice], probability: Map) -> Instance:
    """Measures a piece that fills its window of the picture."""
    rows, columns = window
    along_x, along_y = piece.sum(axis=0), piece.sum(axis=1)
    area = int(along_x.sum())
    x, y = (float(n @ (np.arange(len(n)) + 0.5)) / area for n in (along_x, along_y))
    return Instance(
        score=float(probability[piece].mean(dtype=np.float64)),
        area=area,
        box=(columns.start, rows.start, columns.stop, rows.stop),
        centroid=(x + columns.start, y + rows.start),
    )
