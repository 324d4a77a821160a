"""How well a mask generator finds a region from one prompt: a box, a point in its middle, or any point of it.

Prompts are made from the truth, and masks are compared with it at the size of the picture. Everything drawn
is a function of the seed and the name of the picture alone, so fewer pictures mean the same questions, only
fewer of them.

The drawing of :func:`draw_regions`: of the regions that cover 1 to 60 % of the picture, up to four, each set
of them as likely as any other.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer

from softmatch_jax._checks import InputError, check_image, check_mask, check_rank
from softmatch_jax._types import Image, Mask
from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.intervals import Interval, bootstrap
from softmatch_jax.evaluation.pooling import EpisodeScore
from softmatch_jax.evaluation.table import EpisodeTable
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.protocols import MaskGenerator
from softmatch_jax.prompting import Prompt

PromptKind: TypeAlias = Literal["box", "centre", "point"]
"""The tight box, the place deepest inside the region, or a pixel of it with all as likely."""

PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

Predict: TypeAlias = Callable[[Image, Sequence[Prompt]], Proposals]
"""Answers prompts on a picture that have nothing to do with one another; any number of masks for each.

All prompts of a picture come in one call, boxes and points together, and their number varies.
"""

_REGIONS, _POINTS = 0, 1  # streams of random numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionItem:
    """A picture and regions of it that are asked for one by one.

    Attributes:
        name: Of the picture, unique among the items.
        image: ``uint8 [H, W, 3]``.
        regions: Names of the ``n`` regions.
        masks: ``bool [n, H, W]``, none of them empty.
        boxes: ``float32 [n, 4]``, ``(x0, y0, x1, y1)`` along the outer edges of the outermost pixels.
        centres: ``float32 [n, 2]``, the pixel that is farthest from all that is not the region, beyond the
            picture included; of equals the first in reading order.
        points: ``float32 [n, 2]``, a random pixel of the region.
    """

    name: str
    image: Image
    regions: tuple[str, ...]
    masks: Bool[np.ndarray, "n H W"]
    boxes: Float[np.ndarray, "n 4"]
    centres: Float[np.ndarray, "n 2"]
    points: Float[np.ndarray, "n 2"]

    def prompts(self, kind: PromptKind) -> tuple[Prompt, ...]:
        """A prompt for each region."""
        if kind == "box":
            none, of_none = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
            return tuple(Prompt(none, of_none, box=tuple(box)) for box in self.boxes.tolist())
        places = {"centre": self.centres, "point": self.points}[kind]
        return tuple(Prompt(xy[None], np.ones(1, np.bool_)) for xy in places)


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


def region_item(
    name: str, image: Image, masks: Sequence[Mask], *, regions: Sequence[str] | None = None, seed: int = 0
) -> RegionItem:
    """Makes the prompts for some regions of a picture.

    Args:
        name: Of the picture.
        image: ``uint8 [H, W, 3]``.
        masks: ``bool [H, W]`` each; may be none at all.
        regions: Their names; their numbers by default.
        seed: Of the random pixel.

    Raises:
        InputError: A mask is empty or does not fit the picture, or there is not a name for each.
    """
    check_image(name, image)
    names = tuple(map(str, range(len(masks)))) if regions is None else tuple(regions)
    if len(names) != len(masks):
        raise InputError(f"{name} has {len(masks)} masks but {len(names)} names; expected one for each.")
    size = (image.shape[0], image.shape[1])
    for region, mask in zip(names, masks, strict=True):
        check_mask(f"{region} of {name}", mask, size)
        if not mask.any():
            raise InputError(f"{region} of {name} is empty; expected at least one pixel (leave it out).")
    rng = _generator(seed, name, _POINTS)
    return RegionItem(
        name=name,
        image=image,
        regions=names,
        masks=np.array(masks, np.bool_).reshape(-1, *size),
        boxes=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        centres=np.array([_centre(mask) for mask in masks], np.float32).reshape(-1, 2),
        points=np.array([_any_pixel(mask, rng) for mask in masks], np.float32).reshape(-1, 2),
    )


def draw_regions(
    name: str,
    image: Image,
    labels: Integer[np.ndarray, "H W"],
    *,
    area: tuple[float, float] = (0.01, 0.6),
    most: int = 4,
    seed: int = 0,
) -> RegionItem:
    """Makes an item of a picture that somebody cut into regions.

    Args:
        name: Of the picture.
        image: ``uint8 [H, W, 3]``.
        labels: The number of the region of every pixel, 0 where there is none.
        area: Least and greatest size of a region, as fractions of the picture, both allowed.
        most: How many of them are drawn, at most; without repetition, and in the order of their numbers.
        seed: Of the draw and of the random pixels.

    Raises:
        InputError: The map is not one of whole numbers of the picture's size, or the bounds are no fractions.
    """
    check_image(name, image)
    check_rank(f"the regions of {name}", labels, 2, "[H, W]")
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"The regions of {name} are {labels.dtype} {list(labels.shape)}; expected whole numbers from 0, "
            f"{list(image.shape[:2])} as the picture."
        )
    low, high = area
    if not 0 <= low <= high <= 1 or most < 1:
        raise InputError(
            f"area is {area} and most {most}; expected fractions from 0 to 1, in order, and 1 or more."
        )
    shares = np.bincount(labels.ravel()) / labels.size
    shares[0] = 0  # no region
    numbers = np.flatnonzero((shares > 0) & (shares >= low) & (shares <= high))
    numbers = np.sort(_generator(seed, name, _REGIONS).permutation(numbers)[:most])
    masks = [labels == number for number in numbers]
    return region_item(name, image, masks, regions=list(map(str, numbers)), seed=seed)


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


def _box(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _centre(mask: Mask) -> tuple[float, float]:
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), mask.shape[1])
    return column + 0.5, row + 0.5


def _any_pixel(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    row, column = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return column + 0.5, row + 0.5


def _generator(seed: int, name: str, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape")), stream])
