"""References: encoded once, reused for every target, combined into sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.matching import Moments, ReferenceState
from softmatch_jax.models import PatchFeatures
from softmatch_jax.pipelines.match_step import ReferenceArrays, picture_moments
from softmatch_jax.prompting import Seeds, pool_mask

MAX_CLASSES = 255
"""Classes that fit the 8-bit indexed mask beside the background."""


NEGATIVE_SHARE = 0.8
"""Share of the surroundings' weight that falls to what was marked as background, where anything was."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture as both models see it; give it in place of the picture to save encoding it again.

    Attributes:
        models: Names of the feature extractor, the mask generator and the text model, empty for none.
        image_size: ``(H, W)``.
        features: Patch features, a batch of one.
        embedding: What the mask generator made of the picture.
        text_features: Patch features that text can be compared with, where the pipeline takes texts.
    """

    models: tuple[str, str, str]
    image_size: Size
    features: PatchFeatures
    embedding: Any
    text_features: PatchFeatures | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """A picture with its annotated object, ready to be matched.

    Attributes:
        class_name: What the object is called.
        mask: ``bool [H, W]``, the object: as given, or completed from the annotation.
        seeds: The pixels that were annotated.
        encoded: The encoded picture.
        foreground: ``float32 [h * w]``, weight of each patch as part of the object.
        background: ``float32 [h * w]``, weight of each patch as part of its surroundings.
        states: What matching methods have kept of it so far, by method and whether with surroundings.
    """

    class_name: str
    mask: Mask
    seeds: Seeds
    encoded: Encoded
    foreground: Float[np.ndarray, " T"]
    background: Float[np.ndarray, " T"]
    states: dict[tuple[str, bool], ReferenceState] = field(default_factory=dict, repr=False)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the picture's features, which whitening needs; computed when first asked for."""
        features = self.encoded.features
        return picture_moments(features.flat(), jnp.asarray(features.valid.ravel()))


def patch_weights(mask: Mask, negative: Mask, features: PatchFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the patches as object and as surroundings.

    A patch counts for the object by the share the mask covers, from one half up. An object thinner
    than a patch covers half of none; then the best-covered patches count. The surroundings are the
    patches the mask does not touch. Where some of them were marked as background those get most of the
    weight: the unmarked rest may hold more objects of the kind.

    Args:
        mask: ``bool [H, W]``, the object.
        negative: ``bool [H, W]``, pixels marked as background.
        features: Features of the picture.

    Returns:
        Foreground and background, each ``float32 [h * w]`` and of sum one, so that references count the
        same whatever the size of their object; or of sum zero, for a background that is not there.
    """
    coverage = pool_mask(mask, features.grid).ravel()
    least = min(0.5, 0.7 * float(coverage.max()))
    foreground: np.ndarray = np.where(coverage >= least, coverage, 0) if coverage.any() else coverage
    background: np.ndarray = (features.valid.ravel() & (coverage <= 0.02)).astype(np.float32)
    marked = pool_mask(negative, features.grid).ravel() * background
    if marked.any():
        background = NEGATIVE_SHARE * _share(marked) + (1 - NEGATIVE_SHARE) * _share(background)
    return _share(foreground), _share(background)


def _share(weights: np.ndarray) -> np.ndarray:
    """Weights of sum one; all zero stays all zero."""
    total = weights.sum(dtype=np.float64)
    return (weights / total if total > 0 else weights).astype(np.float32)


def check_models(models: tuple[str, str, str], *encoded: Encoded) -> None:
    """Raises ``InputError`` unless these models encoded all pictures, the text model aside."""
    other = next((one.models for one in encoded if one.models[:2] != models[:2]), None)
    if other is not None:
        raise InputError(
            f"Pictures were encoded by different models, {models} and {other}; expected one Softmatcher for "
            "references and target."
        )


def stack_references(
    references: Sequence[Reference], *, whiten: bool = True
) -> tuple[tuple[str, ...], ReferenceArrays]:
    """Puts references together, several to a class, padded to a power of two of pictures.

    Args:
        references: One or more.
        whiten: Whether their moments will be needed.

    Returns:
        Class names in order of first appearance, and the arrays.

    Raises:
        InputError: There are none, too many classes, or they come from different feature extractors.
    """
    if not references:
        raise InputError("segment got no references; expected at least one (see Softmatcher.reference).")
    names = tuple(dict.fromkeys(reference.class_name for reference in references))
    if len(names) > MAX_CLASSES:
        raise InputError(f"{len(names)} classes were given; expected at most {MAX_CLASSES}.")
    rows = [names.index(reference.class_name) for reference in references]
    places = _places(rows, references)
    pictures = {
        place: reference.encoded.features for place, reference in zip(places, references, strict=True)
    }
    bucket = 1 << (len(pictures) - 1).bit_length()
    patches = references[0].foreground.size
    foreground = np.zeros((len(names), bucket, patches), np.float32)
    background = np.zeros_like(foreground)
    area = np.zeros(len(names), np.float32)
    for row, place, reference in zip(rows, places, references, strict=True):
        foreground[row, place] = reference.foreground
        background[row, place] = reference.background
        area[row] += np.count_nonzero(reference.mask) / reference.mask.size
    counts = np.bincount(rows, minlength=len(names)).astype(np.float32)
    flat = [features.flat() for features in pictures.values()]
    flat += [jnp.zeros_like(flat[0])] * (bucket - len(flat))
    summed = None
    if whiten:
        summed = jax.tree.map(lambda *m: sum(m) / len(m), *[reference.moments for reference in references])
    arrays = ReferenceArrays(
        features=jnp.concatenate(flat) if len(flat) > 1 else flat[0],
        foreground=jnp.asarray(foreground.reshape(len(names), -1)),
        background=jnp.asarray(background.reshape(len(names), -1)),
        moments=summed,
        area=jnp.asarray(area / counts),
    )
    return names, arrays


def _places(rows: Sequence[int], references: Sequence[Reference]) -> list[int]:
    """Which picture of the stack each reference lies on: classes that are marked on one picture share it."""
    taken: list[tuple[PatchFeatures, set[int]]] = []
    places = []
    for row, reference in zip(rows, references, strict=True):
        features = reference.encoded.features
        free = (place for place, (other, used) in enumerate(taken) if other is features and row not in used)
        place = next(free, len(taken))
        if place == len(taken):
            taken.append((features, set()))
        taken[place][1].add(row)
        places.append(place)
    return places


def make_reference(class_name: str, mask: Mask, seeds: Seeds, encoded: Encoded) -> Reference:
    """Pools the mask to patches.

    Raises:
        InputError: The mask covers no patch.
    """
    negative = np.zeros_like(mask) if seeds.exact else seeds.background
    foreground, background = patch_weights(mask, negative, encoded.features)
    if not foreground.any():
        raise InputError(f"The object of class {class_name!r} covers no patch; expected a larger one.")
    return Reference(
        class_name=class_name,
        mask=mask,
        seeds=seeds,
        encoded=encoded,
        foreground=foreground,
        background=background,
    )
