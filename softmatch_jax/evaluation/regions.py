"""How well a mask generator finds a region from one prompt: a box, a point in its middle, or any point of it.

Prompts are made from the truth (``region_items``), and masks are compared with it at the size of the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

from softmatch_jax._types import Image
from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.intervals import Interval, bootstrap
from softmatch_jax.evaluation.pooling import EpisodeScore
from softmatch_jax.evaluation.region_items import PROMPT_KINDS, PromptKind, RegionItem
from softmatch_jax.evaluation.table import EpisodeTable
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.protocols import MaskGenerator
from softmatch_jax.prompting import Prompt

Predict: TypeAlias = Callable[[Image, Sequence[Prompt]], Proposals]
"""Answers prompts on a picture that have nothing to do with one another; any number of masks for each.

All prompts of a picture come in one call, boxes and points together, and their number varies.
"""


@dataclass(frozen=True, kw_only=True)
class RegionScore:
    """How a region was found from one prompt.

    Attributes:
        index: Of the region among those of all items.
        picture: Name of the item.
        region: Name of the region.
        prompt: What was given.
        answer: Pixels of the mask that the generator rates highest, the first of equals; without a mask,
            those of an empty one.
        best: Pixels of the mask with the highest IoU, as if somebody who knows the truth had picked it.
    """

    index: int
    picture: str
    region: str
    prompt: PromptKind
    answer: Counts
    best: Counts


def predictor(generator: MaskGenerator) -> Predict:
    """Makes a mask generator answer prompts that have nothing to do with one another.

    One that is not ``promptable`` takes all prompts of a call as evidence on one object, and is asked anew
    for each.
    """

    def predict(image: Image, prompts: Sequence[Prompt]) -> Proposals:
        embedding = generator.encode(image)
        if generator.promptable:
            return generator.decode(embedding, prompts)
        return _joined([generator.decode(embedding, [prompt]) for prompt in prompts])

    return predict


def mask_proposals(
    masks: Bool[np.ndarray, "n H W"], prompts: Sequence[int] | None = None, scores: Sequence[float] = ()
) -> Proposals:
    """Finished masks as proposals.

    Args:
        masks: At the size of the picture.
        prompts: Which prompt each answers; one after the other by default.
        scores: How highly each is rated; all alike by default.
    """
    size = (masks.shape[1], masks.shape[2])
    return Proposals(
        logits=np.where(masks, 1, -1).astype(np.float32),
        scores=np.array(scores, np.float32) if len(scores) else np.ones(len(masks), np.float32),
        stability=np.ones(len(masks), np.float32),
        prompts=np.array(range(len(masks)) if prompts is None else prompts, np.int32),
        image_size=size,
        content=size,
    )


def region_scores(
    predict: Predict, items: Iterable[RegionItem], kinds: Sequence[PromptKind] = PROMPT_KINDS
) -> list[RegionScore]:
    """Asks for every region from every kind of prompt; the only place where prompts and masks are scored.

    Args:
        predict: Asked once for each picture that has a region.
        items: The pictures.
        kinds: Of the prompts.

    Returns:
        The scores, in the order of items, regions and kinds.

    Raises:
        InputError: The answers are not of the picture's size.
    """
    scores: list[RegionScore] = []
    regions = 0
    for item in items:
        if len(item.masks) and kinds:
            scores += _scores(item, predict, kinds, regions)
        regions += len(item.masks)
    return scores


def region_table(scores: Iterable[RegionScore], kind: PromptKind, *, best: bool = False) -> EpisodeTable:
    """The scores of one kind of prompt as a table, for intervals and for comparisons of two generators.

    Args:
        scores: Of any kinds.
        kind: The one that is wanted.
        best: Take the best mask of each region instead of the generator's own answer.

    Raises:
        InputError: There is no such score.
    """
    return EpisodeTable.of(
        EpisodeScore(
            seed=0,
            index=score.index,
            class_name=kind,
            target=score.picture,
            counts=score.best if best else score.answer,
        )
        for score in scores
        if score.prompt == kind
    )


def region_iou(
    scores: Iterable[RegionScore], kind: PromptKind, *, best: bool = False, level: float = 0.95
) -> Interval:
    """Mean IoU over the regions with its bootstrap interval over pictures; see :func:`region_table`.

    Raises:
        InputError: There is no such score.
    """
    return bootstrap(region_table(scores, kind, best=best), level=level)["mean_iou"]


def _scores(item: RegionItem, predict: Predict, kinds: Sequence[PromptKind], first: int) -> list[RegionScore]:
    """The scores of one picture whose regions are counted from ``first``."""
    asked = list(itertools.product(range(len(item.masks)), kinds))
    prompts = {kind: item.prompts(kind) for kind in kinds}
    proposals = predict(item.image, [prompts[kind][region] for region, kind in asked])
    nothing = np.zeros((1, *item.image.shape[:2]), np.bool_)
    scores = []
    for place, (region, kind) in enumerate(asked):
        own = proposals[np.flatnonzero(proposals.prompts == place)]
        counts = [count(mask, item.masks[region]) for mask in (own.masks if len(own) else nothing)]
        score = RegionScore(
            index=first + region,
            picture=item.name,
            region=item.regions[region],
            prompt=kind,
            answer=counts[int(own.scores.argmax()) if len(own) else 0],
            best=max(counts, key=lambda found: found.iou),
        )
        scores.append(score)
    return scores


def _joined(parts: Sequence[Proposals]) -> Proposals:
    """Proposals for one prompt each, as those of one call."""
    masks = np.concatenate([part.masks for part in parts])
    prompts = [place for place, part in enumerate(parts) for _ in range(len(part))]
    return mask_proposals(masks, prompts, [float(score) for part in parts for score in part.scores])
