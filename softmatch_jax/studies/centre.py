"""How near the prompts are to SAM's embedding of the object's centre point (ProSAM, 5.3 and Table 4).

Cosines of the paper are between -0.004 and 0.042. Two random directions of 256 dimensions have a cosine of
standard deviation 0.0625, and any prompt is a little like any point on an object: so every contender is also
compared with the centres of the other episodes, which tells what is due to this object's centre.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam
from softmatch_jax.models.sam.prompt_encoder import POSITIVE
from softmatch_jax.studies.config import Centre, CentreSettings
from softmatch_jax.studies.question import Contender, Question, check_contenders
from softmatch_jax.studies.report import About, about, bars, document, draw
from softmatch_jax.studies.resampling import Estimate, Resampling
from softmatch_jax.studies.scoring import Scores
from softmatch_jax.studies.wording import sentence, shown, verdict


@dataclass(frozen=True, kw_only=True)
class CentreRow:
    """How near one contender's prompts are.

    Attributes:
        contender: Its name.
        cosine: With the centre of the object, a mean over prompts and episodes.
        elsewhere: With the centres of the other episodes' objects.
        owing_to_centre: The first less the second.
        more: ``cosine`` less that of the first contender.
        correlation: Pearson's, over the episodes, of the cosine with the IoU.
        cosines: Of each episode.
        ious: Of each episode.
    """

    contender: str
    cosine: Estimate
    elsewhere: Estimate
    owing_to_centre: Estimate
    more: Estimate
    correlation: Estimate
    cosines: tuple[float, ...]
    ious: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CentreResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        chance: Standard deviation of the cosine of two random directions.
        left_out: Questions without an object, which have no centre.
        rows: Of each contender.
        conclusion: What came out, in one sentence.
    """

    about: About
    chance: float
    left_out: int
    rows: tuple[CentreRow, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws the cosines, and IoU over the cosine of each episode, and writes them as a PNG."""
        draw(path, self._paint, size=(9.0, 4.0))

    def _paint(self, figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        names = [row.contender for row in self.rows]
        label = "cosine with an object's centre"
        bars(left, names, [row.cosine for row in self.rows], label=label, series="its own")
        others = [row.elsewhere for row in self.rows]
        bars(left, names, others, label=label, series="of other episodes", shift=0.15)
        left.set_ylim(len(names) - 0.5, -0.5)
        left.legend()
        for row in self.rows:
            right.plot(row.cosines, row.ious, ".", alpha=0.5, label=row.contender)
        right.set_xlabel("cosine with the centre's embedding")
        right.set_ylabel("IoU")
        right.legend()


def study_centre(
    contenders: Sequence[Contender],
    questions: Iterable[Question],
    settings: CentreSettings,
    *,
    key: jax.Array,
) -> CentreResult:
    """Measures how near mean prompts are to the embedding of the object's centre point.

    Args:
        contenders: Encoders; the others are compared with the first.
        questions: Episodes; those without an object are left out.
        settings: Which centre.
        key: Of the intervals.

    Raises:
        InputError: No question has an object; or see
            :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    entries, centres, directions, counts, left_out = [], [], [], [], 0
    for question in check_contenders(contenders, questions):
        if not question.truth.any():
            left_out += 1
            continue
        entries.append(question.entry)
        centre = centre_pixel(question.truth, settings.centre)
        centres.append(_unit(embed_point(contenders[0].predictor.sam, question.scene, centre)))
        prompts = [contender.prompts(question) for contender in contenders]
        # A mean of cosines is the cosine's numerator with the mean of the unit vectors.
        directions.append([_unit(np.asarray(each)).mean(axis=0) for each in prompts])
        found = zip(contenders, prompts, strict=True)
        counts.append([question.counts(each.decode(question, mean[None])) for each, mean in found])
    if not entries:
        raise InputError("No question has an object; expected at least one, for a centre to compare with.")
    header = about("centre", "ProSAM, Table 4", settings, contenders, entries)
    draws = header.resampling(settings.intervals, key)
    cosines = np.einsum("fd,ecd->cef", np.array(centres), np.array(directions))
    ious = [Scores(each, header.classes).iou for each in np.array(counts).swapaxes(0, 1)]
    rows = tuple(
        _row(name, own, cosines[0], iou, draws)
        for name, own, iou in zip(header.contenders, cosines, ious, strict=True)
    )
    return CentreResult(
        about=header,
        chance=float(1 / np.sqrt(len(centres[0]))),
        left_out=left_out,
        rows=rows,
        conclusion=_conclusion(rows),
    )


def centre_pixel(mask: Mask, centre: Centre) -> tuple[int, int]:
    """Column and row of the centre pixel of an object.

    Args:
        mask: ``bool [H, W]``.
        centre: ``deepest`` is the pixel farthest from all that is not object, the picture's rim included;
            ``centroid`` the pixel of the object nearest to its centre of mass. Of several the first.

    Raises:
        InputError: The mask is empty.
    """
    if not mask.any():
        raise InputError("The mask is empty; expected at least one pixel, for a centre.")
    if centre == "deepest":
        framed = np.pad(mask, 1).astype(np.uint8)
        depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        row, column = np.unravel_index(np.argmax(depth), mask.shape)
        return int(column), int(row)
    pixels = np.argwhere(mask)
    nearest = np.argmin(np.sum((pixels - pixels.mean(axis=0)) ** 2, axis=1))
    row, column = pixels[nearest]
    return int(column), int(row)


def embed_point(sam: FrozenSam, scene: EncodedScene, pixel: tuple[int, int]) -> Float[np.ndarray, " dim"]:
    """SAM's embedding of a point on the object, without the token that pads points.

    Args:
        sam: Whose prompt encoder.
        scene: The picture, which knows its place in the square that SAM sees.
        pixel: Column and row in the picture.
    """
    raster = scene.raster
    ratio = np.divide(raster.content, raster.image_size)[::-1]
    # From the pixel's centre in the picture to an index in the square, to which the encoder adds one half.
    index = (np.asarray(pixel) + 0.5) * ratio - 0.5
    encoder, _ = sam.generator.parts()
    embedded = encoder.encode_points(jnp.asarray(index[None], jnp.float32), jnp.array([POSITIVE]))
    return np.asarray(embedded[0])


def _unit(vectors: Float[np.ndarray, "*n dim"]) -> Float[np.ndarray, "*n dim"]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def _row(
    name: str,
    cosines: Float[np.ndarray, "E E"],
    first: Float[np.ndarray, "E E"],
    iou: Float[np.ndarray, " E"],
    draws: Resampling,
) -> CentreRow:
    own, count = np.diagonal(cosines), len(cosines)
    elsewhere = (cosines.sum(axis=1) - own) / (count - 1) if count > 1 else np.full(count, np.nan)
    return CentreRow(
        contender=name,
        cosine=draws.mean(own),
        elsewhere=draws.mean(elsewhere),
        owing_to_centre=draws.mean(own - elsewhere),
        more=draws.mean(own - np.diagonal(first)),
        correlation=draws.correlation(own, iou),
        cosines=tuple(own.tolist()),
        ious=tuple(iou.tolist()),
    )


def _conclusion(rows: Sequence[CentreRow]) -> str:
    parts = []
    for place, row in enumerate(rows):
        there = verdict(
            row.owing_to_centre,
            above="nearer to its own object's centre than to others'",
            below="farther from its own object's centre than from others'",
            neither="no nearer to its own object's centre than to others' as far as can be told",
        )
        said = (
            f"the prompts of {row.contender} have a cosine of {shown(row.cosine, 4)} with the centre, {there}"
        )
        if place:
            more = verdict(row.more, above="nearer", below="farther", neither="no difference can be told")
            said += f" (against {rows[0].contender} {shown(row.more, 4, signed=True)}: {more})"
        tied = verdict(row.correlation, above="above 0", below="below 0", neither="not told from 0")
        parts.append(f"{said}, and a correlation with IoU of {shown(row.correlation, 3)}, {tied}")
    return sentence(parts)
