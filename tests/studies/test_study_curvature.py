from __future__ import annotations

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_study import StandIn, contender, disc, disc_questions, stand_in_questions

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.models.prosam.distribution import noise_ratio
from softmatch_jax.models.prosam.losses import mask_loss
from softmatch_jax.studies.config import CurvatureSettings, IntervalSettings
from softmatch_jax.studies.curvature import measure_bend, probe, prompt_loss, study_curvature
from softmatch_jax.studies.question import Contender

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

KEY = jax.random.key(0)
QUESTIONS = stand_in_questions([disc(12 + 6 * i, 20, 8) for i in range(6)], ["red", "blue"] * 3)
MATRIX = jax.random.normal(jax.random.key(1), (6, 16 * 16)) / 4


class LinearSam:
    """Decodes six numbers of prompts by a matrix."""

    name, weights = "linear", None

    def logits(self, weights, scene, prompts):
        return (prompts.reshape(-1) @ MATRIX).reshape(16, 16)


SAM = LinearSam()


def linear(name: str, size: float = 1.0, *, sigma: float = 0.0, family: str = "none", sam=SAM) -> Contender:
    def prompts(place: int) -> np.ndarray:
        return size * np.random.default_rng(place).normal(size=(2, 3))

    with np.errstate(divide="ignore"):
        stand_in = StandIn(prompts, None, log_sigma=np.log(sigma), family=family, sam=sam)
    return Contender(name=name, predictor=stand_in)


def hessian_of(question, mean) -> np.ndarray:
    raster = question.scene.raster
    loss = prompt_loss(SAM, None, None, question.small_truth, raster.inside)
    return np.asarray(jax.hessian(lambda flat: loss(flat.reshape(2, 3)))(jnp.ravel(mean)))


def wavy(z):
    return jnp.sum(jnp.sin(z) * jnp.roll(z, 1) ** 2) + jnp.prod(jnp.cos(z))


def signs(dim: int) -> np.ndarray:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=dim)))


def test_all_signs_give_the_trace_and_each_its_form(x64):
    point = jax.random.normal(KEY, (5,))
    hessian = np.asarray(jax.hessian(wavy)(point))
    seen = probe(wavy, point, jnp.asarray(signs(5)))
    forms = np.einsum("pi,ij,pj->p", signs(5), hessian, signs(5))
    assert np.asarray(seen.forms) == pytest.approx(forms)
    assert float(seen.forms.mean()) == pytest.approx(np.trace(hessian))
    assert float(seen.value) == pytest.approx(float(wavy(point)))
    assert float(seen.slope) == pytest.approx(np.linalg.norm(jax.grad(wavy)(point)))


def test_random_signs_come_near_with_their_stated_error(x64):
    point = jax.random.normal(KEY, (5,))
    forms = np.asarray(probe(wavy, point, jax.random.rademacher(KEY, (4000, 5), point.dtype)).forms)
    trace = np.trace(np.asarray(jax.hessian(wavy)(point)))
    error = forms.std(ddof=1) / np.sqrt(len(forms))
    assert abs(forms.mean() - trace) < 4 * error
    hessian = np.asarray(jax.hessian(wavy)(point))
    off = hessian - np.diag(np.diag(hessian))
    assert forms.var() == pytest.approx(2 * np.sum(off**2), rel=0.15)  # Hutchinson's variance


def test_noise_adds_half_its_variance_times_the_trace(x64):
    # Proposition 1, with noise of random signs, over all of which the mean is exact.
    point = jax.random.normal(KEY, (5,))
    trace = float(probe(wavy, point, jnp.asarray(signs(5))).forms.mean())
    gaps = []
    for size in (0.08, 0.04, 0.02):
        added = np.mean(jax.vmap(wavy)(point + size * signs(5))) - wavy(point)
        gaps.append(abs(float(added) / (size**2 / 2) - trace))
    # What is left is of the fourth order: relative to the second it falls with the square.
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.05)
    assert gaps[2] < 0.01 * abs(trace)


