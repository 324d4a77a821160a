"""From scribbles to a reference mask by prompts alone, with corrections (Softmatcher §3, step 1).

Strokes give points; SAM answers; where its mask contradicts the strokes a point is added, the last
answer goes along as the mask prompt, and SAM is asked again, as a person would click.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from softmatch_jax._types import Mask
from softmatch_jax.models import MaskGenerator, Proposals
from softmatch_jax.pipelines.config import CompletionConfig
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.prompting import Prompt, Seeds, bounding_box, point_radius, window_about

GOOD_ENOUGH = 0.98
"""Agreement with the strokes at which nothing is left to correct: their rims end within a cell."""

KEPT = 0.8
"""Least share of every single stroke, which the length of the others must not hide."""

CANDIDATES = 1 << 15
"""Most pixels that points are chosen from; a painted area has millions."""

XY = Float[np.ndarray, "n 2"]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A mask on the raster, with how well it keeps to the strokes."""

    proposals: Proposals
    index: int
    agreement: float
    least: float
    missed: Mask
    spilled: Mask

    @property
    def settled(self) -> bool:
        """Whether nothing is left to correct."""
        return self.agreement >= GOOD_ENOUGH and self.least >= KEPT

    @property
    def rank(self) -> tuple[float, float]:
        """Agreement with the strokes first, the model's own estimate second."""
        return round(self.agreement, 3), float(self.proposals.scores[self.index])


def scribble_mask(
    encoded: Encoded, marked: Seeds, generator: MaskGenerator, config: CompletionConfig
) -> Mask:
    """The object that strokes, points or a box mark.

    Args:
        encoded: The encoded picture.
        marked: Seeds that are not exact.
        generator: One that takes points.
        config: How many points and corrections.

    Returns:
        ``bool [H, W]``: the mask that agrees best with the strokes, which always win in the end. May be
        full, or empty where the generator finds nothing; the caller decides what to make of that.
    """
    prompt, strokes = _first_prompt(marked, config), _Strokes(marked)
    best = _ask(encoded, prompt, strokes, generator)
    if best is None:
        return np.zeros(encoded.image_size, bool)
    for _ in range(config.rounds):
        if best.settled:
            break
        prompt = _corrected(prompt, _correction(best), best)
        answer = _ask(encoded, prompt, strokes, generator)
        # A correction that is not followed has had its chance; the next would be a guess on top of it.
        if answer is None or answer.rank <= best.rank:
            break
        best = answer
    made: Mask = best.proposals[[best.index]].masks[0]
    return (made | marked.foreground) & ~_drawn_background(marked)


def _drawn_background(marked: Seeds) -> Mask:
    """What was marked as background; beyond a box everything is, which the box says already."""
    return marked.background if marked.region is None else marked.background & marked.region


def _first_prompt(marked: Seeds, config: CompletionConfig) -> Prompt:
    box = None if marked.region is None else bounding_box(marked.region)
    # A click is drawn as a disc, and is one point all the same.
    apart = 2 * point_radius(marked.foreground.shape) + 1
    on = spread_points(marked.foreground, config.points, apart=apart)
    off = spread_points(_drawn_background(marked), config.points, apart=apart)
    positive = np.repeat([True, False], [len(on), len(off)])
    return Prompt(np.concatenate([on, off]).astype(np.float32), positive, box)


