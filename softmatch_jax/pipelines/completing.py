"""From scribbles, points or a box to the mask of the whole object (Softmatcher §3, step 1).

A generator that takes points is prompted (see ``scribbling``); what follows is for the others. It matches by
contrast, the geometric one or else the arithmetic one, whatever method finds the object in targets.

How far an object reaches beyond a stroke is not in the stroke, so several masks are grown and the one
whose outline follows the strongest change of features is kept. First the extent is settled: in each of
several boxes about the seeds all beyond the box is background, the picture is matched against its own
seeds, and the map becomes the prior of the mask generator. At the best extent two more masks compete
with the winner: one from the same prior made less certain, which helps where the map falls off before
the object ends; and one from a second match, against the grown mask instead of the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask
from softmatch_jax.models import MaskGenerator, PatchFeatures
from softmatch_jax.pipelines.config import SoftmatcherConfig
from softmatch_jax.pipelines.match_step import contrast_step, cut_step
from softmatch_jax.pipelines.proposing import patch_logits, probability_map
from softmatch_jax.pipelines.reference import Encoded, Reference, make_reference, stack_references
from softmatch_jax.pipelines.scribbling import scribble_mask
from softmatch_jax.prompting import Prompt, Seeds, bounding_box, fill_box, pool_mask

EXTENTS = (1.25, 1.75, 2.5, 4.0, np.inf)
"""How large the object may be, in sizes of the box around its seeds."""

DISCOUNT = 0.9
"""What an outline's contrast is worth for each doubling of the extent: near-ties go to the tighter."""

UNCERTAIN = 0.06
"""The less certain prior stays this far from 0 and 1."""

MARGIN = 0.15
"""How far beyond the grown mask, in its size, the second match may reach."""

AREA_FACTOR = 1.5
"""How much larger or smaller than the grown mask the second match may cut."""

LARGEST_SHARE = 0.8
"""Most of the picture that a scribbled object may fill."""

MAX_SEED_POINTS = 1024

XYXY = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class _Task:
    """What every step of growing needs; ``seeds`` is the picture as a reference of its own seeds."""

    encoded: Encoded
    marked: Seeds
    seeds: Reference
    generator: MaskGenerator
    config: SoftmatcherConfig


def complete_mask(
    encoded: Encoded, marked: Seeds, generator: MaskGenerator, config: SoftmatcherConfig
) -> Mask:
    """Grows seed pixels into a mask of the object they lie on; seeds always win.

    Args:
        encoded: The encoded picture.
        marked: Seeds that are not exact.
        generator: Decodes the prompts.
        config: Settings.

    Returns:
        ``bool [H, W]``, neither empty nor full.

    Raises:
        InputError: The generator finds nothing, or everything, from these seeds.
    """
    if generator.promptable:
        mask = scribble_mask(encoded, marked, generator, config.completion)
    elif marked.region is not None:
        mask = _from_box(encoded, marked.region, generator)
    else:
        task = _Task(
            encoded, marked, make_reference("", marked.foreground, marked, encoded), generator, config
        )
        box, mask = _best_extent(task)
        around, grown = _expanded(mask, 1 + 2 * MARGIN), make_reference("", mask, marked, encoded)
        candidates = [mask, _grow(task, box, certain=False), _grow(task, around, example=grown)]
        mask = max(candidates, key=partial(outline_contrast, features=encoded.features))
    if not mask.any() or mask.all():
        extent = "nothing" if not mask.any() else "the whole picture"
        raise InputError(
            f"The annotation grew into {extent}; expected one object "
            "(add strokes on the object and on its background, or give a mask)."
        )
    return mask


def outline_contrast(mask: Mask, features: PatchFeatures) -> float:
    """How much features change across a mask's outline, against how much they change on average.

    Args:
        mask: ``bool [H, W]``.
        features: Features of the picture, a batch of one.

    Returns:
        Mean distance between the two patches of every neighbouring pair that the outline parts, over
        that of all neighbouring pairs; 0 when the outline parts none.
    """
    inside = pool_mask(mask, features.grid) >= 0.5
    standard = _standardised(features)
    everything = slice(None)
    crossed, everywhere = [], []
    for first, second in (
        ((slice(None, -1), everything), (slice(1, None), everything)),
        ((everything, slice(None, -1)), (everything, slice(1, None))),
    ):
        step = np.linalg.norm(standard[second] - standard[first], axis=-1)
        known = features.valid[first] & features.valid[second]
        everywhere.append(step[known])
        crossed.append(step[known & (inside[first] != inside[second])])
    parted, every = np.concatenate(crossed), np.concatenate(everywhere)
    if not parted.size or not every.any():
        return 0.0
    return float(parted.mean() / every.mean())


