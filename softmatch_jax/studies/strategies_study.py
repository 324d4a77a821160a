"""The mean prompt against ways to merge the masks of drawn prompts (ProSAM, 5.4 and Table 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax.models.prosam.strategies import Strategy, disagreement, merge_samples
from softmatch_jax.studies.config import StrategiesSettings
from softmatch_jax.studies.question import Contender, Question, measure_each
from softmatch_jax.studies.report import About, about, bars, document, draw
from softmatch_jax.studies.resampling import Estimate, Resampling
from softmatch_jax.studies.scoring import Scores, count_pixels
from softmatch_jax.studies.wording import percent, sentence

MERGED: tuple[Strategy, ...] = tuple(name for name in get_args(Strategy) if name != "mean")
"""The ways to merge drawn masks, in the order of the decodings after that of the mean prompt."""

_BLOCK = 1 << 16  # pixels


@dataclass(frozen=True, kw_only=True)
class StrategiesRow:
    """How one contender went.

    Attributes:
        contender: Its name.
        draws: Whether its encoder has a distribution to draw from.
        miou: Of the mean prompt (``mean``), of each way to merge, and of the drawn masks one by one
            (``single``), a mean over them.
        mean_iou: Likewise.
        gains: The mIoU of each less that of the mean prompt.
        disagreement: 1 less the mean IoU of two drawn masks, a mean over the episodes.
        disagreement_tells: Pearson's correlation over the episodes of the disagreement with the IoU of the
            mean prompt; below 0 where disagreement tells of errors.
    """

    contender: str
    draws: bool
    miou: Mapping[str, Estimate]
    mean_iou: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    disagreement: Estimate
    disagreement_tells: Estimate


@dataclass(frozen=True, kw_only=True)
class StrategiesResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        rows: Of each contender.
        conclusion: What came out, in one sentence.
    """

    about: About
    rows: tuple[StrategiesRow, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws the gain of each strategy over the mean prompt, a panel for each contender, as a PNG."""
        draw(path, self._paint, size=(1.5 + 3.0 * len(self.rows), 3.0))

    def _paint(self, figure: Any) -> None:
        panels = figure.subplots(1, len(self.rows), sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, self.rows, strict=True):
            names = [name for name in row.gains if name != "mean"]
            bars(axes, names, [row.gains[name] for name in names], label="mIoU less that of the mean prompt")
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_title(row.contender)
        panels[0].set_ylim(len(MERGED) + 0.5, -0.5)


def study_strategies(
    contenders: Sequence[Contender],
    questions: Iterable[Question],
    settings: StrategiesSettings,
    *,
    key: jax.Array,
) -> StrategiesResult:
    """Measures each way to make a mask of the distribution of prompts.

    Masks are brought to the picture's size and then merged: an enlarged binary mask has another rim than the
    mask of enlarged logits, and would differ from it even where all samples are the same.

    Args:
        contenders: Encoders; each strategy is compared with the mean prompt of the same encoder.
        questions: Episodes.
        settings: How many samples.
        key: Of the samples and of the intervals.

    Raises:
        InputError: See :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    sample_key, draws_key = jax.random.split(key)

    def measure(contender: Contender, question: Question, key: jax.Array) -> tuple[np.ndarray, float]:
        return _measure(contender, question, settings, key)

    entries, measured = measure_each(contenders, questions, measure, key=sample_key)
    header = about("strategies", "ProSAM, Table 7", settings, contenders, entries)
    draws = header.resampling(settings.intervals, draws_key)
    rows = tuple(
        _row(
            contender,
            Scores(np.array([counts for counts, _ in own]), header.classes),
            np.array([apart for _, apart in own]),
            draws,
        )
        for contender, own in zip(contenders, measured, strict=True)
    )
    return StrategiesResult(about=header, rows=rows, conclusion=_conclusion(rows))


def _measure(
    contender: Contender, question: Question, settings: StrategiesSettings, key: jax.Array
) -> tuple[np.ndarray, float]:
    """Pixels of the mean prompt, of each merged mask and of each sample; how far the samples disagree."""
    sets = jnp.concatenate(
        [contender.prompts(question)[None], contender.samples(question, settings.samples, key=key)]
    )
    logits = contender.decode(question, sets, chunk=settings.chunk)
    raster = question.scene.raster
    large = np.stack([raster.enlarge(each) for each in logits])
    masks = np.concatenate([large[:1] > 0, merged_masks(large[1:]), large[1:] > 0])
    apart = disagreement(jnp.asarray(logits[1:]), jnp.asarray(raster.inside))
    return count_pixels(masks, question.truth, question.void), float(apart.value)


def merged_masks(logits: Float[np.ndarray, "K H W"]) -> Bool[np.ndarray, "strategies H W"]:
    """The masks of samples merged in each way of :data:`MERGED`."""
    count, size = len(logits), logits.shape[1:]
    pixels = int(np.prod(size))
    # Pictures of many sizes share a few compiled programs.
    flat = np.pad(logits.reshape(count, pixels), [(0, 0), (0, -pixels % _BLOCK)])
    return np.asarray(_merge(flat))[:, :pixels].reshape(-1, *size)


@jax.jit
def _merge(logits: Float[Array, "K pixels"]) -> Bool[Array, "strategies pixels"]:
    return jnp.stack([merge_samples(logits, strategy).mask for strategy in MERGED])


def _row(contender: Contender, scores: Scores, disagreeing: np.ndarray, draws: Resampling) -> StrategiesRow:
    parts: dict[str, Scores] = {
        name: scores.only(slice(place, place + 1)) for place, name in enumerate(("mean", *MERGED))
    }
    parts["single"] = scores.only(slice(1 + len(MERGED), None))
    miou = {name: part.miou(draws.weights) for name, part in parts.items()}
    return StrategiesRow(
        contender=contender.name,
        draws=contender.predictor.distribution.family != "none",
        miou={name: draws.share(values) for name, values in miou.items()},
        mean_iou={name: draws.mean_share(part.iou) for name, part in parts.items()},
        gains={name: draws.estimate(values - miou["mean"]) for name, values in miou.items()},
        disagreement=draws.mean_share(disagreeing),
        disagreement_tells=draws.correlation(disagreeing, parts["mean"].iou),
    )


def _conclusion(rows: Sequence[StrategiesRow]) -> str:
    parts = []
    for row in rows:
        if not row.draws:
            parts.append(f"{row.contender} has no distribution to draw from")
            continue
        signs = [row.gains[name].sign for name in MERGED]
        better, worse, open_ = (signs.count(sign) for sign in (1, -1, 0))
        best = max(MERGED, key=lambda name: row.gains[name].value)
        parts.append(
            f"of the {len(MERGED)} ways to merge samples of {row.contender}, {better} are better than the "
            f"mean prompt (mIoU {percent(row.miou['mean'])}), {worse} are worse and of {open_} no difference "
            f"can be told; the highest is {best} ({percent(row.gains[best], signed=True)})"
        )
    return sentence(parts)
