"""Metrics and benchmark protocols."""

from softmatch_jax.evaluation.metrics import intersection_over_union

__all__ = ["intersection_over_union"]
