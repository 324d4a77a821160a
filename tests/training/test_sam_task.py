from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_sam import disc_batch, drawn_weights, small_config

from softmatch_jax._checks import InputError
from softmatch_jax.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import merge
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.sam_config import SamTrainConfig
from softmatch_jax.training.sam_task import SamTask
from softmatch_jax.training.sharding import device_mesh, place
from softmatch_jax.training.step import make_step, start_state

BOXES = SamTrainConfig(box=1, centre=0, point=0, two_points=0, box_and_point=0, sparse=0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The task trains the small model."""
    monkeypatch.setattr(SamConfig, "tiny", staticmethod(small_config))


@pytest.fixture(scope="module")
def boxes():
    """The loss with boxes alone, which no key changes; compiled once."""
    compiled = jax.jit(SamTask(BOXES).loss)
    return lambda *arguments: jax.device_get(compiled(drawn_weights(), *arguments))


@pytest.fixture(scope="module")
def corrections():
    """Loss, metrics and gradient of steps with corrections; compiled once."""
    return jax.jit(jax.value_and_grad(SamTask().loss, has_aux=True))


def with_correction(batch):
    return {**batch, "correct": np.zeros(len(batch["images"]), bool)}


def picked(batch, *indices):
    return {name: array[list(indices)] for name, array in batch.items()}


@pytest.mark.slow
def test_the_loss_of_a_batch_is_the_mean_of_its_pictures(boxes):
    """So it is that of parts of the batch too, which accumulation rests on."""
    batch, key = disc_batch(), jax.random.key(0)
    (both, metrics), *alone = (boxes(picked(batch, *two), key) for two in ((0, 1), (0, 0), (1, 1)))
    assert abs(alone[0][0] - alone[1][0]) > 1e-3
    assert both == pytest.approx((alone[0][0] + alone[1][0]) / 2, rel=1e-5)
    halves = jax.tree.map(lambda first, second: (first + second) / 2, *(each for _, each in alone))
    for name, value in metrics.items():
        assert value == pytest.approx(halves[name], rel=1e-5), name
    box, point = metrics["iou_box"], metrics["iou_point"]
    assert box.weight > 0 and (point.total, point.weight) == (0, 0)
    assert box.total / box.weight == pytest.approx(metrics["iou"]) and "iou_corrected" not in metrics


def test_padding_does_not_count(boxes):
    batch, key = disc_batch(), jax.random.key(0)
    before, _ = boxes(batch, key)
    batch["images"][:, 28:] = 255
    batch["masks"][:, :, 14:] = True
    assert boxes(batch, key)[0] == before
    batch["images"][:, 24:] = 255
    assert boxes(batch, key)[0] != before


def test_slots_without_a_region_do_not_count(boxes):
    batch, key = disc_batch(), jax.random.key(0)
    twice = {name: array.copy() for name, array in batch.items()}
    for name in ("masks", "centres", "points", "boxes"):
        twice[name][:, 1] = batch[name][:, 0]
    alone = {name: array.copy() for name, array in batch.items()}
    alone["weights"][:, 1] = 0
    for name in ("masks", "centres", "points", "boxes"):
        alone[name][:, 1] = 0
    assert boxes(alone, key)[0] == pytest.approx(boxes(twice, key)[0], rel=1e-5)
    empty = {**batch, "weights": 0 * batch["weights"]}
    loss, metrics = boxes(empty, key)
    assert loss == 0 and not any(jax.tree.leaves(metrics))


@jax.jit
def decoded(weights, pixels, boxes):
    """Masks and predicted IoU of a picture's boxes, the corners being all that is given."""
    model = merge(small_config(), weights)
    features = model.encode(pixels)
    return jax.vmap(lambda box: model.decode(features, box.reshape(2, 2), jnp.array([2, 3])))(boxes)


def recipe(logits, predicted, truth, config):
    """The loss of one region, ``[4, cells]``, in float64."""
    p = 1 / (1 + np.exp(-logits))
    right = p * truth + (1 - p) * (1 - truth)
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    focal = ((0.25 * truth + 0.75 * (1 - truth)) * (1 - right) ** 2 * entropy).mean(-1)
    dice = 1 - (2 * (p * truth).sum(-1) + 1) / (p.sum(-1) + truth.sum(-1) + 1)
    masks = config.pixel_weight * focal + dice
    iou = ((logits > 0) & (truth > 0.5)).sum(-1) / ((logits > 0) | (truth > 0.5)).sum(-1)
    total = masks[0] + masks[1:].min() + config.every_mask * masks[1:].mean()
    return total + config.iou_weight * ((predicted - iou) ** 2).mean(), iou


def test_the_loss_is_the_recipe_written_out(boxes):
    batch, losses, ious = disc_batch(), [], []
    for b in range(2):
        pixels = (batch["images"][b] / 255 - IMAGENET_MEAN) / IMAGENET_STD
        pixels[28:] = 0
        logits, predicted = decoded(drawn_weights(), pixels.astype(np.float32), batch["boxes"][b])
        truth = batch["masks"][b].reshape(2, 8, 2, 8, 2).mean((2, 4))
        cells = [np.asarray(array, np.float64)[..., :7, :].reshape(2, -1, 56) for array in (logits, truth)]
        for k in range(2):
            loss, iou = recipe(cells[0][k], np.asarray(predicted[k]), cells[1][k], BOXES)
            losses.append(loss)
            ious.append(iou)
    loss, metrics = boxes(batch, jax.random.key(0))
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["iou"] == pytest.approx(np.mean([iou[0] for iou in ious]), rel=1e-5)
    assert metrics["iou_of_three"] == pytest.approx(np.mean([iou[1:].max() for iou in ious]), rel=1e-5)


@pytest.mark.slow
def test_every_parameter_is_trained_by_some_step(corrections):
    batch, weights = with_correction(disc_batch(count=4)), drawn_weights()
    (loss, metrics), gradient = corrections(weights, batch, jax.random.key(1))
    assert np.isfinite(loss) and set(metrics) >= {"iou_corrected", "iou_of_three", "iou_error"}
    assert all(np.isfinite(leaf).all() for leaf in gradient.values())
    still = {name for name, leaf in gradient.items() if not np.abs(leaf).max() > 0}
    # Slots without a point are left out, so that their token is never seen.
    assert still <= {"prompt_encoder.not_a_point", "prompt_encoder.no_mask"}
    assert "prompt_encoder.not_a_point" in still


@pytest.mark.slow
def test_keys_decide_prompts_and_corrections(corrections):
    batch, weights = with_correction(disc_batch(count=4)), drawn_weights()
    losses = [corrections(weights, batch, jax.random.key(seed))[0][0].item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_what_is_trained_and_what_decays():
    task, weights = SamTask(), drawn_weights()
    trainable, decayed = task.trainable(weights), task.decayed(weights)
    assert trainable.keys() == decayed.keys() == weights.keys()
    assert [name for name, yes in trainable.items() if not yes] == ["prompt_encoder.positions"]
    for name in ("stem.conv.kernel", "blocks.0.attn.qkv.kernel"):
        assert decayed[f"image_encoder.{name}"]
    for name in ("image_encoder.blocks.1.attn.rel_pos_h", "pooled_kinds", "mask_decoder.mask_tokens"):
        assert not decayed[name]
    assert not any(yes for name, yes in decayed.items() if name.endswith(("bias", "scale")))


def test_settings_are_told_to_checkpoints():
    settings = SamTask(BOXES).settings
    assert settings["box"] == 1 and settings["model"]["dim"] == 16
    assert json.loads(json.dumps(settings))["model"]["stem"]["side"] == 4
    assert SamTask().settings != settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_loss": "dice"}, "sam.pixel_loss is 'dice'; expected 'focal' or 'cross_entropy'"),
        ({"sparse": 1.1}, "sam.sparse is 1.1; expected a share"),
        ({"bare": -0.1}, "sam.bare is -0.1; expected a share"),
        ({"box": -0.1}, r"shares \(-0.1, .*; expected none below 0"),
        ({"box": 0, "centre": 0, "point": 0, "two_points": 0, "box_and_point": 0}, "and one above"),
        ({"pixel_weight": float("nan")}, "expected weights of 0 or more"),
        ({"rounds": 0}, "at least 1 round"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        SamTrainConfig(**settings)


def steps(task, config, batch, number):
    """Parameters before and after, and what each step said."""
    mesh = device_mesh(1)
    state, step = start_state(task, config, mesh), make_step(task, config, mesh)
    before, said = jax.tree.map(np.array, state.params), []
    for _ in range(number):
        state, outcome = step(state, place(batch, mesh, config.accumulate))
        said.append(jax.tree.map(float, outcome.values))
    return before, jax.tree.map(np.array, state.params), said


class Started(SamTask):
    """Starts from given weights, which is quicker."""

    def init(self, key):
        return {name: jnp.asarray(array) for name, array in drawn_weights().items()}


@pytest.mark.slow
def test_accumulation_changes_nothing():
    (whole,), (parts,) = (
        steps(Started(BOXES), TrainConfig(steps=10, warmup_steps=1, accumulate=count), disc_batch(), 1)[2]
        for count in (1, 2)
    )
    assert whole.keys() == parts.keys() and {"loss", "grad_norm", "iou"} <= whole.keys()
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
def test_a_batch_of_discs_is_learned():
    config = TrainConfig(steps=200, warmup_steps=10, learning_rate=5e-3)
    batch = disc_batch()
    # Cells that are half covered can be told either way; here the regions are made of whole ones.
    cells = batch["masks"].reshape(2, 2, 8, 2, 8, 2).mean(axis=(3, 5)) > 0.5
    batch["masks"] = cells.repeat(2, axis=2).repeat(2, axis=3)
    before, after, said = steps(Started(BOXES), config, batch, 200)
    assert said[-1]["loss"] < 0.1 * said[0]["loss"]
    assert said[-1]["iou"] > 0.9 and said[-1]["iou_of_three"] > 0.9 and said[-1]["iou_error"] < 0.1
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert "prompt_encoder.positions" not in moved and "image_encoder.stem.conv.kernel" in moved
