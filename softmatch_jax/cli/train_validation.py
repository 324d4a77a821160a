"""Measuring on held-out pictures while training: mean IoU from a box, a point, and of the best of three."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.cli.train_arguments import parse_data
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.evaluation.region_items import PROMPT_KINDS, RegionItem, draw_regions
from softmatch_jax.evaluation.regions import RegionScore, predictor, region_scores
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.training.region_batches import RegionSource

Validate: TypeAlias = Callable[[Mapping[str, Any]], dict[str, float]]


def open_validation(text: str | None, count: int, sources: Sequence[RegionSource]) -> Validate | None:
    """What measures the weights of the tiny model, on regions drawn once.

    Args:
        text: The data, as ``--validate`` names them; ``None`` for none.
        count: How many pictures, spread evenly over those there are.
        sources: What is trained on.

    Raises:
        InputError: The data cannot be used, hold no region to ask for, or are trained on.
    """
    if text is None:
        return None
    words = parse_data(text, "--validate")
    if words.weight is not None:
        raise InputError(
            f"--validate is {text!r}, with a weight; expected KIND:FOLDER[:PART] (leave it out)."
        )
    pictures = open_region_pictures(words.kind, words.root, words.part)
    trained = {os.path.realpath(picture.image) for source in sources for picture in source.pictures}
    common = [picture for picture in pictures if os.path.realpath(picture.image) in trained]
    if common:
        raise InputError(
            f"--validate is {text!r}, of which {len(common)} pictures are trained on ({common[0].name}); "
            "expected others (name parts, such as train for one and val for the other)."
        )
    items = [_item(picture) for picture in spread(pictures, count)]
    if not any(len(item.masks) for item in items):
        raise InputError(
            f"--validate is {text!r}, whose first regions cover less than 1 or more than 60 % of a picture; "
            "expected some between (check the masks, or take more pictures)."
        )
    return lambda weights: measure(weights, items)


def spread(pictures: Sequence[RegionPicture], count: int) -> list[RegionPicture]:
    """``count`` of the pictures at even distances; all if there are no more."""
    count = min(count, len(pictures))
    return [pictures[index * len(pictures) // count] for index in range(count)]


def measure(weights: Mapping[str, Any], items: Sequence[RegionItem]) -> dict[str, float]:
    """Mean IoU over all regions, for each kind of prompt and for the best of three masks for the centre.

    Args:
        weights: Of the tiny model, all arrays by name.
        items: Pictures and regions.
    """
    network = TinyNetwork(weights)
    single, multiple = TinySamConfig(masks="single"), TinySamConfig(masks="multiple")
    own = region_scores(predictor(TinySam(network, single)), items)
    best = region_scores(predictor(TinySam(network, multiple)), items, kinds=("centre",))
    found = {f"val_{kind}": _mean(own, kind) for kind in PROMPT_KINDS}
    return {**found, "val_best_of_three": float(np.mean([score.best.iou for score in best]))}


def _item(picture: RegionPicture) -> RegionItem:
    """Regions of the first person who drew, the same ones as where models are compared."""
    image, maps = picture.read()
    return draw_regions(picture.image.stem, image, maps[0])


def _mean(scores: Iterable[RegionScore], kind: str) -> float:
    return float(np.mean([score.answer.iou for score in scores if score.prompt == kind]))
