"""Pixels found, missed and invented, as rates and as shares (ProSAM, 10.1 and Table 8).

A rate is out of the pixels that truly are object, or background; a share is out of all pixels. Table 8 is
headed as rates, but its rows add up to 100 %: they are shares, and the two for the object found and for the
background left alone are swapped. Both are here. Void is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from softmatch_jax.studies.config import RatesSettings
from softmatch_jax.studies.question import Contender, Question, check_contenders
from softmatch_jax.studies.report import About, about, bars, document, draw
from softmatch_jax.studies.resampling import Estimate
from softmatch_jax.studies.scoring import Scores
from softmatch_jax.studies.wording import percent, sentence, verdict

_TP, _FP, _FN, _TN = range(4)
_ALL = (_TP, _FP, _FN, _TN)
_PARTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "true_positive_rate": (_TP, (_TP, _FN)),
    "false_negative_rate": (_FN, (_TP, _FN)),
    "true_negative_rate": (_TN, (_TN, _FP)),
    "false_positive_rate": (_FP, (_TN, _FP)),
    "true_positive_share": (_TP, _ALL),
    "false_negative_share": (_FN, _ALL),
    "true_negative_share": (_TN, _ALL),
    "false_positive_share": (_FP, _ALL),
}
_SHOWN = ("false_negative_rate", "false_positive_rate")


@dataclass(frozen=True, kw_only=True)
class RatesRow:
    """How one contender went.

    Attributes:
        contender: Its name.
        pixels: Object and found, background but found, object but missed, background and left alone, sums
            over all episodes.
        parts: Rates and shares by name.
        miou: The metric of the papers.
        fb_iou: Mean of the IoU of object and background.
        differences: Each of the parts, ``miou`` and ``fb_iou``, less those of the first contender.
    """

    contender: str
    pixels: tuple[int, int, int, int]
    parts: Mapping[str, Estimate]
    miou: Estimate
    fb_iou: Estimate
    differences: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class RatesResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        rows: Of each contender.
        conclusion: What came out, in one sentence.
    """

    about: About
    rows: tuple[RatesRow, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws the two rates of errors and FB-IoU, and writes them as a PNG."""
        draw(path, self._paint, size=(10.0, 1.5 + 0.5 * len(self.rows)))

    def _paint(self, figure: Any) -> None:
        names = [row.contender for row in self.rows]
        panels = figure.subplots(1, 3, sharey=True)
        for axes, name in zip(panels[:2], _SHOWN, strict=True):
            bars(axes, names, [row.parts[name] for row in self.rows], label=name.replace("_", " "))
        bars(panels[2], names, [row.fb_iou for row in self.rows], label="FB-IoU")
        panels[0].set_ylim(len(names) - 0.5, -0.5)


def study_rates(
    contenders: Sequence[Contender], questions: Iterable[Question], settings: RatesSettings, *, key: jax.Array
) -> RatesResult:
    """Counts the pixels of the masks that the mean prompts make.

    Args:
        contenders: Encoders; the others are compared with the first.
        questions: Episodes.
        settings: How intervals are made.
        key: Of the intervals.

    Raises:
        InputError: See :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    entries, counts = [], []
    for question in check_contenders(contenders, questions):
        entries.append(question.entry)
        found = [each.decode(question, each.prompts(question)[None]) for each in contenders]
        counts.append([question.counts(logits) for logits in found])
    header = about("rates", "ProSAM, Table 8", settings, contenders, entries)
    draws = header.resampling(settings.intervals, key)
    rows: list[RatesRow] = []
    first: dict[str, np.ndarray] = {}
    for name, of_contender in zip(header.contenders, np.array(counts).swapaxes(0, 1), strict=True):
        scores = Scores(of_contender, header.classes)
        values = {part: scores.part(draws.weights, *kinds) for part, kinds in _PARTS.items()}
        values |= {"miou": scores.miou(draws.weights), "fb_iou": scores.fb_iou(draws.weights)}
        first = first or values
        made = {part: draws.share(value) for part, value in values.items()}
        tp, fp, fn, tn = map(int, of_contender.sum(axis=(0, 1)))
        rows.append(
            RatesRow(
                contender=name,
                pixels=(tp, fp, fn, tn),
                miou=made.pop("miou"),
                fb_iou=made.pop("fb_iou"),
                parts=made,
                differences={part: draws.estimate(values[part] - first[part]) for part in values},
            )
        )
    return RatesResult(about=header, rows=tuple(rows), conclusion=_conclusion(rows))


def _conclusion(rows: Sequence[RatesRow]) -> str:
    first, *others = rows
    missed, invented = (percent(first.parts[name]) for name in _SHOWN)
    parts = [f"{first.contender} misses {missed} of the object and takes {invented} of the background for it"]
    for row in others:
        said = []
        for noun, name in zip(("misses", "takes"), _SHOWN, strict=True):
            difference = row.differences[name]
            way = verdict(difference, above="more", below="less", neither="no difference can be told")
            said.append(f"{noun} {percent(row.parts[name])} ({percent(difference, signed=True)}: {way})")
        parts.append(f"{row.contender} " + " and ".join(said))
    return sentence(parts)
