"""Batches for training a promptable segmenter: views of pictures, regions in them, and prompts for each.

A batch is a pure function of a seed and a step, so that a run that goes on after a stop sees what it would
have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.data.episodes import checksum
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.training.augmenting import Labels, View, draw_view, recolour
from softmatch_jax.training.pasting import paste
from softmatch_jax.training.region_config import RegionBatchConfig
from softmatch_jax.training.region_drawing import Drawn, draw_objects, sample_size
from softmatch_jax.training.task import Batch

_TRIES = 8  # views of other pictures, until one shows a region of the right size
_AIMED = 2  # further views of each that are aimed at a region


@dataclass(frozen=True, kw_only=True)
class RegionSource:
    """Pictures of one data set.

    Attributes:
        name: For messages and checksums, such as ``bsds500 train``.
        pictures: At least one.
        weight: How often pictures are drawn from here, relative to other sources.
    """

    name: str
    pictures: tuple[RegionPicture, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.pictures:
            raise InputError(f"The source {self.name!r} has no picture; expected at least one.")
        if not 0 < self.weight < math.inf:
            raise InputError(f"The weight of {self.name!r} is {self.weight}; expected a number above 0.")


class RegionBatches:
    """Draws batches from several data sets. May be shared by threads.

    Args:
        sources: The data sets, at least one.
        config: What batches look like.
        cache: Where decoded pictures are kept; by default one of its own.

    Attributes:
        digest: Checksum of all that decides the batches but the contents of files, wherever these lie.

    Raises:
        InputError: There is no source, or two have one name.
    """

    def __init__(
        self,
        sources: Sequence[RegionSource],
        config: RegionBatchConfig | None = None,
        cache: RegionCache | None = None,
    ) -> None:
        names = [source.name for source in sources]
        if not sources or len(set(names)) < len(names):
            raise InputError(f"The sources are {names}; expected at least one, each with a name of its own.")
        self.sources = tuple(sources)
        self.config = RegionBatchConfig() if config is None else config
        self.cache = RegionCache() if cache is None else cache
        weights = np.array([source.weight for source in self.sources])
        self._shares = weights / weights.sum()
        self.digest = _digest(self.sources, self.config, self.cache.longest)

    def batch(self, seed: int, step: int) -> Batch:
        """The batch of ``B`` pictures with ``K`` regions each at a step: a pure function of both.

        Returns:
            - ``images``: ``uint8 [B, S, S, 3]``, the picture at the top left, 0 elsewhere.
            - ``content``: ``int32 [B, 2]``, height and width of the picture; even.
            - ``masks``: ``bool [B, K, S/2, S/2]``.
            - ``weights``: ``float32 [B, K]``, 1, or 0 where there is no region; all else of it is 0 too.
              With ``drawing.again`` a slot may hold a region of an earlier one, by another prompt.
            - ``centres``: ``float32 [B, K, 2]``, ``x, y`` of the mask's pixel deepest inside.
            - ``points``: ``float32 [B, K, 2]``, the centre of any pixel of the view inside.
            - ``boxes``: ``float32 [B, K, 4]``, ``x0, y0, x1, y1``, jittered.
            - ``correct``: ``bool [B]``, false, at the steps that ask for corrections only.

        Raises:
            InputError: A number is negative, a file cannot be used, or no picture that was drawn has a region
                of the right size.
        """
        if seed < 0 or step < 0:
            raise InputError(f"seed is {seed} and step {step}; expected 0 or more.")
        side, count = self.config.stage(step)
        batch = _empty(count, self.config.prompts, side)
        for index in range(count):
            self._fill(batch, index, side, np.random.default_rng([seed, step, index]))
        if not batch["weights"].any():
            low, high = self.config.drawing.min_area, self.config.drawing.max_area
            raise InputError(
                f"{count * _TRIES} pictures of {', '.join(source.name for source in self.sources)} show no "
                f"region of {low:g} to {high:g} of a view; lower min_area, or check the masks."
            )
        every = self.config.correct_every
        if every and step % every == every - 1:
            batch["correct"] = np.zeros(count, np.bool_)
        return batch

    def _fill(self, batch: Batch, index: int, side: int, rng: np.random.Generator) -> None:
        """Draws one picture; one without regions is left if no other turns up."""
        for _ in range(_TRIES):
            image, labels = self._picture(rng)
            view, objects = self._view(rng, labels, side)
            if objects:
                break
        height, width = view.content
        shown = recolour(rng, view.cut(image), self.config.colours)
        if rng.random() < self.config.pasting.share:
            shown, objects = self._pasted(rng, shown, view, labels)
        batch["images"][index, :height, :width] = shown
        batch["content"][index] = view.content
        for slot, drawn in enumerate(objects):
            batch["masks"][index, slot, : height // 2, : width // 2] = drawn.mask
            batch["weights"][index, slot] = 1
            batch["centres"][index, slot] = drawn.centre
            batch["points"][index, slot] = drawn.point
            batch["boxes"][index, slot] = drawn.box

    def _picture(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A picture of any source and one of its label maps."""
        source = self.sources[int(rng.choice(len(self.sources), p=self._shares))]
        image, maps = self.cache.read(source.pictures[int(rng.integers(len(source.pictures)))])
        return image, maps[int(rng.integers(len(maps)))]

    def _pasted(
        self, rng: np.random.Generator, shown: Image, view: View, labels: Labels
    ) -> tuple[Image, list[Drawn]]:
        """The view with regions of another picture in it, and objects of both."""
        other, other_labels = self._picture(rng)
        taken = draw_view(rng, other_labels.shape, view.side, self.config.framing)
        shown, mixed = paste(
            rng,
            shown,
            view.cut_labels(labels, sample_size(view.content)),
            recolour(rng, taken.cut(other), self.config.colours),
            taken.cut_labels(other_labels, sample_size(taken.content)),
            self.config.pasting,
        )
        return shown, draw_objects(rng, mixed, view.side, self.config.prompts, self.config.drawing)

    def _view(self, rng: np.random.Generator, labels: Labels, side: int) -> tuple[View, list[Drawn]]:
        """A view with objects; if it has none, one that shows some region's pixel, if there is any."""
        size, framing = labels.shape, self.config.framing
        view = draw_view(rng, size, side, framing)
        objects = self._objects(rng, view, labels)
        for _ in range(_AIMED):
            if objects or not labels.any():
                break
            places = np.flatnonzero(labels)
            y, x = divmod(int(places[rng.integers(len(places))]), size[1])
            view = draw_view(rng, size, side, framing, aim=(x, y))
            objects = self._objects(rng, view, labels)
        return view, objects

    def _objects(self, rng: np.random.Generator, view: View, labels: Labels) -> list[Drawn]:
        cut = view.cut_labels(labels, sample_size(view.content))
        return draw_objects(rng, cut, view.side, self.config.prompts, self.config.drawing)


def _empty(count: int, prompts: int, side: int) -> Batch:
    return {
        "images": np.zeros((count, side, side, 3), np.uint8),
        "content": np.zeros((count, 2), np.int32),
        "masks": np.zeros((count, prompts, side // 2, side // 2), np.bool_),
        "weights": np.zeros((count, prompts), np.float32),
        "centres": np.zeros((count, prompts, 2), np.float32),
        "points": np.zeros((count, prompts, 2), np.float32),
        "boxes": np.zeros((count, prompts, 4), np.float32),
    }


def _digest(sources: Sequence[RegionSource], config: RegionBatchConfig, longest: int) -> str:
    data = [
        [source.name, source.weight, [[picture.name, picture.maps.reading] for picture in source.pictures]]
        for source in sources
    ]
    return checksum([data, asdict(config), longest])
