"""Noise on the mean prompts: who loses more of the metric (ProSAM, 5.3 and Fig. 4).

The paper adds noise of the same size to all prompts. An encoder with larger prompts is then safer whatever it
has learned: VRP-SAM's prompts leave a LayerNorm, ProSAM's a linear layer that is free to make them large. So
noise is also measured that is in proportion to the prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax.studies.config import NoiseSettings
from softmatch_jax.studies.question import Contender, Question, measure_each
from softmatch_jax.studies.report import About, about, document, draw
from softmatch_jax.studies.resampling import Estimate, Resampling
from softmatch_jax.studies.scoring import Scores
from softmatch_jax.studies.wording import percent, sentence, verdict

Kind = Literal["absolute", "relative"]


@dataclass(frozen=True, kw_only=True)
class NoiseCurve:
    """What noise of one kind does to one contender.

    Attributes:
        contender: Its name.
        kind: Whether levels are standard deviations, or multiples of the root mean square of the prompts.
        levels: Of the noise, from 0.
        miou: At each level, a mean over the draws of the noise.
        mean_iou: Likewise.
        lost: Share of the mIoU without noise that is gone at each level.
        lost_on_average: Mean of that over the levels above 0.
        more_lost: That share less the first contender's.
        more_lost_on_average: Mean of that over the levels above 0.
    """

    contender: str
    kind: Kind
    levels: tuple[float, ...]
    miou: tuple[Estimate, ...]
    mean_iou: tuple[Estimate, ...]
    lost: tuple[Estimate, ...]
    lost_on_average: Estimate
    more_lost: tuple[Estimate, ...]
    more_lost_on_average: Estimate


@dataclass(frozen=True, kw_only=True)
class NoiseResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        size: Of each contender the root mean square of its prompts, a mean over the episodes.
        curves: Of each contender and kind of noise.
        conclusion: What came out, in one sentence.
    """

    about: About
    size: tuple[Estimate, ...]
    curves: tuple[NoiseCurve, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws mIoU over the level, a panel for each kind of noise, and writes it as a PNG."""
        draw(path, self._paint, size=(9.0, 4.0))

    def _paint(self, figure: Any) -> None:
        labels = {"absolute": "standard deviation", "relative": "standard deviation / RMS of the prompts"}
        panels = figure.subplots(1, len(labels), sharey=True)
        for axes, (kind, label) in zip(panels, labels.items(), strict=True):
            for curve in self.curves:
                if curve.kind == kind:
                    value, low, high = np.array(curve.miou).T
                    (line,) = axes.plot(curve.levels, value, marker=".", label=curve.contender)
                    axes.fill_between(curve.levels, low, high, color=line.get_color(), alpha=0.15)
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("mIoU")
        panels[0].legend()


def study_noise(
    contenders: Sequence[Contender], questions: Iterable[Question], settings: NoiseSettings, *, key: jax.Array
) -> NoiseResult:
    """Measures what noise on the mean prompts costs.

    In each episode all contenders get the same noise, as do all levels but for its size.

    Args:
        contenders: Encoders; the others are compared with the first.
        questions: Episodes.
        settings: Levels and draws.
        key: Of the noise and of the intervals.

    Raises:
        InputError: See :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    noise_key, draws_key = jax.random.split(key)

    def measure(contender: Contender, question: Question, key: jax.Array) -> tuple[np.ndarray, float]:
        return _measure(contender, question, settings, key)

    entries, measured = measure_each(contenders, questions, measure, key=noise_key)
    header = about("noise", "ProSAM, Fig. 4", settings, contenders, entries)
    draws = header.resampling(settings.intervals, draws_key)
    scores = [Scores(np.array([count for count, _ in own]), header.classes) for own in measured]
    curves = tuple(
        curve
        for kind in get_args(Kind)
        for curve in _curves(kind, header.contenders, scores, settings, draws)
    )
    return NoiseResult(
        about=header,
        size=tuple(draws.mean(np.array([size for _, size in own])) for own in measured),
        curves=curves,
        conclusion=_conclusion(curves),
    )


def noisy_prompts(
    mean: Float[Array, "n dim"], settings: NoiseSettings, *, key: jax.Array
) -> Float[Array, "K n dim"]:
    """The prompts without noise, with the draws at each absolute and then at each relative level."""
    noise = jax.random.normal(key, (settings.draws, *mean.shape), mean.dtype)
    size = jnp.sqrt(jnp.mean(mean**2))
    levels = jnp.concatenate([jnp.asarray(settings.levels), size * jnp.asarray(settings.relative)])
    moved = mean + levels[:, None, None, None].astype(mean.dtype) * noise
    return jnp.concatenate([mean[None], moved.reshape(-1, *mean.shape)])


def _measure(
    contender: Contender, question: Question, settings: NoiseSettings, key: jax.Array
) -> tuple[np.ndarray, float]:
    """Pixels of each decoding ``[K, 4]``, and the root mean square of the prompts."""
    mean = contender.prompts(question)
    sets = noisy_prompts(mean, settings, key=key)
    logits = contender.decode(question, sets, chunk=settings.chunk)
    return question.counts(logits), float(jnp.sqrt(jnp.mean(mean**2)))


def _curves(
    kind: Kind, names: tuple[str, ...], scores: list[Scores], settings: NoiseSettings, draws: Resampling
) -> list[NoiseCurve]:
    """The curves of one kind of noise, one for each contender."""
    above = settings.levels if kind == "absolute" else settings.relative
    start = 1 if kind == "absolute" else 1 + settings.draws * len(settings.levels)
    starts = [start + settings.draws * place for place in range(len(above))]
    parts = [slice(0, 1), *(slice(first, first + settings.draws) for first in starts)]
    curves = []
    first_lost: np.ndarray | None = None
    for name, score in zip(names, scores, strict=True):
        miou = np.array([score.only(part).miou(draws.weights) for part in parts])
        found = miou[0] > 0
        lost = np.where(found, 1 - miou / np.where(found, miou[0], 1), np.nan)
        first_lost = lost if first_lost is None else first_lost
        more = lost - first_lost
        curves.append(
            NoiseCurve(
                contender=name,
                kind=kind,
                levels=(0.0, *above),
                miou=tuple(map(draws.share, miou)),
                mean_iou=tuple(draws.mean_share(score.only(part).iou) for part in parts),
                lost=tuple(map(draws.estimate, lost)),
                lost_on_average=draws.estimate(lost[1:].mean(axis=0)),
                more_lost=tuple(map(draws.estimate, more)),
                more_lost_on_average=draws.estimate(more[1:].mean(axis=0)),
            )
        )
    return curves


def _conclusion(curves: tuple[NoiseCurve, ...]) -> str:
    parts = []
    for kind in get_args(Kind):
        first, *others = (curve for curve in curves if curve.kind == kind)
        what = "Under noise of the same size" if kind == "absolute" else "under noise relative to the prompts"
        span = f"{first.levels[1]:g} to {first.levels[-1]:g}"
        parts.append(f"{what} ({span}) {first.contender} loses {percent(first.lost_on_average)} of its mIoU")
        for other in others:
            more = other.more_lost_on_average
            said = verdict(
                more,
                above="it is less robust",
                below="it is more robust",
                neither="no difference can be told",
            )
            lost = percent(other.lost_on_average)
            parts[-1] += f", {other.contender} {lost} (difference {percent(more, signed=True)}: {said})"
    return sentence(parts)
