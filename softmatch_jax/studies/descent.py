"""Prompts learned one by one against a learned distribution of prompts, on one picture (ProSAM, section 9).

No encoder takes part: the prompts of a frozen SAM, or the mean and the scale of their distribution, are moved
down the gradient of the loss for one true mask. The paper draws two conclusions: that samples of the
distribution are better than three quarters of the prompts learned one by one, and that they lie in the middle
of these. Both are measured here, and the second in the full space, since a t-SNE keeps no distances.

One distribution has one start. Where prompts keep near their starts, so does its mean: it is then no nearer
to the middle than any other prompt, unless it starts there (``mean_start="zero"``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.distribution import PromptDistribution, noise_ratio, sample
from softmatch_jax.studies.descending import (
    Ended,
    Problem,
    learn_distribution,
    learn_prompts,
    starting_prompts,
)
from softmatch_jax.studies.descent_config import DescentSettings
from softmatch_jax.studies.projection import Projected, project
from softmatch_jax.studies.prompt_scores import PromptScores, score_prompts
from softmatch_jax.studies.question import Contender, Question, check_contenders
from softmatch_jax.studies.report import About, about, document, draw
from softmatch_jax.studies.wording import sentence

_MOST = 0.95  # of the learned prompts must be farther out before the mean is called nearer


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances in the space of prompts, root mean squares over the numbers of a set, and a share.

    Attributes:
        mean_to_middle: From the mean of the samples to the middle of the learned prompts.
        learned_to_middle: From a learned set to the middle of the others, a mean over them.
        learned_farther: Share of the learned sets for which that is farther than for the mean of the samples.
        mean_to_learned: From the mean of the samples to a learned set, a mean over them.
        between_learned: From one learned set to another, likewise.
        sample_spread: From a sample to the mean of the samples, likewise.
        moved: From a learned set to its start, likewise.
    """

    mean_to_middle: float
    learned_to_middle: float
    learned_farther: float
    mean_to_learned: float
    between_learned: float
    sample_spread: float
    moved: float


