"""What a user calls.

The names below are loaded when first used: the settings are read to show the command line's help,
which need not wait for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softmatch_jax.pipelines.config import (
        CompletionConfig,
        DecisionConfig,
        MatchingConfig,
        ModelsConfig,
        PromptingConfig,
        SoftmatcherConfig,
    )
    from softmatch_jax.pipelines.feature_cache import (
        CacheConfig,
        CacheStats,
        FeatureCache,
        default_cache_folder,
    )
    from softmatch_jax.pipelines.prosam import ProSAM
    from softmatch_jax.pipelines.prosam_config import ProSamConfig
    from softmatch_jax.pipelines.prosam_reference import ProSamReference
    from softmatch_jax.pipelines.reference import Encoded, Reference
    from softmatch_jax.pipelines.segmentation import ClassSegmentation, Instance, Segmentation
    from softmatch_jax.pipelines.softmatcher import Softmatcher

_HOMES = {
    "CacheConfig": "softmatch_jax.pipelines.feature_cache",
    "CacheStats": "softmatch_jax.pipelines.feature_cache",
    "ClassSegmentation": "softmatch_jax.pipelines.segmentation",
    "CompletionConfig": "softmatch_jax.pipelines.config",
    "DecisionConfig": "softmatch_jax.pipelines.config",
    "Encoded": "softmatch_jax.pipelines.reference",
    "FeatureCache": "softmatch_jax.pipelines.feature_cache",
    "Instance": "softmatch_jax.pipelines.segmentation",
    "MatchingConfig": "softmatch_jax.pipelines.config",
    "ModelsConfig": "softmatch_jax.pipelines.config",
    "ProSAM": "softmatch_jax.pipelines.prosam",
    "ProSamConfig": "softmatch_jax.pipelines.prosam_config",
    "ProSamReference": "softmatch_jax.pipelines.prosam_reference",
    "PromptingConfig": "softmatch_jax.pipelines.config",
    "Reference": "softmatch_jax.pipelines.reference",
    "Segmentation": "softmatch_jax.pipelines.segmentation",
    "Softmatcher": "softmatch_jax.pipelines.softmatcher",
    "SoftmatcherConfig": "softmatch_jax.pipelines.config",
    "default_cache_folder": "softmatch_jax.pipelines.feature_cache",
}

__all__ = [
    "CacheConfig",
    "CacheStats",
    "ClassSegmentation",
    "CompletionConfig",
    "DecisionConfig",
    "Encoded",
    "FeatureCache",
    "Instance",
    "MatchingConfig",
    "ModelsConfig",
    "ProSAM",
    "ProSamConfig",
    "ProSamReference",
    "PromptingConfig",
    "Reference",
    "Segmentation",
    "Softmatcher",
    "SoftmatcherConfig",
    "default_cache_folder",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
