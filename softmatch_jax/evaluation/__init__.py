"""Metrics with intervals, comparisons of runs, and the loop that evaluates a method over episodes."""

from softmatch_jax.evaluation.boundaries import BoundaryCounts, count_boundaries
from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.intervals import Interval, bootstrap, spread
from softmatch_jax.evaluation.metrics import intersection_over_union
from softmatch_jax.evaluation.pairing import Comparison, compare
from softmatch_jax.evaluation.pooling import EpisodeScore, PooledScores
from softmatch_jax.evaluation.rates import Confusion
from softmatch_jax.evaluation.records import EpisodeRecord, read_records
from softmatch_jax.evaluation.running import EvaluationProtocol, choose_places, run_episodes, shard
from softmatch_jax.evaluation.segmenter import Segmenter
from softmatch_jax.evaluation.table import EpisodeTable

__all__ = [
    "BoundaryCounts",
    "Comparison",
    "Confusion",
    "Counts",
    "EpisodeRecord",
    "EpisodeScore",
    "EpisodeTable",
    "EvaluationProtocol",
    "Interval",
    "PooledScores",
    "Segmenter",
    "bootstrap",
    "choose_places",
    "compare",
    "count",
    "count_boundaries",
    "intersection_over_union",
    "read_records",
    "run_episodes",
    "shard",
    "spread",
]