@dataclass(frozen=True, kw_only=True)
class DescentResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        prompts: Prompts in a set.
        learned: Prompts learned one by one.
        sampled: Samples of the learned distribution.
        mean: Its mean.
        encoders: The mean prompts that each contender predicts for the picture.
        iou_above_quartile: Share of the samples whose IoU is above the upper quartile of the learned.
        bce_below_quartile: Share of the samples whose BCE is below the lower quartile of the learned.
        distances: Between all these.
        sigma: Mean predicted standard deviation of the distribution.
        noise: The same times what the formula makes of it.
        epochs: Of each learned set; then of the distribution.
        unsettled: Runs that were ended by the limit of epochs, the distribution among them.
        projection: How the points of the figure were made.
        points: Of the learned, and then of the samples.
        conclusion: What came out, in one sentence.
    """

    about: About
    prompts: int
    learned: PromptScores
    sampled: PromptScores
    mean: PromptScores
    encoders: Mapping[str, PromptScores]
    iou_above_quartile: float
    bce_below_quartile: float
    distances: Distances
    sigma: float
    noise: float
    epochs: tuple[int, ...]
    unsettled: int
    projection: str
    points: Float[np.ndarray, "n 2"]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws boxes of IoU and of BCE, and the prompts on a plane, and writes them as a PNG."""
        draw(path, self._paint, size=(11.0, 4.0))

    def _paint(self, figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
        names = ("learned one by one", "samples")
        for axes, name, label in ((left, "iou", "IoU"), (middle, "bce", "BCE in nats")):
            axes.boxplot([getattr(self.learned, name), getattr(self.sampled, name)], tick_labels=names)
            axes.set_ylabel(label)
        count = len(self.learned.iou)
        right.plot(*self.points[:count].T, ".", alpha=0.6, label=names[0])
        right.plot(*self.points[count:].T, ".", alpha=0.6, label=names[1])
        right.set_title(f"prompts, {self.projection}")
        right.set_xticks([])
        right.set_yticks([])
        right.legend()


def study_descent(
    contenders: Sequence[Contender],
    questions: Iterable[Question],
    settings: DescentSettings,
    *,
    key: jax.Array,
) -> DescentResult:
    """Learns prompts, and a distribution of prompts, for the true mask of one picture.

    Args:
        contenders: They bring the SAM; the prompts that they predict are measured, too.
        questions: Episodes, of which one is taken.
        settings: Which, and how prompts are learned.
        key: Of the starts and of the samples.

    Raises:
        InputError: There is no such question, or it has no object; a run ended in numbers that are not
            finite; Optax is not installed; or see
            :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    question = _chosen(contenders, questions, settings.place)
    predictor = contenders[0].predictor
    sam, shape = predictor.sam, (settings.prompts or predictor.config.prompts, predictor.sam.dim)
    learn_key, distribution_key, sample_key, project_key = jax.random.split(key, 4)
    raster = question.scene.raster
    given = (sam.weights, question.scene.scene, question.small_truth, raster.inside)
    problem = Problem(*jax.tree.map(jnp.asarray, given))
    runs = _finite("learned prompts", learn_prompts(sam, problem, settings, shape, key=learn_key))
    one = _finite("distribution", learn_distribution(sam, problem, settings, shape, key=distribution_key))
    found: PromptDistribution = one.params
    samples = np.asarray(sample(found, settings.distribution, settings.runs, key=sample_key))
    measure = partial(score_prompts, sam, question, problem, chunk=settings.chunk)
    sigma = float(jnp.exp(found.log_sigma).mean())
    seed = int(jax.random.randint(project_key, (), 0, np.iinfo(np.int32).max))
    flat = np.concatenate([runs.params, samples]).reshape(2 * settings.runs, -1)
    return _result(
        about=about("descent", "ProSAM, section 9", settings, contenders, [question.entry]),
        prompts=shape[0],
        learned=measure(runs.params),
        sampled=measure(jnp.asarray(samples)),
        mean=measure(found.mean[None]),
        encoders={each.name: measure(each.prompts(question)[None]) for each in contenders},
        distances=_distances(runs.params, samples, starting_prompts(settings, shape, key=learn_key)),
        sigma=sigma,
        noise=sigma * noise_ratio(settings.distribution, *shape),
        epochs=(*map(int, runs.epochs), int(one.epochs)),
        unsettled=int(np.sum(~runs.settled)) + int(not one.settled),
        projected=project(flat, settings.projection, seed=seed),
    )


def _chosen(contenders: Sequence[Contender], questions: Iterable[Question], place: int) -> Question:
    number = 0
    for number, question in enumerate(check_contenders(contenders, questions)):
        if number == place:
            if not question.truth.any():
                raise InputError(
                    f"Question {place} (of {question.target}) has no object; expected one with it "
                    "(descent.place)."
                )
            return question
    raise InputError(f"descent.place is {place} of {number + 1} questions; expected 0 to {number}.")


def _finite(what: str, ended: Ended) -> Ended:
    bad = int(np.sum(~np.isfinite(ended.loss)))
    if bad:
        raise InputError(
            f"The descent of the {what} ended in {bad} of {np.size(ended.loss)} losses that are not finite; "
            "expected numbers (lower descent.learning_rate or descent.std)."
        )
    return ended


def _distances(
    learned: Float[np.ndarray, "N n d"],
    samples: Float[np.ndarray, "N n d"],
    starts: Float[Array, "more n d"],
) -> Distances:
    flat, drawn = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (learned, samples))
    count = len(flat)
    mean, middle = drawn.mean(axis=0), flat.mean(axis=0)
    # Of the others, for a set pulls the middle of all towards itself.
    to_others = (flat - middle) * (count / (count - 1))
    squares = np.sum(flat**2, axis=1) / flat.shape[1]
    apart = squares[:, None] + squares[None] - 2 * (flat @ flat.T) / flat.shape[1]
    pairs = np.sqrt(np.maximum(apart[np.triu_indices(count, 1)], 0))
    to_middle = float(_length(mean - middle))
    return Distances(
        mean_to_middle=to_middle,
        learned_to_middle=float(_length(to_others).mean()),
        learned_farther=float(np.mean(_length(to_others) > to_middle)),
        mean_to_learned=float(_length(flat - mean).mean()),
        between_learned=float(pairs.mean()),
        sample_spread=float(_length(drawn - mean).mean()),
        moved=float(_length(flat - np.asarray(starts)[:count].reshape(count, -1)).mean()),
    )


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(vectors**2, axis=-1))


def _result(*, projected: Projected, **parts: Any) -> DescentResult:
    learned, sampled = parts["learned"], parts["sampled"]
    above = float(np.mean(np.array(sampled.iou) > learned.quartiles("iou")[2]))
    below = float(np.mean(np.array(sampled.bce) < learned.quartiles("bce")[0]))
    parts |= {"iou_above_quartile": above, "bce_below_quartile": below}
    return DescentResult(
        **parts,
        projection=projected.method,
        points=projected.points,
        conclusion=_conclusion(parts),
    )


def _conclusion(parts: Mapping[str, Any]) -> str:
    learned, sampled, far = parts["learned"], parts["sampled"], parts["distances"]
    above, below, count = parts["iou_above_quartile"], parts["bce_below_quartile"], len(learned.iou)
    low, median, high = learned.quartiles("iou")
    of_samples = sampled.quartiles("iou")[1]
    said = [
        f"On one picture {count} prompts learned one by one have a median IoU of {100 * median:.1f} % "
        f"(quartiles {100 * low:.1f} and {100 * high:.1f}) and samples of a learned distribution "
        f"{100 * of_samples:.1f} %, BCE {learned.quartiles('bce')[1]:.3g} and "
        f"{sampled.quartiles('bce')[1]:.3g} nats"
    ]
    agrees = "as the paper says of all" if min(above, below) == 1 else "where the paper says all"
    said.append(
        f"{100 * above:.0f} % of the samples are above three quarters of the learned in IoU and "
        f"{100 * below:.0f} % below three quarters of them in BCE, {agrees}"
    )
    where = "about as far from the middle of the learned as these are"
    if far.learned_farther >= _MOST:
        where = "nearer to the middle of the learned than these are"
    elif far.learned_farther <= 1 - _MOST:
        where = "farther from the middle of the learned than these are"
    said.append(
        f"the mean of the samples is {where} ({far.mean_to_middle:.3g} against {far.learned_to_middle:.3g}, "
        f"after moves of {far.moved:.3g})"
    )
    if parts["unsettled"]:
        said.append(f"{parts['unsettled']} of {count + 1} runs ended at the limit of epochs, still improving")
    return sentence(said)
