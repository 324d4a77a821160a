"""The questions of a study: episodes of novel classes, or pairs of views of held-out pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, Protocol, get_args

from softmatch_jax._checks import InputError
from softmatch_jax.cli.study_config import StudyConfig
from softmatch_jax.cli.train_arguments import parse_data
from softmatch_jax.data.annotating import Annotator, TrainingAnnotator
from softmatch_jax.data.coco20i import open_coco20i
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import EpisodeSet
from softmatch_jax.data.pascal5i import open_pascal5i
from softmatch_jax.data.pascal_lists import Grouping
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.data.training_sets import open_training
from softmatch_jax.models.prosam.frozen_sam import EncodedScene
from softmatch_jax.models.prosam.predictor import PromptReference, deepen, mask_to_grid
from softmatch_jax.studies.config import check_count
from softmatch_jax.studies.question import Contender, Question, ask
from softmatch_jax.training.prompt_pairs import ViewPairs
from softmatch_jax.training.prompt_store import FrozenStore

REGION = "region"
"""The class of a question about a view."""

_GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
_OF_FOLDERS = (
    "folds", "scheme", "novel", "exclude", "held_share", "held_folder", "held_seed", "layout",
    "mask_threshold", "void", "label", "min_area",
)  # fmt: skip
_MOST_BYTES = 1 << 28  # pictures kept for the next questions


class Asks(Protocol):
    """Makes the questions of a part of the data as a contender takes them."""

    def __call__(self, contender: Contender) -> Iterator[Question]:
        """One question after the other."""


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """A part of the data of a study.

    Attributes:
        name: Of the data.
        digest: Checksum of all that decides the questions.
        count: Of the questions.
        asks: Makes them.
    """

    name: str
    digest: str
    count: int
    asks: Asks


def open_data(config: StudyConfig) -> tuple[StudyData, ...]:
    """The parts of the data: one, and for the study ``domain`` one for each grouping of classes.

    Raises:
        InputError: The data are not there or not whole, or an option does not suit them.
    """
    if config.seed < 0:
        raise InputError(f"--seed is {config.seed}; expected 0 or more.")
    if config.episodes is not None:
        check_count("--episodes", config.episodes)
    if config.views is not None:
        return (_views(config, config.views),)
    if config.study == "domain":
        return tuple(_episodes(replace(config, grouping=grouping)) for grouping in _GROUPINGS)
    return (_episodes(config),)


def _episodes(config: StudyConfig) -> StudyData:
    episodes = open_episodes(config)
    annotator = Annotator(kind=config.annotation, mode="fixed")

    def asks(contender: Contender) -> Iterator[Question]:
        predictor = contender.predictor
        return ask(
            predictor.features,
            predictor.sam,
            episodes,
            annotator,
            to_grid=predictor.config.to_grid,
            count=config.episodes,
            seed=config.seed,
        )

    count = len(episodes) if config.episodes is None else min(config.episodes, len(episodes))
    return StudyData(name=episodes.name, digest=episodes.digest, count=count, asks=asks)


def open_episodes(config: StudyConfig) -> EpisodeSet:
    """Episodes of the novel classes as the training would evaluate them.

    Raises:
        InputError: As :func:`open_data`.
    """
    source = config.training_source()
    if config.dataset == "folder":
        # Only there the pictures that training held out are asked about; else few pictures may do.
        if config.exclude == "pictures":
            source = replace(source, held_share=0.0, held_folder="")
        data = open_training(source)
        if data.evaluation is None:
            return CorrectedEpisodes(data.episodes.lists, 1)
        return data.evaluation
    _check_public(config)
    # Without the lists of training pictures, which need not be there to evaluate.
    asked: dict[str, Any] = {"fold": config.fold, "shots": 1, "sampling": config.sampling}
    asked["classes"] = config.classes or None
    if config.dataset == "coco20i":
        return open_coco20i(source.root, **asked)
    return open_pascal5i(source.root, grouping=config.grouping, **asked)


def _check_public(config: StudyConfig) -> None:
    """Raises ``InputError`` where an option has no meaning for a public data set."""
    if config.fold is None:
        raise InputError(f"{config.dataset} needs a fold; expected --fold 0, 1, 2 or 3.")
    unset = {each.name: each.default for each in fields(StudyConfig)}
    for option in _OF_FOLDERS:
        if getattr(config, option) != unset[option]:
            raise InputError(
                f"--{option.replace('_', '-')} is given for {config.dataset}; expected it with folder only "
                "(leave it out)."
            )
    if config.grouping == "coco" and config.dataset != "pascal5i":
        raise InputError(
            f"--grouping coco is given for {config.dataset}; expected it with pascal5i only (leave it out)."
        )


def _views(config: StudyConfig, text: str) -> StudyData:
    words = parse_data(text, "--views")
    if words.weight is not None:
        raise InputError(f"--views is {text!r}, with a weight; expected KIND:FOLDER[:PART] (leave it out).")
    pictures = open_region_pictures(words.kind, words.root, words.part)
    annotator = TrainingAnnotator(kind=config.annotation, mode="fixed")
    pairs = ViewPairs(f"views of {words.name}", pictures, config.view, annotator)
    count = len(pairs) if config.episodes is None else config.episodes
    asks = partial(ask_views, pairs=pairs, count=count, seed=config.seed)
    return StudyData(name=pairs.name, digest=pairs.digest, count=count, asks=asks)


def ask_views(contender: Contender, *, pairs: ViewPairs, count: int, seed: int) -> Iterator[Question]:
    """Questions of pairs of views.

    All are of the class ``region``, and of the whole picture as their target: views of one picture are drawn
    together for intervals.
    """
    predictor = contender.predictor
    store = FrozenStore(predictor.features, predictor.sam, most_bytes=_MOST_BYTES)
    to_grid = predictor.config.to_grid
    for index in range(count):
        pair = pairs.pair(seed, index)
        shown, asked = (store.get(each.key, each.image) for each in (pair.reference, pair.target))
        cells = mask_to_grid(pair.reference.mask, shown.features.grid, to_grid)
        deep = deepen(predictor.features, shown.features.values, cells)
        yield Question(
            index=index,
            class_name=REGION,
            target=pair.target.key.rpartition("#")[0],
            scene=EncodedScene(asked.scene, asked.raster),
            features=asked.features,
            truth=pair.target.mask,
            void=None,
            references=(PromptReference(shown.features, cells, deep),),
            to_grid=to_grid,
        )


def describe_data(config: StudyConfig, parts: tuple[StudyData, ...]) -> dict[str, Any]:
    """What was asked about, as JSON can hold it, wherever files lie."""
    return {
        "parts": [{"name": part.name, "digest": part.digest, "questions": part.count} for part in parts],
        "view": asdict(config.view) if config.views is not None else None,
        "annotation": config.annotation,
        "seed": config.seed,
    }
