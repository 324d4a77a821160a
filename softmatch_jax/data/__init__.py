"""Data sets as pure functions from seed and index to episodes, annotation files, annotation simulators."""

from softmatch_jax.data.annotating import AnnotationMode, Annotator
from softmatch_jax.data.annotation_files import read_annotations, write_annotations
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import (
    AnnotatedPicture,
    ClassLists,
    Episode,
    EpisodeSet,
    Sample,
    Sampling,
    Truth,
    TruthSource,
)
from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.published_annotations import AnnotationKind, published_annotation, to_feature_grid
from softmatch_jax.data.simulators import simulate_box, simulate_points, simulate_scribbles

__all__ = [
    "AnnotatedPicture",
    "AnnotationKind",
    "AnnotationMode",
    "Annotator",
    "ClassLists",
    "CorrectedEpisodes",
    "Episode",
    "EpisodeSet",
    "Sample",
    "Sampling",
    "Truth",
    "TruthSource",
    "open_folder",
    "published_annotation",
    "read_annotations",
    "simulate_box",
    "simulate_points",
    "simulate_scribbles",
    "to_feature_grid",
    "write_annotations",
]
