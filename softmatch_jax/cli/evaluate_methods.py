"""The methods of ``softmatch evaluate``, loaded."""

from __future__ import annotations

from typing import TextIO

from softmatch_jax.cli.backend import load_matcher
from softmatch_jax.cli.evaluate_config import EvaluateConfig
from softmatch_jax.pipelines.one_class import OneClass, one_class
from softmatch_jax.pipelines.one_class_names import PROSAM


def load_methods(config: EvaluateConfig, stream: TextIO | None) -> dict[str, OneClass]:
    """All methods that are asked for, by name; those that match share their models.

    Args:
        config: Checked settings.
        stream: Where a terminal is told that models are being loaded.

    Raises:
        InputError: A package is missing, or a model cannot be found, is damaged or of another kind.
    """
    shared = [name for name in config.method if name != PROSAM]
    matcher = load_matcher(config, {}, stream) if shared else None
    methods: dict[str, OneClass] = {}
    for name in config.method:
        methods[name] = (
            _load_prosam(config) if matcher is None or name == PROSAM else one_class(name, matcher)
        )
    return methods


def load_method(config: EvaluateConfig, name: str, stream: TextIO | None) -> OneClass:
    """One of the methods; see :func:`load_methods`."""
    return _load_prosam(config) if name == PROSAM else one_class(name, load_matcher(config, {}, stream))


def _load_prosam(config: EvaluateConfig) -> OneClass:
    """The mean prompt, as the paper evaluates it."""
    from softmatch_jax.pipelines.prosam import ProSAM
    from softmatch_jax.pipelines.prosam_config import ProSamConfig
    from softmatch_jax.pipelines.prosam_one_class import ProSamOneClass

    settings = ProSamConfig(
        uncertainty=False, min_area=config.decision.min_area, together=config.models.chunk
    )
    if config.backend == "embedded":
        made = ProSAM.embedded(config.weights, settings, sam_weights=config.embedded_weights)
    else:
        assert config.weights is not None  # seen to when the words were parsed
        made = ProSAM.foundation(config.weights, config.prosam_backbone, config.models, settings)
    return ProSamOneClass(made)
