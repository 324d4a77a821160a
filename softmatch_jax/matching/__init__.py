"""The mathematics of soft matching: arrays in, arrays out.

Functions are pure, take one target, and are neither jitted nor vmapped here; callers do both.
"""

from softmatch_jax.matching._features import unit_norm
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching.arithmetic import arithmetic_contrast, arithmetic_mean, log_density
from softmatch_jax.matching.geometric import (
    geometric_contrast,
    geometric_mean,
    geometric_mean_dense,
    weighted_mean,
)
from softmatch_jax.matching.resemblance import resemblance, squared_mmd
from softmatch_jax.matching.threshold import Cut, otsu_threshold
from softmatch_jax.matching.whitening import Moments, Whitening, moments, whiten, whitening

__all__ = [
    "Cut",
    "MatchMap",
    "Moments",
    "Whitening",
    "arithmetic_contrast",
    "arithmetic_mean",
    "geometric_contrast",
    "geometric_mean",
    "geometric_mean_dense",
    "log_density",
    "match_map",
    "moments",
    "otsu_threshold",
    "resemblance",
    "squared_mmd",
    "unit_norm",
    "weighted_mean",
    "whiten",
    "whitening",
]
