r"""How curved the loss is at the mean prompt: the quantity that ProSAM's theory is about, measured.

Proposition 1 (7.1): noise of variance ``s^2`` on the prompts adds ``s^2 / 2 tr H`` to the loss, with ``H``
its Hessian; so training with noise is to prefer prompts where the trace is small. The paper shows no trace.
Here it is estimated after Hutchinson (1990),

.. math:: \mathrm{tr} H = E[v^T H v], \qquad v_i = \pm 1 \text{ with equal odds},

from products of the Hessian with random ``v``, none of which needs the matrix. With ``v_i`` scaled by the
standard deviation ``s_i`` of the learned noise the same gives ``sum_i s_i^2 H_ii``, twice what that noise
adds.

Larger prompts make every trace smaller without being any safer from noise in proportion to them, so the trace
times the mean square of the prompts is given, too: noise of ``r`` times their size adds ``r^2 / 2`` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import check_shape
from softmatch_jax.models.prosam.distribution import noise_ratio
from softmatch_jax.models.prosam.frozen_sam import FrozenSam, Scene
from softmatch_jax.models.prosam.losses import mask_loss
from softmatch_jax.studies.config import CurvatureSettings
from softmatch_jax.studies.question import Contender, Question, measure_each
from softmatch_jax.studies.report import About, about, bars, document, draw
from softmatch_jax.studies.resampling import Estimate, Resampling
from softmatch_jax.studies.wording import percent, significant, verdict


class Bend(NamedTuple):
    """The loss around the mean prompts of one episode.

    Attributes:
        loss: At the mean prompts.
        slope: Length of its gradient there; small where training has come to rest.
        size: Root mean square of the prompts.
        trace: Of the Hessian.
        trace_error: Standard error of the trace, from its probes.
        penalty: What the learned noise adds to the loss to second order; 0 without noise, NaN where its
            variance does not exist.
        penalty_error: Standard error of that.
    """

    loss: float
    slope: float
    size: float
    trace: float
    trace_error: float
    penalty: float
    penalty_error: float


class Probed(NamedTuple):
    """A function around a point.

    Attributes:
        value: At the point.
        slope: Length of the gradient there.
        forms: ``v^T H v`` of each probe ``v``, with ``H`` the Hessian there.
    """

    value: Float[Array, ""]
    slope: Float[Array, ""]
    forms: Float[Array, " P"]


@dataclass(frozen=True, kw_only=True)
class CurvatureRow:
    """How curved the loss is at one contender's prompts.

    Attributes:
        contender: Its name.
        loss: Mean over the episodes.
        slope: Mean length of the gradient.
        size: Mean root mean square of the prompts.
        trace: Mean trace of the Hessian.
        scaled_trace: Mean of the trace times the mean square of the prompts.
        penalty: Mean of what the learned noise adds to the loss.
        more_trace: ``trace`` less the first contender's.
        more_scaled_trace: ``scaled_trace`` less the first contender's.
        flatter: Share of episodes whose trace is below the first contender's; a few wild episodes cannot
            decide it.
        scaled_flatter: The same of the scaled trace.
        episodes: Of each episode.
    """

    contender: str
    loss: Estimate
    slope: Estimate
    size: Estimate
    trace: Estimate
    scaled_trace: Estimate
    penalty: Estimate
    more_trace: Estimate
    more_scaled_trace: Estimate
    flatter: Estimate
    scaled_flatter: Estimate
    episodes: tuple[Bend, ...]


@dataclass(frozen=True, kw_only=True)
class CurvatureResult:
    """What the study found.

    Attributes:
        about: What was asked, and of whom.
        rows: Of each contender.
        conclusion: What came out, in one sentence.
    """

    about: About
    rows: tuple[CurvatureRow, ...]
    conclusion: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""
        return document(self)

    def figure(self, path: Path) -> None:
        """Draws the traces with their intervals, as they are and scaled, and writes them as a PNG."""
        draw(path, self._paint, size=(9.0, 1.5 + 0.5 * len(self.rows)))

    def _paint(self, figure: Any) -> None:
        names = [row.contender for row in self.rows]
        left, right = figure.subplots(1, 2, sharey=True)
        bars(left, names, [row.trace for row in self.rows], label="trace of the Hessian")
        label = "trace times mean square of the prompts"
        bars(right, names, [row.scaled_trace for row in self.rows], label=label)
        left.set_ylim(len(names) - 0.5, -0.5)


def study_curvature(
    contenders: Sequence[Contender],
    questions: Iterable[Question],
    settings: CurvatureSettings,
    *,
    key: jax.Array,
) -> CurvatureResult:
    """Measures the curvature of the loss at the mean prompts.

    The loss is that of training, of the true mask on the decoder's raster. In each episode all contenders are
    probed in the same directions.

    Args:
        contenders: Encoders; the others are compared with the first.
        questions: Episodes.
        settings: How many probes.
        key: Of the probes and of the intervals.

    Raises:
        InputError: See :func:`~softmatch_jax.studies.question.check_contenders`.
    """
    probe_key, draws_key = jax.random.split(key)

    def measure(contender: Contender, question: Question, key: jax.Array) -> Bend:
        return measure_bend(contender, question, settings, key=key)

    entries, each = measure_each(contenders, questions, measure, key=probe_key)
    header = about("curvature", "not in the paper; its 7.1 to 7.3", settings, contenders, entries)
    draws = header.resampling(settings.intervals, draws_key)
    rows = tuple(_row(name, own, each[0], draws) for name, own in zip(header.contenders, each, strict=True))
    return CurvatureResult(about=header, rows=rows, conclusion=_conclusion(rows))


def measure_bend(
    contender: Contender, question: Question, settings: CurvatureSettings, *, key: jax.Array
) -> Bend:
    """The loss around the mean prompts of one episode.

    Args:
        contender: The encoder.
        question: The episode.
        settings: How many probes.
        key: Of the probes.
    """
    predicted = contender.distributions(question)
    mean = jnp.concatenate([distribution.mean for distribution in predicted])
    ratio = noise_ratio(contender.predictor.distribution, *predicted[0].mean.shape)
    spread = jnp.concatenate([_spread(distribution.log_sigma, ratio) for distribution in predicted])
    probes = jax.random.rademacher(key, (settings.probes, *mean.shape), mean.dtype)
    sam, raster = contender.predictor.sam, question.scene.raster
    given = (sam.weights, question.scene.scene, question.small_truth, raster.inside)
    loss, slope, forms = _probe(sam, *given, mean, probes)
    plain = np.asarray(forms, np.float64)
    noisy = np.zeros(settings.probes)
    if ratio:
        noisy = np.asarray(_probe(sam, *given, mean, probes * spread).forms, np.float64) / 2
    root = np.sqrt(settings.probes)
    return Bend(
        loss=float(loss),
        slope=float(slope),
        size=float(jnp.sqrt(jnp.mean(mean**2))),
        trace=float(plain.mean()),
        trace_error=float(plain.std(ddof=1) / root),
        penalty=float(noisy.mean()),
        penalty_error=float(noisy.std(ddof=1) / root),
    )


def probe(function: Callable[[Array], Array], point: Float[Array, "*shape"], probes: Array) -> Probed:
    """Looks at a function around a point, along random directions; pure and traceable.

    The mean of the forms over random signs is the trace of the Hessian on average; over all signs, exactly.

    Args:
        function: From an array to a number, twice differentiable.
        point: Where.
        probes: Directions ``[P, *shape]``.

    Raises:
        InputError: The probes are not of the point's shape.
    """
    check_shape("probes", probes, (None, *point.shape), "probes, then the shape of the point")

    def along(direction: Array) -> Probed:
        # Value and gradient come along for nothing; apart, they would be compiled once more.
        (value, slope), (_, product) = jax.jvp(jax.value_and_grad(function), (point,), (direction,))
        return Probed(value, jnp.linalg.norm(slope), jnp.sum(direction * product))

    value, slope, forms = jax.lax.map(along, probes)
    return Probed(value[0], slope[0], forms)


def prompt_loss(
    sam: FrozenSam, weights: Any, scene: Scene, truth: Float[Array, "side side"], inside: Array
) -> Callable[[Float[Array, "n dim"]], Float[Array, ""]]:
    """The loss of a picture as a function of the prompts alone."""
    return lambda prompts: mask_loss(sam.logits(weights, scene, prompts), truth, inside)


@partial(jax.jit, static_argnames="sam")
def _probe(
    sam: FrozenSam, weights: Any, scene: Scene, truth: Array, inside: Array, mean: Array, probes: Array
) -> Probed:
    return probe(prompt_loss(sam, weights, scene, truth, inside), mean, probes)


def _spread(log_sigma: Float[Array, "n dim"], ratio: float) -> Float[Array, "n dim"]:
    """Standard deviation of the noise of training; NaN where it is infinite."""
    return jnp.exp(log_sigma) * (ratio if np.isfinite(ratio) else jnp.nan)


def _row(name: str, own: tuple[Bend, ...], first: tuple[Bend, ...], draws: Resampling) -> CurvatureRow:
    mine, theirs = (dict(zip(Bend._fields, np.array(bends).T, strict=True)) for bends in (own, first))
    scaled, their_scaled = (bend["trace"] * bend["size"] ** 2 for bend in (mine, theirs))
    return CurvatureRow(
        contender=name,
        loss=draws.mean(mine["loss"]),
        slope=draws.mean(mine["slope"]),
        size=draws.mean(mine["size"]),
        trace=draws.mean(mine["trace"]),
        scaled_trace=draws.mean(scaled),
        penalty=draws.mean(mine["penalty"]),
        more_trace=draws.mean(mine["trace"] - theirs["trace"]),
        more_scaled_trace=draws.mean(scaled - their_scaled),
        flatter=draws.mean_share(_below(mine["trace"], theirs["trace"])),
        scaled_flatter=draws.mean_share(_below(scaled, their_scaled)),
        episodes=own,
    )


def _below(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where the first is below the second, one half where they are equal."""
    return np.where(mine == theirs, 0.5, (mine < theirs).astype(np.float64))


def _conclusion(rows: Sequence[CurvatureRow]) -> str:
    first, *others = rows
    parts = [
        f"at the mean prompts of {first.contender} the Hessian of the loss has a trace of "
        f"{significant(first.trace)}, scaled by the prompts' size {significant(first.scaled_trace)}"
    ]
    for row in others:
        said = []
        for label, trace, more, flatter in (
            ("", row.trace, row.more_trace, row.flatter),
            ("scaled ", row.scaled_trace, row.more_scaled_trace, row.scaled_flatter),
        ):
            way = verdict(more, above="more curved", below="flatter", neither="no difference can be told")
            said.append(
                f"{label}{significant(trace)} (difference {significant(more, signed=True)}: {way}; lower in "
                f"{percent(flatter)} of the episodes)"
            )
        parts.append(f"of {row.contender} it is {said[0]}, {said[1]}")
    return ", and ".join(parts) + "."
