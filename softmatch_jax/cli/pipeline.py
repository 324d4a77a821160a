"""The pipeline of ``softmatch segment``, whichever method it is: checked, loaded and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import jax

from softmatch_jax._types import Image
from softmatch_jax.cli.backend import load_matcher
from softmatch_jax.cli.config import SegmentConfig
from softmatch_jax.pipelines import Segmentation, Softmatcher
from softmatch_jax.pipelines.prosam_config import ProSamConfig

if TYPE_CHECKING:
    from softmatch_jax.pipelines import ProSAM

Pipeline: TypeAlias = "Softmatcher | ProSAM"


def prosam_settings(config: SegmentConfig) -> ProSamConfig:
    """The settings of ProSAM among those of the command.

    Raises:
        InputError: One is out of range.
    """
    return ProSamConfig(
        strategy=config.strategy,
        samples=config.samples,
        uncertainty=not config.skip_uncertainty,
        complete=config.complete,
        min_area=config.decision.min_area,
        together=config.models.chunk,
    )


def check_pipeline(config: SegmentConfig) -> None:
    """Raises ``InputError`` where a setting of ProSAM is out of range."""
    if config.method == "prosam":
        prosam_settings(config)


def extra_maps(config: SegmentConfig) -> dict[str, bool]:
    """Which maps are written beside the match maps."""
    unsure = config.method == "prosam" and not config.skip_uncertainty
    return {"confidence": config.confidence, "uncertainty": config.confidence and unsure}


def load_pipeline(config: SegmentConfig, texts: Mapping[str, str], stream: TextIO | None) -> Pipeline:
    """Loads the models and puts the pipeline together; see :func:`load_matcher`.

    Raises:
        InputError: A package is missing, a model cannot be found, is damaged or of another kind, or a
            phrase is too long.
    """
    if config.method == "softmatcher":
        return load_matcher(config, texts, stream)
    from softmatch_jax.pipelines import ProSAM

    settings = prosam_settings(config)
    if config.backend == "embedded":
        return ProSAM.embedded(config.weights, settings, sam_weights=config.embedded_weights)
    assert config.weights is not None  # seen to when the words were parsed
    if stream is not None and stream.isatty() and not config.quiet:
        print(f"Loading {config.models.masks} ...", file=stream, flush=True)
    return ProSAM.foundation(config.weights, config.prosam_backbone, config.models, settings)


def segment(
    pipeline: Pipeline, image: Image, references: Sequence[Any], *, key: jax.Array, texts: Mapping[str, str]
) -> Segmentation:
    """Finds the references, which are this pipeline's own, in a target."""
    if isinstance(pipeline, Softmatcher):
        return pipeline.segment(image, references, key=key, texts=texts)
    return pipeline.segment(image, references, key=key)
