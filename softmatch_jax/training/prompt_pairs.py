"""Pairs of a reference and a target to train a prompt encoder on: two pictures, or one picture's views."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Mask
from softmatch_jax.data.annotating import TrainingAnnotator
from softmatch_jax.data.episodes import Episode, Truth, checksum
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.data.training_episodes import TrainingEpisodes, first_usable
from softmatch_jax.imaging import image_size
from softmatch_jax.training.augmenting import Labels, draw_view, recolour
from softmatch_jax.training.prompt_config import ViewConfig
from softmatch_jax.training.region_config import Colours, Framing

_TRIES = 32
_VIEWS = 0x76696577  # sets these draws apart from others


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture of a pair.

    Attributes:
        key: Names the picture; two of one key are equal.
        image: Makes it, ``uint8 [H, W, 3]``; not called where its features are known.
        mask: ``bool [H, W]``: of a reference what is annotated, of a target where the object is.
    """

    key: str
    image: Callable[[], Image]
    mask: Mask


@dataclass(frozen=True, eq=False)
class Pair:
    """One question of a training.

    Attributes:
        reference: With the annotated pixels.
        target: With the object.
    """

    reference: Shown
    target: Shown


class PairSource(Protocol):
    """Where pairs come from.

    Attributes:
        name: For messages.
        digest: Checksum of all that decides the pairs.
    """

    name: str
    digest: str

    def __len__(self) -> int:
        """Pairs in an epoch."""

    def pair(self, seed: int, index: int) -> Pair:
        """The pair at ``index`` of an endless stream: a pure function of both. Threads may share a source."""


class EpisodePairs:
    """Pairs of two pictures that show one class.

    Attributes:
        name: That of the episodes.
        digest: Checksum of the episodes and of the annotations.
    """

    def __init__(self, episodes: TrainingEpisodes, annotator: TrainingAnnotator | None = None) -> None:
        self._episodes, self._annotator = episodes, annotator or TrainingAnnotator()
        self.name = episodes.name
        self.digest = checksum([episodes.digest, asdict(self._annotator)])

    def __len__(self) -> int:
        return len(self._episodes)

    def pair(self, seed: int, index: int) -> Pair:
        """See :class:`PairSource`. Void pixels are background, as in the published training.

        Raises:
            InputError: A file cannot be read, or no episode drawn shows its class.
        """

        def usable(episode: Episode) -> Pair | None:
            near, far = episode.references[0], episode.target
            # The truths alone: the pictures are decoded where their features are not known.
            reference, target = (sample.truth.read(image_size(sample.image)) for sample in (near, far))
            if not (reference.mask.any() and target.mask.any()):
                return None
            marked = self._annotator(reference, seed=seed, index=index)
            # Published strokes may miss the object, and published training goes on with nothing marked.
            if self._annotator.mode == "fixed" and not marked.any():
                return None
            return Pair(
                Shown(_key(near.image), lambda: near.read().image, marked),
                Shown(_key(far.image), lambda: far.read().image, target.mask),
            )

        return first_usable(self._episodes, seed, index, usable)


class ViewPairs:
    """Pairs of two views of one picture, which show the same region; no classes are needed.

    Every picture has a few views, the same for all seeds, so that their features can be kept.

    Attributes:
        name: The data set.
        digest: Checksum of the pictures, the views and the annotations.
    """

    def __init__(
        self,
        name: str,
        pictures: tuple[RegionPicture, ...],
        config: ViewConfig | None = None,
        annotator: TrainingAnnotator | None = None,
        cache: RegionCache | None = None,
    ) -> None:
        if not pictures:
            raise InputError(f"The source {name!r} has no picture; expected at least one.")
        self.name, self._pictures = name, pictures
        self._config, self._annotator = config or ViewConfig(), annotator or TrainingAnnotator()
        self._cache = cache or RegionCache()
        self._framing, self._colours = Framing(whole=0.0, smallest=0.6), Colours()
        listed = [[picture.name, picture.maps.reading] for picture in pictures]
        made = [asdict(self._framing), asdict(self._colours), self._cache.longest]
        self.digest = checksum([name, listed, asdict(self._config), asdict(self._annotator), made])

    def __len__(self) -> int:
        return len(self._pictures)

    def pair(self, seed: int, index: int) -> Pair:
        """See :class:`PairSource`.

        Raises:
            InputError: A file cannot be read, or no region of the right size turned up.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(_VIEWS,)))
        for _ in range(_TRIES):
            picture = self._pictures[int(rng.integers(len(self._pictures)))]
            maps = self._cache.read(picture)[1]
            labels = maps[int(rng.integers(len(maps)))]
            numbers = rng.permutation(self._config.views)[:2]
            views = [self._labels(picture, labels, int(number)) for number in numbers]
            common = self._regions(views[0]) & self._regions(views[1])
            if common:
                region = sorted(common)[int(rng.integers(len(common)))]
                near, far = (view == region for view in views)
                marked = self._annotator(Truth(near), seed=seed, index=index)
                if marked.any():
                    return Pair(
                        self._shown(picture, int(numbers[0]), marked),
                        self._shown(picture, int(numbers[1]), far),
                    )
        raise InputError(
            f"{_TRIES} pairs of views of {self.name} have no region in common of {self._config.min_area:g} "
            f"to {self._config.max_area:g} of both; lower min_area, or check the masks."
        )

    def _shown(self, picture: RegionPicture, number: int, mask: Mask) -> Shown:
        return Shown(f"{_key(picture.image)}#{number}", lambda: self._image(picture, number), mask)

    def _regions(self, labels: Labels) -> set[int]:
        """Numbers of the regions of the right size."""
        shares = np.bincount(labels.ravel()) / labels.size
        fit = (shares > 0) & (shares >= self._config.min_area) & (shares <= self._config.max_area)
        return set(np.flatnonzero(fit).tolist()) - {0}

    def _image(self, picture: RegionPicture, number: int) -> Image:
        image = self._cache.read(picture)[0]
        rng = self._generator(picture, number)
        view = draw_view(rng, image.shape[:2], self._config.side, self._own_framing(number))
        shown = view.cut(image)
        return recolour(rng, shown, self._colours) if number else shown

    def _labels(self, picture: RegionPicture, labels: Labels, number: int) -> Labels:
        rng = self._generator(picture, number)
        view = draw_view(rng, labels.shape, self._config.side, self._own_framing(number))
        return view.cut_labels(labels, view.content)

    def _own_framing(self, number: int) -> Framing:
        return self._framing if number else replace(self._framing, whole=1.0, mirrored=0.0)

    def _generator(self, picture: RegionPicture, number: int) -> np.random.Generator:
        name = zlib.crc32(picture.name.encode(errors="surrogateescape"))
        return np.random.default_rng(np.random.SeedSequence([name, number], spawn_key=(_VIEWS,)))


def _key(image: Path) -> str:
    """Names a picture's file: two sources of one name may lie in different places."""
    return os.path.realpath(image)