def _standardised(features: PatchFeatures) -> Float[np.ndarray, "h w d"]:
    """Features with unit variance in every channel over the valid patches."""
    values = np.asarray(features.values[0])
    known = values[features.valid]
    return (values - known.mean(0)) / (known.std(0) + 1e-6)


def _best_extent(task: _Task) -> tuple[XYXY, Mask]:
    """The box and the mask whose outline has the most contrast, larger boxes at a discount."""
    height, width = task.encoded.image_size
    boxes = dict.fromkeys(_expanded(task.marked.foreground, extent) for extent in EXTENTS)
    grown = {box: _grow(task, box) for box in boxes}

    def worth(box: XYXY) -> float:
        x0, y0, x1, y1 = box
        doublings = 0.5 * np.log2((x1 - x0) / width * (y1 - y0) / height)
        return float(outline_contrast(grown[box], task.encoded.features) * DISCOUNT**doublings)

    best = max(boxes, key=worth)
    return best, grown[best]


def _expanded(mask: Mask, extent: float) -> XYXY:
    """The bounding box of a mask at ``extent`` times its size, clipped to the picture."""
    height, width = mask.shape
    if np.isinf(extent):
        return (0.0, 0.0, float(width), float(height))
    x0, y0, x1, y1 = bounding_box(mask)
    # A stroke along one axis says little of the object's size across it, hence the halves.
    grow_x = (extent - 1) / 2 * max(x1 - x0, 0.5 * (y1 - y0))
    grow_y = (extent - 1) / 2 * max(y1 - y0, 0.5 * (x1 - x0))
    return (max(x0 - grow_x, 0), max(y0 - grow_y, 0), min(x1 + grow_x, width), min(y1 + grow_y, height))


def _from_box(encoded: Encoded, region: Mask, generator: MaskGenerator) -> Mask:
    """What the generator finds in a box that was drawn about the object."""
    prompt = Prompt(np.zeros((0, 2), np.float32), np.zeros(0, bool), bounding_box(region))
    return np.any(generator.decode(encoded.embedding, [prompt]).masks, axis=0) & region


def _grow(task: _Task, box: XYXY, *, example: Reference | None = None, certain: bool = True) -> Mask:
    """Matches the picture against an example in it, and decodes from the seeds within a box.

    Args:
        task: Picture, seeds, generator and settings.
        box: All beyond it is background.
        example: The picture as a reference of the object so far; of its seeds when ``None``.
        certain: Whether the prior may be certain of pixels that are no seeds.
    """
    encoded, marked, config = task.encoded, task.marked, task.config
    beyond = marked.background | ~fill_box(box, encoded.image_size)
    own = task.seeds if example is None else example
    background, area = own.background, float(own.mask.mean())
    if example is None:
        outside = pool_mask(beyond, encoded.features.grid).ravel() >= 0.5
        background = outside.astype(np.float32) if outside.any() else background
        # The object is at least its seeds and at most the box, or most of the picture.
        low, high = area, min(LARGEST_SHARE, max(2 * area, float(1 - beyond.mean())))
    else:
        low, high = area / AREA_FACTOR, min(LARGEST_SHARE, area * AREA_FACTOR)
    _, arrays = stack_references([own])
    arrays = arrays._replace(
        background=jnp.asarray(background)[None], area=jnp.full(1, np.sqrt(low * high), jnp.float32)
    )
    flat, valid = encoded.features.flat(), jnp.asarray(encoded.features.valid.ravel())
    factor = jnp.float32(max(1.0, np.sqrt(high / low)))
    matched = contrast_step(arrays, flat, valid, config=config.matching)
    found, cut = jax.tree.map(
        lambda leaf: leaf[0], jax.device_get(cut_step(matched, valid, arrays.area, factor))
    )
    grid = encoded.features.grid
    prior = probability_map(patch_logits(found, cut, grid, sharpness=config.decision.sharpness), grid)
    if not certain:
        prior = np.clip(prior, UNCERTAIN, 1 - UNCERTAIN)
    prior = np.where(marked.foreground, 1, np.where(beyond, 0, prior)).astype(np.float32)
    proposals = task.generator.decode(encoded.embedding, [_seed_prompt(marked, box)], prior=prior)
    return (np.any(proposals.masks, axis=0) | marked.foreground) & ~beyond


def _seed_prompt(marked: Seeds, box: XYXY) -> Prompt:
    """All seed pixels as points, thinned evenly when there are many."""
    parts = []
    for pixels in (marked.foreground, marked.background):
        rows, columns = np.nonzero(pixels)
        keep = np.linspace(0, len(rows) - 1, min(len(rows), MAX_SEED_POINTS)).round().astype(int)
        parts.append(np.stack([columns[keep] + 0.5, rows[keep] + 0.5], axis=1))
    positive = np.repeat([True, False], [len(part) for part in parts])
    return Prompt(np.concatenate(parts).astype(np.float32), positive, box)