@pytest.mark.slow  # compiles the second derivatives of the decoder twice
def test_the_decoder_has_the_hessian_that_is_measured(tmp_path):
    (question,) = disc_questions(tmp_path, count=1)
    one = contender("one")
    sam, raster, mean = one.predictor.sam, question.scene.raster, one.prompts(question)
    loss = prompt_loss(sam, sam.weights, question.scene.scene, question.small_truth, raster.inside)
    directions = jnp.linalg.qr(jax.random.normal(KEY, (mean.size, 4)))[0]

    def inner(z):
        return loss(mean + (directions @ z).reshape(mean.shape))

    hessian = np.asarray(jax.jit(jax.hessian(inner))(jnp.zeros(4)))
    assert np.abs(hessian - hessian.T).max() < 1e-4 * np.abs(hessian).max()
    seen = jax.jit(lambda probes: probe(inner, jnp.zeros(4), probes))(jnp.asarray(signs(4), jnp.float32))
    forms = np.einsum("pi,ij,pj->p", signs(4), hessian, signs(4))
    assert np.asarray(seen.forms) == pytest.approx(forms, rel=1e-3, abs=1e-4 * float(np.abs(hessian).max()))
    assert np.abs(np.trace(hessian)) > 1e-4


def test_a_bend_is_the_truth_within_its_errors():
    noisy = linear("noisy", sigma=0.5, family="gaussian")
    question = QUESTIONS[2]
    mean = np.asarray(noisy.prompts(question))
    hessian = hessian_of(question, mean)
    bend = measure_bend(noisy, question, CurvatureSettings(probes=400), key=KEY)
    assert abs(bend.trace - np.trace(hessian)) < 4 * bend.trace_error
    assert bend.trace_error < 0.2 * bend.trace
    assert bend.penalty == pytest.approx(0.5 * 0.5**2 * bend.trace, rel=1e-4)
    assert bend.penalty_error == pytest.approx(0.5 * 0.5**2 * bend.trace_error, rel=1e-4)
    assert bend.size == pytest.approx(np.sqrt(np.mean(mean**2)))
    logits = SAM.logits(None, None, mean)
    assert bend.loss == pytest.approx(
        float(mask_loss(logits, question.small_truth, question.scene.raster.inside)), rel=1e-5
    )


def test_the_penalty_is_of_the_noise_that_is_drawn():
    question, settings = QUESTIONS[0], CurvatureSettings(probes=4)
    plain = measure_bend(linear("vrp"), question, settings, key=KEY)
    assert plain.penalty == 0 and plain.penalty_error == 0
    student = measure_bend(linear("t", sigma=0.5, family="student"), question, settings, key=KEY)
    ratio = noise_ratio(DistributionConfig(), 2, 3)
    assert student.penalty == pytest.approx(0.5 * (ratio * 0.5) ** 2 * plain.trace, rel=1e-4)
    wild = linear("wild", sigma=0.5, family="student")
    wild.predictor.distribution = DistributionConfig(nu=1.0, freedom="nu")
    assert np.isnan(measure_bend(wild, question, settings, key=KEY).penalty)


class Slower(LinearSam):
    """Takes prompts of three times the size for the same."""

    def logits(self, weights, scene, prompts):
        return super().logits(weights, scene, prompts / 3)


def test_the_scaled_trace_does_not_depend_on_units():
    settings = CurvatureSettings(probes=8)
    one = measure_bend(linear("one"), QUESTIONS[0], settings, key=KEY)
    other = measure_bend(linear("other", 3.0, sam=Slower()), QUESTIONS[0], settings, key=KEY)
    assert other.trace == pytest.approx(one.trace / 9, rel=1e-4)
    assert other.trace * other.size**2 == pytest.approx(one.trace * one.size**2, rel=1e-4)


def test_the_study_compares_episode_by_episode(tmp_path):
    settings = CurvatureSettings(probes=16, intervals=IntervalSettings(replicates=200))
    # Of a linear decoder the loss is flat where all logits are large.
    found = study_curvature(
        [linear("near"), linear("far", 40.0), linear("again")], QUESTIONS, settings, key=KEY
    )
    near, far, again = found.rows
    assert far.more_trace.sign == -1 and far.flatter.value == 1
    assert tuple(again.more_trace) == (0, 0, 0) and again.flatter.value == 0.5
    assert near.trace.value == pytest.approx(np.mean([bend.trace for bend in near.episodes]))
    assert near.scaled_trace.value == pytest.approx(
        np.mean([bend.trace * bend.size**2 for bend in near.episodes])
    )
    assert "of far it is" in found.conclusion and ": flatter; lower in 100.0 %" in found.conclusion
    assert "of again it is" in found.conclusion and "no difference can be told" in found.conclusion
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(document["rows"][0]["episodes"]) == 6
    pytest.importorskip("matplotlib")
    found.figure(tmp_path / "curvature.png")
    assert (tmp_path / "curvature.png").stat().st_size > 1000


def test_bad_input():
    with pytest.raises(InputError, match="at least 2"):
        CurvatureSettings(probes=1)
    with pytest.raises(InputError, match="probes"):
        probe(wavy, jnp.zeros(5), jnp.zeros((3, 4)))
