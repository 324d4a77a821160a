"""The models behind a run: what can be checked of them beforehand, and loading them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from softmatch_jax._checks import InputError
from softmatch_jax.pipelines import (
    CompletionConfig,
    DecisionConfig,
    MatchingConfig,
    ModelsConfig,
    PromptingConfig,
    Softmatcher,
    SoftmatcherConfig,
)
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks

if TYPE_CHECKING:
    from softmatch_jax.pipelines import ProSAM

_PATCH = 14  # side of the patches of every DINOv2


class PipelineOptions(Protocol):
    """What the settings of the commands that run a pipeline have in common."""

    @property
    def backend(self) -> str:
        """The pair of models."""

    @property
    def stride(self) -> int:
        """Distance between patches of the embedded descriptor."""

    @property
    def embedded_masks(self) -> EmbeddedMasks:
        """What makes masks with the embedded models."""

    @property
    def embedded_features(self) -> EmbeddedFeatures:
        """What is matched with the embedded models."""

    @property
    def embedded_weights(self) -> Path | None:
        """Weights of the small SAM."""

    @property
    def quiet(self) -> bool:
        """Whether to say nothing."""

    @property
    def models(self) -> ModelsConfig:
        """Which models, and how they run."""

    @property
    def matching(self) -> MatchingConfig:
        """How features are compared."""

    @property
    def prompting(self) -> PromptingConfig:
        """How the map becomes prompts."""

    @property
    def decision(self) -> DecisionConfig:
        """When a find counts."""

    @property
    def completion(self) -> CompletionConfig:
        """How scribbles become masks."""


def parse_texts(texts: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The phrase for each class that has one.

    Args:
        texts: As typed: ``NAME=PHRASE``, or a phrase alone where there is one class.
        classes: Names of all classes.

    Raises:
        InputError: A text names no class, a class twice, or holds no phrase.
    """
    phrases: dict[str, str] = {}
    for text in texts:
        # A name may hold the sign itself, so known names come first.
        named = [name for name in classes if text.startswith(f"{name}=")]
        if named:
            name = max(named, key=len)
            phrase = text[len(name) + 1 :]
        elif "=" not in text and len(classes) == 1:
            name, phrase = classes[0], text
        else:
            known = ", ".join(map(repr, classes))
            raise InputError(
                f"--text {text!r} names no class that has a reference; expected NAME=PHRASE with a NAME of "
                f"{known}."
            )
        if not phrase.strip():
            raise InputError(f"--text {text!r} is empty; expected a phrase, such as 'a yellow rubber duck'.")
        if name in phrases:
            raise InputError(
                f"--text is given twice for the class {name!r}; expected one phrase for a class."
            )
        phrases[name] = phrase.strip()
    return phrases


def check_models(config: PipelineOptions, texts: Sequence[str] = ()) -> None:
    """Checks of the foundation models what needs neither them nor the packages that run them.

    Args:
        config: Settings.
        texts: Phrases, as typed.

    Raises:
        InputError: A setting is out of range, or a text and its model are not given together.
    """
    models = config.models
    if config.backend != "foundation":
        return
    if models.size < _PATCH or models.size % _PATCH:
        lower = max(models.size // _PATCH, 1) * _PATCH
        near = f"{lower} or {lower + _PATCH}" if models.size >= _PATCH else f"{lower}"
        raise InputError(
            f"--size is {models.size}; expected a multiple of {_PATCH}, the side of DINOv2's patches (the "
            f"nearest: {near})."
        )
    if texts and models.text_model is None:
        raise InputError(
            f"--text {texts[0]!r} is given without a model that reads it; expected one with it, such "
            "as --text-model openai/clip-vit-base-patch32."
        )
    if models.text_model is not None and not texts:
        raise InputError(
            "--text-model is given without a text; expected --text NAME=PHRASE with it (or leave it out)."
        )
    if models.text_model_revision is not None and models.text_model is None:
        raise InputError("--text-model-revision is given without --text-model; expected them together.")


def load_matcher(config: PipelineOptions, texts: Mapping[str, str], stream: TextIO | None) -> Softmatcher:
    """Loads the models and puts the pipeline together.

    Args:
        config: Checked settings.
        texts: The phrase for each class that has one.
        stream: Where a terminal is told that models are being loaded.

    Raises:
        InputError: A package is missing, a model cannot be found, is damaged or of another kind, or a
            phrase is too long.
    """
    settings = SoftmatcherConfig(
        matching=config.matching,
        prompting=config.prompting,
        decision=config.decision,
        completion=config.completion,
    )
    if config.backend == "embedded":
        return Softmatcher.embedded(
            settings,
            stride=config.stride,
            masks=config.embedded_masks,
            features=config.embedded_features,
            weights=config.embedded_weights,
        )
    models = config.models
    if stream is not None and stream.isatty() and not config.quiet:
        names = filter(None, (models.features, models.masks, models.text_model))
        print(f"Loading {', '.join(names)} ...", file=stream, flush=True)
    matcher = Softmatcher.foundation(models, settings)
    if matcher.text is not None and texts:
        matcher.text.text_embeddings(list(texts.values()))  # raises where one is too long
    return matcher


def cache_counts(matcher: Softmatcher | ProSAM) -> dict[str, int] | None:
    """How often the cache had an answer and how often not; ``None`` without a cache."""
    if matcher.cache is None:
        return None
    stats = matcher.cache.stats
    return {"hits": stats.hits_memory + stats.hits_disk, "misses": stats.misses}
