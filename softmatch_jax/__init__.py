"""Visual-prompt segmentation: show one example, get the same kind of object in every other picture.

The names below are loaded when first used, so that ``import softmatch_jax`` costs nothing; JAX, OpenCV
and any optional part are imported by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softmatch_jax._checks import InputError
    from softmatch_jax.imaging import read_image, read_mask
    from softmatch_jax.pipelines import (
        CompletionConfig,
        DecisionConfig,
        MatchingConfig,
        ModelsConfig,
        PromptingConfig,
        ProSAM,
        ProSamConfig,
        Reference,
        Segmentation,
        Softmatcher,
        SoftmatcherConfig,
    )
    from softmatch_jax.prompting import Box, Painted, Points, Polyline, Scribbles

__version__ = "0.1.0"

_HOMES = {
    "Box": "softmatch_jax.prompting",
    "CompletionConfig": "softmatch_jax.pipelines",
    "DecisionConfig": "softmatch_jax.pipelines",
    "InputError": "softmatch_jax._checks",
    "MatchingConfig": "softmatch_jax.pipelines",
    "ModelsConfig": "softmatch_jax.pipelines",
    "Painted": "softmatch_jax.prompting",
    "Points": "softmatch_jax.prompting",
    "Polyline": "softmatch_jax.prompting",
    "ProSAM": "softmatch_jax.pipelines",
    "ProSamConfig": "softmatch_jax.pipelines",
    "PromptingConfig": "softmatch_jax.pipelines",
    "Reference": "softmatch_jax.pipelines",
    "Scribbles": "softmatch_jax.prompting",
    "Segmentation": "softmatch_jax.pipelines",
    "Softmatcher": "softmatch_jax.pipelines",
    "SoftmatcherConfig": "softmatch_jax.pipelines",
    "read_image": "softmatch_jax.imaging",
    "read_mask": "softmatch_jax.imaging",
}

__all__ = [
    "Box",
    "CompletionConfig",
    "DecisionConfig",
    "InputError",
    "MatchingConfig",
    "ModelsConfig",
    "Painted",
    "Points",
    "Polyline",
    "ProSAM",
    "ProSamConfig",
    "PromptingConfig",
    "Reference",
    "Scribbles",
    "Segmentation",
    "Softmatcher",
    "SoftmatcherConfig",
    "__version__",
    "read_image",
    "read_mask",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
