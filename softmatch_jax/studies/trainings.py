"""Encoders of several trainings on the same questions (ProSAM, Tables 3, 5, 6, 9 and 10).

The paper gives one training of each kind, and differences of half a point. Here several trainings may share a
name, as those of several seeds do: their figures are means over them, and that of each is told. Intervals are
of other target pictures with the same trainings, not of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Int

from softmatch_jax._checks import InputError
from softmatch_jax.studies.question import Contender, Question, check_contenders
from softmatch_jax.studies.report import About, bars, document, draw
from softmatch_jax.studies.resampling import Estimate, Resampling
from softmatch_jax.studies.scoring import Scores
from softmatch_jax.studies.trainings_config import SOURCES, TrainingsSettings, TrainingStudy
from softmatch_jax.studies.wording import percent, sentence, verdict

Asks: TypeAlias = Callable[[Contender], Iterable[Question]]
"""Makes the questions of a part as a contender takes them: of its features, in its ``to_grid``."""

_Entry: TypeAlias = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True)
class TrainingsRow:
    """How the trainings of one name went.

    Attributes:
        contender: The name.
        features: What they see pictures with.
        trainings: mIoU of each of them.
        miou: The metric of the papers, a mean over them.
        mean_iou: Likewise the mean IoU of the questions.
        by_class: The IoU of sums over all questions of a class.
        more_miou: ``miou`` less that of the first name.
        more_mean_iou: ``mean_iou`` less that of the first name.
        more_by_class: Likewise of each class.
    """

    contender: str
    features: str
    trainings: tuple[float, ...]
    miou: Estimate
    mean_iou: Estimate
    by_class: Mapping[str, Estimate]
    more_miou: Estimate
    more_mean_iou: Estimate
    more_by_class: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class TrainingsPart:
    """What was found with the questions of one part.

    Attributes:
        name: Of the data.
        episodes: Index, class and target of each question.
        rows: Of each name.
    """

    name: str
    episodes: tuple[_Entry, ...]
    rows: tuple[TrainingsRow, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingsResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom; the episodes are with the parts.
        parts: For each part of the data.
        conclusion: What came out, in one sentence.
    """

    about: About
    parts: tuple[TrainingsPart, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws the mIoU of each name, and of its trainings, and writes them as a PNG."""
        draw(path, self._paint, size=(1 + 4.5 * len(self.parts), 1.5 + 0.5 * len(self.parts[0].rows)))

    def _paint(self, figure: Any) -> None:
        panels = figure.subplots(1, len(self.parts), sharey=True, squeeze=False)[0]
        for axes, part in zip(panels, self.parts, strict=True):
            names = [row.contender for row in part.rows]
            bars(axes, names, [row.miou for row in part.rows], label="mIoU")
            for place, row in enumerate(part.rows):
                axes.plot(row.trainings, [place] * len(row.trainings), "|", color="grey")
            axes.set_title(part.name)
        panels[0].set_ylim(len(self.parts[0].rows) - 0.5, -0.5)


def study_trainings(
    study: TrainingStudy,
    contenders: Sequence[Contender],
    parts: Mapping[str, Asks],
    settings: TrainingsSettings,
    *,
    key: jax.Array,
) -> TrainingsResult:
    """Asks several trainings the same questions.

    Args:
        study: Which of the paper's tables this is.
        contenders: Encoders with one SAM, which may have different features; trainings of one kind share a
            name. The others are compared with the first name.
        parts: Questions by the name of their part.
        settings: How intervals are made.
        key: Of the intervals.

    Raises:
        InputError: There are fewer than 2 names, their SAMs differ, there is no question, or the questions of
            one set of features are not those of another.
    """
    names = tuple(dict.fromkeys(contender.name for contender in contenders))
    if len(names) < 2:
        raise InputError(f"The contenders are {list(names)}; expected at least 2 names, to be compared.")
    sams = sorted({contender.predictor.sam.name for contender in contenders})
    if len(sams) > 1:
        raise InputError(f"The contenders have different SAMs ({', '.join(sams)}); expected one for all.")
    made = []
    for place, (name, asks) in enumerate(parts.items()):
        entries, counts = _asked(contenders, asks)
        own_key = jax.random.fold_in(key, place)
        made.append(_part(name, names, contenders, entries, counts, settings, own_key))
    header = About(
        study=study,
        source=SOURCES[study],
        settings=settings,
        contenders=names,
        features=", ".join(dict.fromkeys(each.predictor.features.name for each in contenders)),
        sam=sams[0],
        episodes=(),
    )
    return TrainingsResult(about=header, parts=tuple(made), conclusion=_conclusion(made))


def _asked(
    contenders: Sequence[Contender], asks: Asks
) -> tuple[tuple[_Entry, ...], Int[np.ndarray, "C E 4"]]:
    """The questions, and the pixels of each contender. Those who take questions alike are asked together."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, contender in enumerate(contenders):
        predictor = contender.predictor
        groups.setdefault((predictor.features.name, predictor.config.to_grid), []).append(place)
    entries: tuple[_Entry, ...] = ()
    counts: dict[int, np.ndarray] = {}
    for places in groups.values():
        # Trainings that share a name are told apart while they are asked.
        group = [
            Contender(name=f"{contenders[place].name} {place}", predictor=contenders[place].predictor)
            for place in places
        ]
        found, pixels = [], []
        for question in check_contenders(group, asks(group[0])):
            found.append(question.entry)
            masks = [each.decode(question, each.prompts(question)[None]) for each in group]
            pixels.append([question.counts(logits)[0] for logits in masks])
        if entries and tuple(found) != entries:
            raise InputError(
                f"{group[0].name} was asked other questions than the others; expected the same for all."
            )
        entries = tuple(found)
        counts |= zip(places, np.array(pixels).swapaxes(0, 1), strict=True)
    return entries, np.stack([counts[place] for place in range(len(contenders))])


def _part(
    name: str,
    names: Sequence[str],
    contenders: Sequence[Contender],
    entries: tuple[_Entry, ...],
    counts: Int[np.ndarray, "C E 4"],
    settings: TrainingsSettings,
    key: jax.Array,
) -> TrainingsPart:
    classes = tuple(each for _, each, _ in entries)
    seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    draws = Resampling(classes, [target for *_, target in entries], settings.intervals, seed=seed)
    rows: list[TrainingsRow] = []
    first: dict[str, np.ndarray] = {}
    for each in names:
        own = [place for place, contender in enumerate(contenders) if contender.name == each]
        scores = Scores(counts[own].swapaxes(0, 1), classes)
        values = _values(scores, draws)
        first = first or values
        shares = {metric: draws.share(value) for metric, value in values.items()}
        more = {metric: draws.estimate(value - first[metric]) for metric, value in values.items()}
        plain = draws.weights[:1]
        rows.append(
            TrainingsRow(
                contender=each,
                features=contenders[own[0]].predictor.features.name,
                trainings=tuple(float(scores.only(slice(k, k + 1)).miou(plain)[0]) for k in range(len(own))),
                miou=shares.pop("miou"),
                mean_iou=shares.pop("mean_iou"),
                by_class=_named(shares),
                more_miou=more.pop("miou"),
                more_mean_iou=more.pop("mean_iou"),
                more_by_class=_named(more),
            )
        )
    return TrainingsPart(name=name, episodes=entries, rows=tuple(rows))


def _values(scores: Scores, draws: Resampling) -> dict[str, np.ndarray]:
    """The metrics under each row of the weights; those of classes by ``class NAME``."""
    values = {"miou": scores.miou(draws.weights), "mean_iou": scores.mean_iou(draws.weights)}
    names = np.array(scores.classes)
    for name in dict.fromkeys(scores.classes):
        members = names == name
        alone = Scores(scores.counts[members], (name,) * int(members.sum()))
        # Where a class has one picture, a draw may lack it: then there is no interval.
        with np.errstate(invalid="ignore"):
            values[f"class {name}"] = alone.miou(draws.weights[:, members])
    return values


def _named(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name.removeprefix("class "): estimate for name, estimate in estimates.items()}


def _conclusion(parts: Sequence[TrainingsPart]) -> str:
    said = []
    for part in parts:
        first, *others = part.rows
        # Of one class the metric of the papers is that of its largest objects.
        pooled = len(first.by_class) > 1
        metric = "mIoU" if pooled else "mean IoU"
        value = first.miou if pooled else first.mean_iou
        text = f"on {part.name} {_called(first)} has a {metric} of {percent(value)}"
        for row in others:
            value, more = (row.miou, row.more_miou) if pooled else (row.mean_iou, row.more_mean_iou)
            way = verdict(more, above="better", below="worse", neither="no difference can be told")
            text += f", {_called(row)} {percent(value)} (difference {percent(more, signed=True)}: {way})"
        said.append(text)
    return sentence(said)


def _called(row: TrainingsRow) -> str:
    count = len(row.trainings)
    return row.contender if count == 1 else f"{row.contender} (mean of {count} trainings)"
