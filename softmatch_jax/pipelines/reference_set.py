"""References put together once, for any number of targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softmatch_jax._checks import InputError
from softmatch_jax.matching import ReferenceState
from softmatch_jax.pipelines.config import MatchingConfig
from softmatch_jax.pipelines.locating import class_states
from softmatch_jax.pipelines.match_step import ReferenceArrays
from softmatch_jax.pipelines.reference import Reference, check_models, stack_references


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """References of one or more classes, ready to be matched with targets.

    Attributes:
        names: The classes, in order of first appearance.
        models: What encoded the references: feature extractor, mask generator and text model.
        arrays: All references as arrays.
        states: What the matching method keeps of them; None with whitening.
        config: How they are to be matched.
    """

    names: tuple[str, ...]
    models: tuple[str, str, str]
    arrays: ReferenceArrays
    states: ReferenceState | None
    config: MatchingConfig


def join_references(references: Sequence[Reference], config: MatchingConfig) -> ReferenceSet:
    """Puts references together.

    Raises:
        InputError: There are none, too many classes, or different models encoded them.
    """
    names, arrays = stack_references(references, whiten=config.whiten)
    models = references[0].encoded.models
    check_models(models, *[reference.encoded for reference in references])
    return ReferenceSet(names, models, arrays, class_states(names, references, config), config)


def check_joined(joined: ReferenceSet, models: tuple[str, str, str], config: MatchingConfig) -> None:
    """Raises ``InputError`` unless references were put together for these models and settings."""
    if joined.models[:2] != models[:2] or joined.config != config:
        raise InputError(
            "The references were put together by a Softmatcher with other models or matching settings; "
            "expected those of this one (call its join)."
        )
