"""From a mask and a stroke to a better mask: what the stroke does not touch stays as it was.

A stroke on the object asks what lies there, and adds it; one beside the object asks the same, and takes it
away. What is asked is answered as any scribble is (see ``completing``), so that every generator can be
corrected. The answer is used where it hangs together with the stroke and no farther from it than the stroke
reaches, since at its other end it is a guess that nobody asked for.
"""

from __future__ import annotations

import cv2
import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax._types import MOST_OBJECTS, Labels, Mask
from softmatch_jax.models import MaskGenerator
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.config import SoftmatcherConfig
from softmatch_jax.pipelines.merging import PART
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.prompting import Seeds, bounding_box

REACH = 1.5
"""How far a stroke reaches, in sizes of the box around it."""

LEAST_REACH = 1 / 8
"""But at least so far, in sizes of the picture's longer side: a click has no size."""


def correct_labels(
    encoded: Encoded,
    labels: Labels,
    marked: Seeds,
    generator: MaskGenerator,
    config: SoftmatcherConfig,
    *,
    positive: bool = True,
) -> Labels:
    """Corrects a mask by one stroke, click or box.

    Args:
        encoded: The encoded picture.
        labels: The mask.
        marked: What was drawn as ``foreground``, whatever its sign, and what earlier strokes of the other
            sign marked as ``background``; or a ``region`` with an object in it.
        generator: Decodes the prompts.
        config: Settings.
        positive: Whether it is on the object.

    Returns:
        The mask with the stroke's pixels in it, or out of it. An object that is added to or taken from keeps
        its number; one that was missed gets the next. The same as ``labels`` where the stroke agrees with it.

    Raises:
        InputError: ``labels`` is of another size than the picture, or has no number left for one more object.
    """
    check_mask("the mask to correct", labels > 0, encoded.image_size)
    stroke = marked.foreground
    if positive:
        if marked.region is None and (labels[stroke] > 0).all():
            return labels
        grown = _grown(encoded, marked, generator, config)
        return _added(labels, grown & ~marked.background, stroke)
    if not labels[stroke].any():
        return labels
    # Seeds always win in what is grown, so that what is kept is not taken.
    kept = (marked.background | _beyond_reach(labels, stroke)) & ~stroke
    return _removed(labels, _grown(encoded, Seeds(stroke, kept), generator, config), stroke, kept)


def _grown(encoded: Encoded, seeds: Seeds, generator: MaskGenerator, config: SoftmatcherConfig) -> Mask:
    """The object at a stroke; the stroke alone where there is none to be found."""
    try:
        return complete_mask(encoded, seeds, generator, config)
    except InputError:
        return seeds.foreground


def _added(labels: Labels, grown: Mask, stroke: Mask) -> Labels:
    """Adds what hangs together with a stroke to the object that it belongs to."""
    free = grown & (labels == 0)
    owner = _owner(labels, grown, stroke)
    fresh = stroke & (labels == 0)
    if owner and stroke.any():
        free &= _within_reach(stroke)
    if stroke.any():
        free = _hanging_together(free | fresh, _widened(stroke))
    if not free.any():
        return labels
    number = owner or int(labels.max()) + 1
    if number > MOST_OBJECTS:
        raise InputError(f"The mask has {MOST_OBJECTS} objects; expected fewer, so that one can be added.")
    corrected = labels.copy()
    corrected[free] = number
    return corrected


def _owner(labels: Labels, grown: Mask, stroke: Mask) -> int:
    """The object that a stroke is on, or that its own object is a part of; 0 for none."""
    touched = np.bincount(labels[_widened(stroke)], minlength=1)
    if touched[1:].any():
        return 1 + int(np.argmax(touched[1:]))
    shares = np.bincount(labels[grown], minlength=1)
    if shares[1:].any() and shares[1:].max() >= PART * shares.sum():
        return 1 + int(np.argmax(shares[1:]))
    return 0


def _removed(labels: Labels, grown: Mask, stroke: Mask, kept: Mask) -> Labels:
    """Takes what hangs together with a stroke from the objects that it is on."""
    touched = _touched(labels, stroke)
    taken = _hanging_together((grown | stroke) & np.isin(labels, touched), stroke)
    corrected = np.where(taken, 0, labels).astype(np.uint16)
    for number in touched:
        before, after = labels == number, corrected == number
        # Of an object that was none a rim is left, since two answers never agree to the pixel.
        little = np.count_nonzero(after) < PART * np.count_nonzero(before)
        if little and not (after & kept).any():
            corrected[after] = 0
    return corrected


def _touched(labels: Labels, stroke: Mask) -> np.ndarray:
    """Numbers of the objects that a stroke is on."""
    numbers = np.unique(labels[stroke])
    return numbers[numbers > 0]


def _beyond_reach(labels: Labels, stroke: Mask) -> Mask:
    """What of the objects that a stroke is on it cannot take: all that is too far away."""
    far: Mask = np.isin(labels, _touched(labels, stroke)) & ~_within_reach(stroke)
    return far


def _within_reach(stroke: Mask) -> Mask:
    """Pixels about a stroke: those that are nearer to it than it reaches."""
    x0, y0, x1, y1 = bounding_box(stroke)
    reach = max(REACH * max(x1 - x0, y1 - y0), LEAST_REACH * max(stroke.shape))
    distance = cv2.distanceTransform((~stroke).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: Mask = distance <= reach
    return near


def _widened(stroke: Mask) -> Mask:
    """A stroke and the pixels next to it."""
    return cv2.dilate(stroke.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _hanging_together(pixels: Mask, stroke: Mask) -> Mask:
    """The connected parts of a mask that a stroke touches."""
    _, parts = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    kept = np.zeros(parts.max() + 1, bool)
    kept[np.unique(parts[stroke])] = True
    kept[0] = False
    return kept[parts]
