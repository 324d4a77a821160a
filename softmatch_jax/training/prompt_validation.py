"""Measuring a prompt encoder on held-out pairs while it is trained, to choose the best one by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Mask
from softmatch_jax.data.annotating import TrainingAnnotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import Sample, Truth
from softmatch_jax.data.pascal_coco_draws import PublishedEpisodes
from softmatch_jax.data.published_annotations import published_annotation, resize_nearest
from softmatch_jax.imaging import image_size
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.weights import encoder_of
from softmatch_jax.training.prompt_batches import pair_arrays, scene_of, stack_pairs
from softmatch_jax.training.prompt_pairs import Pair, PairSource, Shown
from softmatch_jax.training.prompt_store import FrozenStore
from softmatch_jax.training.prompt_task import predict_pair
from softmatch_jax.training.task import Batch

Questions: TypeAlias = Sequence["Question"]

MOST_BYTES = 1024**3
"""Memory for batches; those of more are made anew each time."""

_SIZE = 8  # pairs that are decoded together
_STREAM = 0x76616C69  # sets the draws of annotations apart from others


class Question(NamedTuple):
    """A held-out pair.

    Attributes:
        owner: The class, or what else the pair is counted under.
        pair: The reference and the target.
        void: ``bool [H, W]``, pixels of the target that do not count; ``None`` for none.
    """

    owner: str
    pair: Pair
    void: Mask | None = None


class PromptValidation:
    """IoU of the mean prompt's masks, on the raster of the decoder; an argument of the training loop.

    A cell of the raster is of the object where more than half of it is, and does not count where half of it
    is void.
    """

    def __init__(
        self,
        name: str,
        questions: Questions,
        store: FrozenStore,
        config: PromptEncoderConfig,
        *,
        by_class: bool,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Takes the questions, and compiles nothing yet.

        Args:
            name: What the figures begin with.
            questions: The pairs.
            store: The frozen models.
            config: Of the encoder that is asked.
            by_class: Whether pairs are pooled by their owners.
            most_bytes: Memory for what the encoder is given.

        Raises:
            InputError: There is no question.
        """
        if not questions:
            raise InputError(f"There is nothing to measure {name} on; expected at least one held-out pair.")
        self._name, self._questions, self._by_class = name, tuple(questions), by_class
        self._store, self._config, self._most_bytes = store, config, most_bytes
        self._kept: list[Batch] | None = None
        self._counts = jax.jit(self._count)

    @property
    def metric(self) -> str:
        """The figure to choose by."""
        return f"{self._name}_miou" if self._by_class else f"{self._name}_iou"

    def __call__(self, params: Mapping[str, Any]) -> dict[str, float]:
        """Asks the encoder in the parameters of a :class:`~softmatch_jax.training.prompt_task.PromptTask`.

        Returns:
            ``NAME_miou``, with questions of classes: the mean over classes of pooled intersection over
            pooled union. ``NAME_iou``: the mean over pairs; 1 where mask and truth are empty.
        """
        found = [
            np.stack(self._counts(self._store.sam.weights, params["encoder"], batch), axis=1)
            for batch in self._batches()
        ]
        both, either = np.concatenate(found)[: len(self._questions)].T
        each = np.where(either > 0, both / np.maximum(either, 1), 1.0)
        figures = {f"{self._name}_iou": float(each.mean())}
        if not self._by_class:
            return figures
        owners = np.array([question.owner for question in self._questions])
        pooled = [
            both[owners == owner].sum() / max(either[owners == owner].sum(), 1) for owner in set(owners)
        ]
        return {f"{self._name}_miou": float(np.mean(sorted(pooled))), **figures}

    def _count(
        self, weights: Any, params: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
        """Cells in both and in either of mask and truth, for each pair."""
        encoder = encoder_of(self._config, params)

        def one(pair: Mapping[str, Array]) -> tuple[Array, Array]:
            logits = self._store.sam.logits(weights, scene_of(pair), predict_pair(encoder, pair).mean)
            inside = pair["inside"] > 0
            found, true = (logits > 0) & inside, (pair["truth"] > 0.5) & inside
            return jnp.sum(found & true), jnp.sum(found | true)

        return jax.vmap(one)(dict(batch))

    def _batches(self) -> Iterator[Batch]:
        """The pairs in batches of one size, the last one filled up; kept if memory allows."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] | None = []
        size = min(_SIZE, len(self._questions))
        total = 0
        for first in range(0, len(self._questions), size):
            pairs = [self._arrays(question) for question in self._questions[first : first + size]]
            batch = stack_pairs(pairs + pairs[-1:] * (size - len(pairs)))
            total += sum(array.nbytes for array in batch.values())
            kept = kept if total <= self._most_bytes else None
            if kept is not None:
                kept.append(batch)
            yield batch
        self._kept = kept

    def _arrays(self, question: Question) -> Mapping[str, np.ndarray]:
        """What the encoder is given, and what it should answer."""
        shown, asked = question.pair.reference, question.pair.target
        reference, target = self._store.get(shown.key, shown.image), self._store.get(asked.key, asked.image)
        arrays = dict(pair_arrays(self._store, self._config, reference, shown.mask, target, asked.mask))
        if question.void is not None:
            counted = target.raster.reduce((~question.void).astype(np.float32)) > 0.5
            arrays["inside"] = arrays["inside"] * counted
        return arrays


def episode_questions(
    episodes: CorrectedEpisodes | PublishedEpisodes,
    count: int,
    annotators: Sequence[TrainingAnnotator],
) -> list[Question]:
    """Questions of classes, at even distances in the episodes of seed 0; each has the next annotator.

    Args:
        episodes: Of held-out pictures, or of novel classes.
        count: How many; all if there are no more. Those whose reference or target shows nothing are left out.
        annotators: How references are annotated. In ``published`` mode marks are drawn as in tests.

    Raises:
        InputError: The count is below 1, a file cannot be read, or no episode is of use.
    """
    check_positive("The number of pairs to validate on", count)
    count = min(count, len(episodes))
    made = []
    for number in range(count):
        episode = episodes.episode(0, number * len(episodes) // count)
        reference, target = episode.references[0], episode.target
        known, true = _truth(reference), _truth(target)
        if not (known.mask.any() and true.mask.any()):
            continue
        marked = _annotate(annotators[number % len(annotators)], known, number)
        pair = Pair(_shown(episodes.name, reference, marked), _shown(episodes.name, target, true.mask))
        made.append(Question(episode.class_name, pair, true.void))
    if not made:
        raise InputError(
            f"None of {count} episodes of {episodes.name} shows its class in both pictures; expected some to "
            "validate on (check the masks)."
        )
    return made


def view_questions(sources: Sequence[PairSource], count: int) -> list[Question]:
    """Questions of regions: the first pairs of seed 0, from one source after the other.

    Raises:
        InputError: The count is below 1, or as the sources do.
    """
    check_positive("The number of pairs to validate on", count)
    drawn = [sources[index % len(sources)].pair(0, index) for index in range(count)]
    return [Question(pair.target.key.partition("#")[0], pair) for pair in drawn]


def _annotate(annotator: TrainingAnnotator, truth: Truth, index: int) -> Mask:
    if annotator.mode == "fixed":
        return annotator(truth, seed=0, index=index)
    mask = truth.mask if annotator.raster is None else resize_nearest(truth.mask, annotator.raster)
    if not mask.any():
        return np.zeros(mask.shape, np.bool_)
    rng = np.random.default_rng(np.random.SeedSequence([0, index], spawn_key=(_STREAM,)))
    return published_annotation(mask, annotator.kind, rng=rng)


def _truth(sample: Sample) -> Truth:
    """Without decoding the picture."""
    return sample.truth.read(image_size(sample.image))


def _shown(owner: str, sample: Sample, mask: Mask) -> Shown:
    return Shown(f"{owner}/{sample.name}", lambda: sample.read().image, mask)
