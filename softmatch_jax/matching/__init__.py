"""The mathematics of soft matching: arrays in, arrays out.

:func:`prepare` and :func:`match` are the front door, compiled there, with a method for every need in
:data:`METHODS`. The functions behind it are pure, take one target, and are neither jitted nor vmapped.
"""

from softmatch_jax.matching._features import unit_norm
from softmatch_jax.matching._match_map import Diagnostics, MatchMap, match_map
from softmatch_jax.matching._values import ConvergenceWarning
from softmatch_jax.matching.arithmetic import Arithmetic, arithmetic_contrast, arithmetic_mean, log_density
from softmatch_jax.matching.assignment import Hungarian, assign
from softmatch_jax.matching.batch import match_batch
from softmatch_jax.matching.bidirectional import Bidirectional
from softmatch_jax.matching.cumulant import Cumulant
from softmatch_jax.matching.geometric import (
    Geometric,
    GeometricDense,
    geometric_contrast,
    geometric_mean,
    geometric_mean_dense,
    weighted_mean,
)
from softmatch_jax.matching.interface import METHODS, match, prepare
from softmatch_jax.matching.quadratic import Quadratic, quadratic_mean
from softmatch_jax.matching.random_feature_matching import RandomFeatures
from softmatch_jax.matching.random_features import FeatureMap, make_feature_map
from softmatch_jax.matching.resemblance import resemblance, squared_mmd
from softmatch_jax.matching.state import ReferenceState, stack
from softmatch_jax.matching.threshold import Cut, otsu_threshold
from softmatch_jax.matching.transport import Sinkhorn, Transport, sinkhorn
from softmatch_jax.matching.whitening import Moments, Whitening, moments, whiten, whitening

__all__ = [
    "METHODS",
    "Arithmetic",
    "Bidirectional",
    "ConvergenceWarning",
    "Cumulant",
    "Cut",
    "Diagnostics",
    "FeatureMap",
    "Geometric",
    "GeometricDense",
    "Hungarian",
    "MatchMap",
    "Moments",
    "Quadratic",
    "RandomFeatures",
    "ReferenceState",
    "Sinkhorn",
    "Transport",
    "Whitening",
    "arithmetic_contrast",
    "arithmetic_mean",
    "assign",
    "geometric_contrast",
    "geometric_mean",
    "geometric_mean_dense",
    "log_density",
    "make_feature_map",
    "match",
    "match_batch",
    "match_map",
    "moments",
    "otsu_threshold",
    "prepare",
    "quadratic_mean",
    "resemblance",
    "sinkhorn",
    "squared_mmd",
    "stack",
    "unit_norm",
    "weighted_mean",
    "whiten",
    "whitening",
]
