"""What ``softmatch train prosam`` trains on, and what it validates on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from softmatch_jax._checks import InputError
from softmatch_jax.cli.train_arguments import parse_data
from softmatch_jax.cli.train_prosam_config import Select, TrainProsamConfig
from softmatch_jax.data.annotating import TrainingAnnotator
from softmatch_jax.data.episodes import checksum
from softmatch_jax.data.pascal_coco_draws import PUBLISHED_SEED
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.data.training_sets import TrainingData, open_training
from softmatch_jax.training.prompt_pairs import EpisodePairs, Pair, PairSource, ViewPairs
from softmatch_jax.training.prompt_validation import Question, episode_questions, view_questions

_RASTER = (512, 512)  # of published annotations


class Weighed(NamedTuple):
    """Pairs of one origin, annotated in one way or another.

    Attributes:
        sources: One for each kind of annotation.
        weight: How often pairs come from here, relative to others.
        pictures: Pairs in an epoch.
    """

    sources: tuple[PairSource, ...]
    weight: float
    pictures: int


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptData:
    """All data of a training.

    Attributes:
        parts: To train on.
        data: The data set with classes, if there is one.
        held_views: Views to validate on, if there are any.
        annotators: How references are annotated.
    """

    parts: tuple[Weighed, ...]
    data: TrainingData | None
    held_views: tuple[ViewPairs, ...]
    annotators: tuple[TrainingAnnotator, ...]

    @property
    def sources(self) -> list[tuple[PairSource, float]]:
        """Those of all parts with their weights; kinds of annotation share that of their part."""
        return [(each, part.weight / len(part.sources)) for part in self.parts for each in part.sources]

    @property
    def epoch(self) -> int:
        """Pairs in an epoch."""
        return sum(part.pictures for part in self.parts)

    def describe(self) -> list[dict[str, Any]]:
        """The parts, as JSON can hold them."""
        return [
            {"name": part.sources[0].name, "weight": part.weight, "pictures": part.pictures}
            for part in self.parts
        ]

    def selection(self, select: Select | None) -> Select:
        """By what the best encoder is chosen.

        Raises:
            InputError: Nothing is held out for it.
        """
        chosen: Select = select or ("base" if self.data is not None else "views")
        if chosen == "base" and (self.data is None or self.data.validation is None):
            raise InputError(
                "No pictures are held out to choose the best encoder by; expected --held-share above 0 or "
                "--held-folder with a data set of two or more pictures of a class there (or --select none, "
                "or --select views)."
            )
        if chosen == "views" and not self.held_views:
            raise InputError(
                "There are no held-out views to choose the best encoder by; expected --validate-views "
                "KIND:FOLDER[:PART] (or --select none)."
            )
        if chosen == "novel" and (self.data is None or self.data.evaluation is None):
            raise InputError(
                "--select novel chooses by the novel classes, and there are none; expected --fold or --novel "
                "too (or --select base)."
            )
        return chosen

    def questions(self, chosen: Select, count: int) -> list[Question]:
        """The held-out pairs to choose by."""
        if chosen == "views":
            return view_questions(self.held_views, count)
        assert self.data is not None
        episodes = self.data.validation if chosen == "base" else self.data.evaluation
        assert episodes is not None
        return episode_questions(episodes, count, self.annotators)

    def held_digest(self, chosen: Select) -> str | None:
        """Checksum of what the best encoder is chosen by."""
        if chosen == "none":
            return None
        if chosen == "views":
            return checksum([source.digest for source in self.held_views])
        assert self.data is not None
        episodes = self.data.validation if chosen == "base" else self.data.evaluation
        assert episodes is not None
        return checksum([episodes.sampling, episodes.digest])


class PublishedSeed:
    """Pairs whose published draws are seeded with the seed of the training, as the published code seeds them.

    Attributes:
        name: That of the pairs.
        digest: That of the pairs.
    """

    def __init__(self, pairs: EpisodePairs) -> None:
        self._pairs, self.name, self.digest = pairs, pairs.name, pairs.digest

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, seed: int, index: int) -> Pair:
        """See :class:`~softmatch_jax.training.prompt_pairs.PairSource`."""
        return self._pairs.pair(seed - PUBLISHED_SEED, index)


def open_data(config: TrainProsamConfig) -> PromptData:
    """Reads the lists of all data; no picture yet.

    Raises:
        InputError: There are none, an option does not suit them, they are not whole, or a picture is both
            trained on and held out.
    """
    annotators = _annotators(config)
    data = _data_set(config)
    parts = [] if data is None else [_episodes(config, data, annotators)]
    trained: list[RegionPicture] = []
    cache = RegionCache()
    for text in config.views:
        views, pictures, weight = _views(text, "--views", config, annotators, cache)
        trained += pictures
        parts.append(Weighed(views, weight, len(pictures)))
    if not parts:
        raise InputError(
            "No data was given; expected --dataset NAME with --root FOLDER, or --views KIND:FOLDER."
        )
    held_views: tuple[ViewPairs, ...] = ()
    if config.validate_views is not None:
        held_views, held, _ = _views(config.validate_views, "--validate-views", config, annotators, cache)
        _check_apart(
            "--validate-views", held, {os.path.realpath(each.image) for each in trained}, "trained on"
        )
    _check_views(trained, data)
    return PromptData(parts=tuple(parts), data=data, held_views=held_views, annotators=annotators)


def _annotators(config: TrainProsamConfig) -> tuple[TrainingAnnotator, ...]:
    kinds = config.annotation or ("mask",)
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise InputError(f"--annotation {twice} is given twice; expected it once.")
    raster = _RASTER if config.annotation_mode == "published" else None
    return tuple(TrainingAnnotator(kind=kind, mode=config.annotation_mode, raster=raster) for kind in kinds)


def _data_set(config: TrainProsamConfig) -> TrainingData | None:
    if config.dataset is None:
        if config.root is not None:
            raise InputError("--root is given without a data set; expected --dataset folder, or another.")
        return None
    if config.root is None:
        raise InputError(f"--dataset {config.dataset} needs its folder; expected --root FOLDER.")
    if config.sampling == "published" and config.training.seed < PUBLISHED_SEED:
        raise InputError(
            f"--seed is {config.training.seed}, but published sampling counts its seeds from "
            f"{PUBLISHED_SEED}; expected that or more."
        )
    return open_training(config.training_source())


def _episodes(
    config: TrainProsamConfig, data: TrainingData, annotators: Sequence[TrainingAnnotator]
) -> Weighed:
    # The sources draw the same episodes, so that whichever annotates, each picture is a target once an epoch.
    pairs = [EpisodePairs(data.episodes, annotator) for annotator in annotators]
    sources: list[PairSource] = list(pairs)
    if config.sampling == "published":
        sources = [PublishedSeed(each) for each in pairs]
    return Weighed(tuple(sources), 1.0, len(data.episodes))


def _views(
    text: str,
    option: str,
    config: TrainProsamConfig,
    annotators: Sequence[TrainingAnnotator],
    cache: RegionCache,
) -> tuple[tuple[ViewPairs, ...], tuple[RegionPicture, ...], float]:
    """Views of a data set of regions, its pictures, and how often pairs come from there."""
    words = parse_data(text, option)
    if option != "--views" and words.weight is not None:
        raise InputError(f"{option} is {text!r}, with a weight; expected KIND:FOLDER[:PART] (leave it out).")
    pictures = open_region_pictures(words.kind, words.root, words.part)
    views = tuple(
        ViewPairs(f"views of {words.name}", pictures, config.view, annotator, cache)
        for annotator in annotators
    )
    return views, pictures, 1.0 if words.weight is None else words.weight


def _check_views(trained: Sequence[RegionPicture], data: TrainingData | None) -> None:
    """Refuses views that show what the data set keeps from the training."""
    if data is None:
        return
    for episodes, what in ((data.evaluation, "of novel classes"), (data.validation, "held out")):
        if episodes is not None:
            samples = [sample for listed in episodes.lists.samples.values() for sample in listed]
            _check_apart("--views", trained, {os.path.realpath(each.image) for each in samples}, what)


def _check_apart(option: str, pictures: Sequence[RegionPicture], others: set[str], what: str) -> None:
    common = [picture.name for picture in pictures if os.path.realpath(picture.image) in others]
    if common:
        listed = ", ".join(common[:20]) + (", ..." if len(common) > 20 else "")
        raise InputError(
            f"{option} has {len(common)} pictures that are {what} ({listed}); expected others, so that "
            "nothing leaks."
        )
