"""From references and a target to a match map and its cut (Softmatcher §3, step 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax import matching
from softmatch_jax.matching import METHODS, Cut, MatchMap, ReferenceState
from softmatch_jax.models import PatchFeatures
from softmatch_jax.pipelines.config import MatchingConfig
from softmatch_jax.pipelines.match_step import ReferenceArrays, contrast_step, cut_step, text_step
from softmatch_jax.pipelines.reference import Reference

FEATURE_SEED = 0
"""Seed of what methods draw when a reference is prepared: random features, groups of Gaussians."""


SUMMED = ("geometric", "quadratic", "cumulant")
"""Methods that keep sums of a reference; the others keep those of its patches that have a weight."""


class TextFactor(NamedTuple):
    """The maps of text prompts, one row for each class.

    Attributes:
        logits: ``[C, T]``, similarity of each patch to the text over its temperature.
        weight: ``[C]``, weight in the geometric mean; 0 for classes without a text.
    """

    logits: Float[np.ndarray, "C T"]
    weight: Float[np.ndarray, " C"]


def locate(
    references: ReferenceArrays,
    states: ReferenceState | None,
    target: PatchFeatures,
    *,
    config: MatchingConfig,
    size_factor: float,
    text: TextFactor | None = None,
) -> tuple[MatchMap, Cut]:
    """Matches every class against one target and cuts each map.

    Args:
        references: The references as arrays.
        states: What the method keeps of them, from :func:`class_states`; ``None`` with whitening, which
            depends on the target.
        target: Features of the target, a batch of one.
        config: Settings.
        size_factor: How many times smaller or larger than on the references the object may be.
        text: Maps of text prompts.

    Returns:
        NumPy arrays with a leading axis of classes.
    """
    flat, valid = target.flat(), jnp.asarray(target.valid.ravel())
    if states is None:
        found = contrast_step(references, flat, valid, config=config)
    else:
        found = matching.match(states, flat, temperature=config.temperature, valid=valid)
    if text is not None:
        found = text_step(found, jnp.asarray(text.logits), jnp.asarray(text.weight), valid)
    cut = cut_step(found, valid, references.area, jnp.float32(size_factor))
    result: tuple[MatchMap, Cut] = jax.device_get(cut)
    return result


def class_states(
    names: Sequence[str], references: Sequence[Reference], config: MatchingConfig
) -> ReferenceState | None:
    """What the method keeps of the references, stacked over classes; ``None`` with whitening."""
    if config.whiten:
        return None
    like: ReferenceState | None = None
    classes: list[ReferenceState] = []
    for name in names:
        total: ReferenceState | None = None
        for reference in references:
            if reference.class_name == name:
                state = _prepared(reference, config, like)
                like = state if like is None else like
                total = state if total is None else total + state
        assert total is not None
        classes.append(total)
    return matching.stack(classes)


def _prepared(reference: Reference, config: MatchingConfig, like: ReferenceState | None) -> ReferenceState:
    """One reference, prepared once for any number of targets unless it shares what was drawn with others."""
    if config.method == "random_features":
        return _prepare(reference, config, like)
    key = (config.method, config.contrast)
    if key not in reference.states:
        reference.states[key] = _prepare(reference, config, None)
    return reference.states[key]


def _prepare(reference: Reference, config: MatchingConfig, like: ReferenceState | None) -> ReferenceState:
    method = METHODS[config.method]
    background = None
    if config.contrast or method.needs_rest:
        valid = reference.encoded.features.valid.ravel().astype(np.float32)
        # The rest is said outright, for to a method all that is not the object is rest, padding included.
        around = reference.background if config.contrast else valid * (reference.foreground <= 0)
        # An object that reaches into every patch has no surroundings but the picture itself.
        background = jnp.asarray(around if around.any() else valid / valid.sum())
    features, foreground = reference.encoded.features.flat(), jnp.asarray(reference.foreground)
    if config.method in SUMMED:
        state: ReferenceState = _prepare_whole(features, foreground, background, method=config.method)
        return state
    return matching.prepare(
        features,
        method=config.method,
        weights=foreground,
        background=background,
        temperature=config.temperature if method.needs_key else None,
        key=jax.random.key(FEATURE_SEED) if method.needs_key else None,
        like=like if like is not None and like.shared is not None else None,
    )


@partial(jax.jit, static_argnames="method")
def _prepare_whole(features: Array, foreground: Array, background: Array | None, *, method: str) -> Any:
    """Prepares all patches of a picture, whatever their weights, so that one program serves every mask."""
    key = jax.random.key(FEATURE_SEED) if METHODS[method].needs_key else None
    return matching.prepare(features, method=method, weights=foreground, background=background, key=key)
