"""References of ProSAM: the annotation as the prompt encoder was trained to take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask
from softmatch_jax.models import PatchFeatures
from softmatch_jax.models.prosam.predictor import PictureFeatures, PromptReference
from softmatch_jax.pipelines.reference import MAX_CLASSES, Encoded
from softmatch_jax.prompting import Seeds


@dataclass(frozen=True, eq=False, kw_only=True)
class ProSamReference:
    """A picture with its annotated object, ready to become prompts.

    Attributes:
        class_name: What the object is called.
        mask: ``bool [H, W]``, what the encoder is told of: the annotated pixels, a box being filled, or the
            mask they were grown into.
        seeds: The pixels that were annotated.
        encoded: The encoded picture.
        prompting: What the encoder takes.
    """

    class_name: str
    mask: Mask
    seeds: Seeds
    encoded: Encoded
    prompting: PromptReference


def annotated_pixels(marked: Seeds) -> Mask:
    """The pixels of an annotation as training rasterises them; a box is filled."""
    return marked.foreground if marked.region is None else marked.region


def picture_features(features: PatchFeatures) -> PictureFeatures:
    """A batch of one as the predictor takes it."""
    return PictureFeatures(features.values[0], np.asarray(features.valid), features.grid)


def by_class(references: Sequence[ProSamReference]) -> dict[str, list[ProSamReference]]:
    """References by their class, in order of first appearance.

    Raises:
        InputError: There are none, or too many classes.
    """
    if not references:
        raise InputError("segment got no references; expected at least one (see ProSAM.reference).")
    found: dict[str, list[ProSamReference]] = {}
    for reference in references:
        found.setdefault(reference.class_name, []).append(reference)
    if len(found) > MAX_CLASSES:
        raise InputError(f"{len(found)} classes were given; expected at most {MAX_CLASSES}.")
    return found
