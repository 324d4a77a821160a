"""What every study asks: an episode that is ready to be predicted, and the encoders that answer it.

All contenders of a study share the features and the SAM, so that a picture is encoded once for all of them.
Questions are made one after the other; nothing of a question is kept by who has passed on to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.episodes import AnnotatedPicture, EpisodeSet, Sample, Truth
from softmatch_jax.models.prosam.config import ToGrid
from softmatch_jax.models.prosam.distribution import PromptDistribution, sample
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam
from softmatch_jax.models.prosam.predictor import (
    PictureFeatures,
    Predictor,
    PromptReference,
    deepen,
    mask_to_grid,
    see,
)
from softmatch_jax.models.protocols import FeatureExtractor
from softmatch_jax.prompting import Annotation, Box, MaskAnnotation, seeds
from softmatch_jax.studies.config import check_count
from softmatch_jax.studies.scoring import count_pixels

_KEPT = 64
"""Pictures of which what was computed waits for another question."""

Made = TypeVar("Made")


class Annotates(Protocol):
    """Annotates a reference as a person might, given the truth; pure in its arguments."""

    def __call__(self, truth: Truth, *, seed: int, index: int, shot: int) -> Annotation | None:
        """The annotation; ``None`` where nothing is left of the object."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """An episode ready to be asked.

    Attributes:
        index: Its place in the set.
        class_name: The class that is asked for.
        target: Name of the target picture.
        scene: The target as SAM sees it.
        features: The target as the encoders see it.
        truth: ``bool [H, W]``, the object at the picture's size.
        void: ``bool [H, W]``, pixels that do not count; ``None`` for none.
        references: The annotated references; one whose annotation marks nothing has an empty mask.
        to_grid: How their annotations were brought to the grid of the features.
    """

    index: int
    class_name: str
    target: str
    scene: EncodedScene
    features: PictureFeatures
    truth: Mask
    void: Mask | None
    references: tuple[PromptReference, ...]
    to_grid: ToGrid

    @property
    def entry(self) -> tuple[int, str, str]:
        """Index, class and target."""
        return self.index, self.class_name, self.target

    def counts(self, logits: Float[np.ndarray, "K side side"]) -> np.ndarray:
        """Pixels ``[K, 4]`` of decoded masks at the picture's size; see :func:`count_pixels`."""
        masks = self.scene.proposals(np.asarray(logits)).masks
        return count_pixels(masks, self.truth, self.void)

    @property
    def small_truth(self) -> Float[np.ndarray, "side side"]:
        """The share of each cell of the raster that is object; void is none, as in the published loss."""
        return self.scene.raster.reduce(self.truth.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An encoder that takes part in a study.

    Attributes:
        name: What it is called in results.
        predictor: The encoder, with the features and the SAM that all contenders share.
    """

    name: str
    predictor: Predictor

    def distributions(self, question: Question) -> tuple[PromptDistribution, ...]:
        """The distribution of the prompts of each reference."""
        predictor = self.predictor
        return tuple(predictor.prompts(reference, question.features) for reference in question.references)

    def prompts(self, question: Question) -> Float[Array, "n dim"]:
        """The mean prompts of all references, one reference after the other."""
        return jnp.concatenate([distribution.mean for distribution in self.distributions(question)])

    def samples(self, question: Question, count: int, *, key: jax.Array) -> Float[Array, "count n dim"]:
        """Sets of prompts drawn from the distribution that the encoder was trained with."""
        predicted = self.distributions(question)
        drawn = [
            sample(distribution, self.predictor.distribution, count, key=jax.random.fold_in(key, shot))
            for shot, distribution in enumerate(predicted)
        ]
        return jnp.concatenate(drawn, axis=1)

    def decode(
        self, question: Question, prompts: Float[Array, "K n dim"], *, chunk: int = 1
    ) -> Float[np.ndarray, "K side side"]:
        """Logits of the masks of several sets of prompts."""
        return np.asarray(self.predictor.decode(question.scene, prompts, chunk=chunk))


def measure_each(
    contenders: Sequence[Contender],
    questions: Iterable[Question],
    measure: Callable[[Contender, Question, jax.Array], Made],
    *,
    key: jax.Array,
) -> tuple[list[tuple[int, str, str]], tuple[tuple[Made, ...], ...]]:
    """Measures every contender on every question; in one question all are given the same key.

    Returns:
        The entries of the questions; and of each contender what was measured, question by question.

    Raises:
        InputError: See :func:`check_contenders`.
    """
    entries, measured = [], []
    for place, question in enumerate(check_contenders(contenders, questions)):
        own_key = jax.random.fold_in(key, place)
        entries.append(question.entry)
        measured.append([measure(contender, question, own_key) for contender in contenders])
    return entries, tuple(zip(*measured, strict=True))


def ask(
    features: FeatureExtractor,
    sam: FrozenSam,
    episodes: EpisodeSet,
    annotate: Annotates,
    *,
    to_grid: ToGrid,
    count: int | None = None,
    seed: int = 0,
) -> Iterator[Question]:
    """Makes questions of episodes, one at a time.

    Args:
        features: What encoders see pictures with.
        sam: What segments.
        episodes: The set.
        annotate: The annotation simulator.
        to_grid: How annotations are brought to the grid of the features: that of the contenders' encoders.
        count: Questions at most, spread evenly over the set; all when ``None``.
        seed: Of the draw of references and of the annotations.

    Raises:
        InputError: ``count`` is below 1, or a file cannot be read.
    """
    if count is not None:
        check_count("count (of questions)", count)
    number = len(episodes) if count is None else min(count, len(episodes))
    seen: dict[str, PictureFeatures] = {}
    scenes: dict[str, EncodedScene] = {}
    for place in range(number):
        index = place * len(episodes) // number
        episode = episodes.episode(seed, index)
        name, target = episode.target.name, episode.target.read()
        references = []
        for shot, each in enumerate(episode.references):
            picture = each.read()
            mask = _annotated(each, picture, partial(annotate, seed=seed, index=index, shot=shot))
            looks = _kept(seen, each.name, partial(see, features, picture.image))
            cells = mask_to_grid(mask, looks.grid, to_grid)
            references.append(PromptReference(looks, cells, deepen(features, looks.values, cells)))
        yield Question(
            index=index,
            class_name=episode.class_name,
            target=name,
            scene=_kept(scenes, name, partial(sam.encode, target.image)),
            features=_kept(seen, name, partial(see, features, target.image)),
            truth=target.truth.mask,
            void=target.truth.void,
            references=tuple(references),
            to_grid=to_grid,
        )


def load_questions(
    features: FeatureExtractor,
    sam: FrozenSam,
    episodes: EpisodeSet,
    annotate: Annotates,
    *,
    to_grid: ToGrid,
    count: int | None = None,
    seed: int = 0,
) -> tuple[Question, ...]:
    """The questions of :func:`ask`, all of them in memory, for several studies to ask."""
    return tuple(ask(features, sam, episodes, annotate, to_grid=to_grid, count=count, seed=seed))


def check_contenders(contenders: Sequence[Contender], questions: Iterable[Question]) -> Iterator[Question]:
    """Passes questions on after a look at who is to answer them.

    Raises:
        InputError: There is no contender or no question, two contenders share a name or have different
            features or SAMs, or an encoder takes annotations in another way than the questions have them.
    """
    names = [contender.name for contender in contenders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"The contenders are {names}; expected at least one, each with a name of its own.")
    for what in ("features", "sam"):
        models = sorted({getattr(contender.predictor, what).name for contender in contenders})
        if len(models) > 1:
            raise InputError(
                f"The contenders have different {what} ({', '.join(models)}); expected the same for all, so "
                "that they differ in their encoders alone."
            )
    asked = False
    for question in questions:
        for contender in contenders:
            wanted = contender.predictor.config.to_grid
            if wanted != question.to_grid:
                raise InputError(
                    f"{contender.name} takes annotations with to_grid={wanted!r}, but the questions have "
                    f"{question.to_grid!r}; expected the same (load them with to_grid={wanted!r})."
                )
        asked = True
        yield question
    if not asked:
        raise InputError("There is no question to ask; expected at least one (count or the set is empty).")


def marked_pixels(annotation: Annotation | None, size: Size) -> Mask:
    """The pixels that an annotation marks, all of a box; none when it is ``None``.

    Raises:
        InputError: It does not fit the picture.
    """
    if annotation is None:
        return np.zeros(size, np.bool_)
    if isinstance(annotation, MaskAnnotation):
        return annotation.mask
    found = seeds(annotation, size)
    return found.region if isinstance(annotation, Box) and found.region is not None else found.foreground


def _annotated(each: Sample, picture: AnnotatedPicture, annotate: partial[Annotation | None]) -> Mask:
    size = (picture.image.shape[0], picture.image.shape[1])
    try:
        return marked_pixels(annotate(picture.truth), size)
    except InputError as error:
        raise InputError(f"{each.truth.path}: {error}") from None


def _kept(cache: dict[str, Made], name: str, make: Callable[[], Made]) -> Made:
    """What was made of a picture, of which the latest are kept."""
    if name not in cache:
        if len(cache) >= _KEPT:
            del cache[next(iter(cache))]
        cache[name] = make()
    return cache[name]
