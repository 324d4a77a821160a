"""Reading, resizing, drawing and writing of images and masks; no models, no JAX."""

from softmatch_jax.imaging.opening import DEFAULT_MAX_PIXELS, IMAGE_FORMATS, IMAGE_SUFFIXES
from softmatch_jax.imaging.overlay import (
    class_palette,
    heat_map,
    overlay_labels,
    overlay_points,
    overlay_strokes,
    overlay_uncertainty,
)
from softmatch_jax.imaging.reading import image_size, read_image, read_labels, read_mask, read_painting
from softmatch_jax.imaging.resizing import (
    crop_to,
    fit_longest,
    pad_image_edge,
    pad_to,
    resize_image,
    resize_labels,
    resize_map,
    resize_mask,
)
from softmatch_jax.imaging.sheet import Tile, contact_sheet
from softmatch_jax.imaging.writing import (
    MAP_SCALE,
    atomic_write_bytes,
    atomic_write_text,
    write_image,
    write_indexed_mask,
    write_map,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "MAP_SCALE",
    "Tile",
    "atomic_write_bytes",
    "atomic_write_text",
    "class_palette",
    "contact_sheet",
    "crop_to",
    "fit_longest",
    "heat_map",
    "image_size",
    "overlay_labels",
    "overlay_points",
    "overlay_strokes",
    "overlay_uncertainty",
    "pad_image_edge",
    "pad_to",
    "read_image",
    "read_labels",
    "read_mask",
    "read_painting",
    "resize_image",
    "resize_labels",
    "resize_map",
    "resize_mask",
    "write_image",
    "write_indexed_mask",
    "write_map",
]
