"""From drafts of classes to a segmentation: what is absent, which class has which pixels, and instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softmatch_jax._types import IndexedMask, Mask
from softmatch_jax.pipelines.config import DecisionConfig
from softmatch_jax.pipelines.merging import measure_instances, resolve_classes, split_groups, split_instances
from softmatch_jax.pipelines.proposing import Draft
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.pipelines.segmentation import ClassSegmentation
from softmatch_jax.prompting import unpool_map


def assemble(
    names: Sequence[str],
    drafts: Sequence[Draft],
    log_evidence: np.ndarray,
    likeness: np.ndarray,
    encoded: Encoded,
    decision: DecisionConfig,
) -> tuple[tuple[ClassSegmentation, ...], IndexedMask]:
    """Drops what is absent, lets classes compete for pixels, and separates instances.

    Args:
        names: Of the classes.
        drafts: One for each.
        log_evidence: ``[C]``, of the match maps.
        likeness: ``[C]``, how much what was found resembles the references.
        encoded: The target.
        decision: Bars.

    Returns:
        The classes, and ``uint8 [H, W]``: 0 is background and class ``i`` of the names is ``i + 1``.
    """
    reasons = [
        _absence(draft, float(alike), decision.min_resemblance, name)
        for name, draft, alike in zip(names, drafts, likeness, strict=True)
    ]
    empty = np.zeros(encoded.image_size, bool)
    masks = [
        draft.merged.mask if reason is None else empty for draft, reason in zip(drafts, reasons, strict=True)
    ]
    # One class has no rival; the maps of several are made as they are looked at.
    grid = encoded.features.grid
    maps = (unpool_map(draft.logits, grid) for draft in drafts)
    labels = resolve_classes(masks, maps) if len(masks) > 1 else masks[0].astype(np.uint8)
    classes = tuple(
        _class_segmentation(
            draft,
            labels == index,
            name=name,
            index=index,
            log_evidence=float(evidence),
            resemblance=float(alike),
            reason=reason,
            decision=decision,
        )
        for index, (name, draft, evidence, alike, reason) in enumerate(
            zip(names, drafts, log_evidence, likeness, reasons, strict=True), start=1
        )
    )
    for entry in classes:  # pieces too small to count go back to the background
        labels[(labels == entry.index) & ~entry.mask] = 0
    return classes, labels


def _class_segmentation(
    draft: Draft,
    pixels: Mask,
    *,
    name: str,
    index: int,
    log_evidence: float,
    resemblance: float,
    reason: str | None,
    decision: DecisionConfig,
) -> ClassSegmentation:
    """Separates the pixels a class has won into instances."""
    least = decision.min_area
    if decision.instances == "groups" and reason is None:
        groups = split_groups(np.where(pixels, draft.merged.pieces, 0))
        pieces, instances = measure_instances(groups, draft.probability, min_area=least)
    else:
        pieces, instances = split_instances(pixels, draft.probability, min_area=least)
    if reason is None and not pixels.any():
        reason = f"whatever looks like {name!r} looks more like another class"
    elif reason is None and not instances:
        reason = f"every piece of {name!r} is smaller than min_area={least:g} of the picture"
    return ClassSegmentation(
        name=name,
        index=index,
        mask=pieces > 0,
        instances=instances,
        instance_labels=pieces,
        match_map=draft.probability,
        confidence=draft.merged.confidence,
        log_evidence=log_evidence,
        resemblance=resemblance,
        points=draft.points,
        clusters=draft.clusters,
        proposals=draft.proposals,
        kept=draft.merged.kept,
        absent=reason is not None,
        reason=reason,
    )


def _absence(draft: Draft, likeness: float, least: float, name: str) -> str | None:
    """Why the class seems absent, or None."""
    if not len(draft.points):
        return f"no part of the target stands out as {name!r}"
    if draft.merged.reason is not None:
        return f"nothing is left of {name!r}: {draft.merged.reason}"
    if likeness < least:
        return (
            f"the best match resembles {name!r} by {likeness:.3f}, below decision.min_resemblance={least:g}"
        )
    return None
