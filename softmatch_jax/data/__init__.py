"""Annotation files and annotation simulators."""

from softmatch_jax.data.annotation_files import read_annotations, write_annotations
from softmatch_jax.data.simulators import simulate_box, simulate_points, simulate_scribbles

__all__ = [
    "read_annotations",
    "simulate_box",
    "simulate_points",
    "simulate_scribbles",
    "write_annotations",
]