def spread_points(pixels: Mask, count: int, *, apart: float = 1.0) -> XY:
    """At most ``count`` pixel centres ``(x, y)`` of a mask, far from one another.

    Greedy farthest points, beginning with the one most within the mask, each moved from the rim to the
    middle of its stroke; strokes that were drawn over each other do not get more of them than others.

    Args:
        pixels: The mask.
        count: Most points.
        apart: Pixels nearer than this to a point get none of their own.
    """
    # Strokes are small in large pictures, so only the box about them is looked at.
    window = window_about(pixels)
    rows, columns = np.nonzero(pixels[window])
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    step = -(-len(rows) // CANDIDATES)
    rows, columns = window[0].start + rows[::step], window[1].start + columns[::step]
    depths = cv2.distanceTransform(np.pad(pixels, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    depth, xy = depths[rows, columns], np.stack([columns + 0.5, rows + 0.5], axis=1)
    chosen = [int(np.argmax(depth))]
    nearest = np.full(len(xy), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((xy - xy[chosen[-1]]) ** 2).sum(axis=1))
        farthest = int(np.argmax(nearest))
        if nearest[farthest] < apart**2:
            break
        about = ((xy - xy[farthest]) ** 2).sum(axis=1) <= (apart / 2) ** 2
        chosen.append(int(np.argmax(np.where(about, depth, 0))))
    return xy[chosen].astype(np.float32)


class _Strokes:
    """What was marked, on the raster of the proposals; brought there once."""

    def __init__(self, marked: Seeds) -> None:
        self._marked = marked
        self._on_raster: tuple[np.ndarray, np.ndarray] | None = None

    def on_raster(self, proposals: Proposals) -> tuple[np.ndarray, np.ndarray]:
        """How much of each cell strokes on and off the object cover."""
        if self._on_raster is None:
            marked = self._marked
            # What ends in a cell whose centre is beyond the picture is on no mask of the raster.
            on, off = (
                np.where(proposals.inside, proposals.reduce(pixels.astype(np.float32)), 0)
                for pixels in (marked.foreground, _drawn_background(marked))
            )
            # A cell that strokes of both signs share cannot please both.
            self._on_raster = on, np.where(on > 0, 0, off)
        return self._on_raster


def _ask(encoded: Encoded, prompt: Prompt, strokes: _Strokes, generator: MaskGenerator) -> _Candidate | None:
    """The answer that agrees best with the strokes; None where there is no answer."""
    proposals = generator.decode(encoded.embedding, [prompt])
    on, off = strokes.on_raster(proposals)
    candidates = []
    for index, mask in enumerate(proposals.small_masks):
        shares = [_share(on, mask), _share(off, ~mask)]
        agreement = float(np.mean([share for share in shares if share is not None] or [1.0]))
        least = min(_least_share(on, mask), _least_share(off, ~mask))
        missed, spilled = (on > 0) & ~mask, (off > 0) & mask
        candidates.append(_Candidate(proposals, index, agreement, least, missed, spilled))
    return max(candidates, key=lambda candidate: candidate.rank, default=None)


def _share(weights: np.ndarray, mask: Mask) -> float | None:
    """Fraction of the weights on a mask; None when there are none."""
    total = float(weights.sum())
    return float(weights[mask].sum()) / total if total > 0 else None


def _least_share(weights: np.ndarray, mask: Mask) -> float:
    """The smallest fraction of a connected piece of the weights that is on a mask."""
    count, pieces = cv2.connectedComponents((weights > 0).astype(np.uint8), connectivity=8)
    totals, kept = (
        np.bincount(pieces.ravel(), weights=part.ravel(), minlength=count)[1:]
        for part in (weights, weights * mask)
    )
    return float((kept / totals).min(initial=1.0))


def _correction(candidate: _Candidate) -> tuple[XY, bool]:
    """The middle of the largest contradiction, in the picture, and whether it is on the object."""
    errors = ((candidate.missed, True), (candidate.spilled, False))
    pixels, sign = max(errors, key=lambda error: int(error[0].sum()))
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=8)
    piece = pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    proposals = candidate.proposals
    ratio = np.divide(proposals.image_size, proposals.content)[::-1] * proposals.scale
    return (spread_points(piece, 1) * ratio).astype(np.float32), sign


def _corrected(prompt: Prompt, correction: tuple[XY, bool], answer: _Candidate) -> Prompt:
    """The prompt with one more point, to correct the last answer."""
    point, sign = correction
    return Prompt(
        np.concatenate([prompt.points, point]),
        np.append(prompt.positive, sign),
        prompt.box,
        answer.proposals.logits[answer.index],
    )
