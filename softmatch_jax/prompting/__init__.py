"""The geometry of prompts.

Annotations become pixels (`seeds`), pixels become patches (`pool_mask`) and patches pixels again
(`unpool_map`); a map becomes points (`sample_multinomial`, `sample_top_k`), points become clusters
(`kmeans`) and clusters prompts (`prompts_from_clusters`).
"""

from softmatch_jax._clustering import Clusters, kmeans
from softmatch_jax.prompting.annotations import (
    Annotation,
    Box,
    MaskAnnotation,
    Painted,
    Points,
    Polyline,
    Scribbles,
)
from softmatch_jax.prompting.grid import PatchGrid
from softmatch_jax.prompting.painting import infer_colours, split_painting
from softmatch_jax.prompting.pooling import pool_mask, unpool_map
from softmatch_jax.prompting.prompts import Prompt, prompts_from_clusters, prompts_from_points
from softmatch_jax.prompting.rasterise import (
    bounding_box,
    draw_disc,
    draw_polyline,
    fill_box,
    window_about,
)
from softmatch_jax.prompting.sampling import SampledPoints, sample_multinomial, sample_top_k
from softmatch_jax.prompting.seeding import Seeds, point_radius, seeds

__all__ = [
    "Annotation",
    "Box",
    "Clusters",
    "MaskAnnotation",
    "Painted",
    "PatchGrid",
    "Points",
    "Polyline",
    "Prompt",
    "SampledPoints",
    "Scribbles",
    "Seeds",
    "bounding_box",
    "draw_disc",
    "draw_polyline",
    "fill_box",
    "infer_colours",
    "kmeans",
    "point_radius",
    "pool_mask",
    "prompts_from_clusters",
    "prompts_from_points",
    "sample_multinomial",
    "sample_top_k",
    "seeds",
    "split_painting",
    "unpool_map",
    "window_about",
]
