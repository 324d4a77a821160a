"""Training of a prompt encoder on a frozen SAM: loss, gradients, what is trained, and what is told."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_prompts
from small_encoder import random_arrays, small_predictor

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.convert import load_torch_encoder
from softmatch_jax.models.prosam.distribution import PromptDistribution, noise_ratio, sample
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.weights import encoder_of
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.prompt_batches import scene_of
from softmatch_jax.training.prompt_config import PromptTrainConfig
from softmatch_jax.training.prompt_task import PromptTask, enlarge, predict_pair
from softmatch_jax.training.sharding import device_mesh, place
from softmatch_jax.training.step import make_step, start_state

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes most of the time here."""
CONFIG = PromptEncoderConfig(channels=6, dim=16, prompts=3, heads=2, dropout=0.0)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def sam():
    return small_prompts.PlainSam()


@pytest.fixture(scope="module")
def batch(sam):
    return small_prompts.random_batch(sam, CONFIG.channels)


def task_of(sam, config=CONFIG, distribution=None, **prompts):
    settings = PromptTrainConfig(**({"samples": 4 if config.variational else 1} | prompts))
    return PromptTask(sam, config, distribution, settings, initial=random_arrays(config))


class Graded:
    """Loss, metrics and the encoder's gradient, compiled; and the memory that this takes."""

    def __init__(self, task, batch):
        params = task.init(KEY)

        def loss(encoder, batch, key):
            return task.loss({**params, "encoder": encoder}, batch, key)

        lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params["encoder"], batch, KEY)
        self.compiled = lowered.compile(compiler_options=QUICK)
        self.start, self.memory = params["encoder"], self.compiled.memory_analysis().temp_size_in_bytes

    def __call__(self, batch, key=KEY, encoder=None):
        (value, metrics), gradient = self.compiled(encoder or self.start, batch, key)
        return float(value), {name: float(each) for name, each in metrics.items()}, gradient


@pytest.fixture(scope="module")
def prosam(sam, batch):
    return Graded(task_of(sam), batch)


def oracle(logits, truth, inside):
    """Cross entropy plus Dice of one mask, in float64."""
    x, t = (np.asarray(array, np.float64)[inside > 0] for array in (logits, truth))
    p = 1 / (1 + np.exp(-x))
    surprise = -np.mean(t * np.log(p) + (1 - t) * np.log1p(-p))
    return surprise + 1 - (2 * np.sum(p * t) + 1) / (p.sum() + t.sum() + 1)


def row_of(batch, index):
    return {name: array[index] for name, array in batch.items()}


@pytest.fixture(scope="module")
def drawn(sam, batch):
    """The predicted distribution and the samples of every pair."""
    task, encoder = task_of(sam), encoder_of(CONFIG, random_arrays(CONFIG))
    together = jax.vmap(functools.partial(predict_pair, encoder))
    predicted = jax.jit(together, compiler_options=QUICK)(batch)
    made = []
    for index, each in enumerate(jax.random.split(KEY, len(batch["truth"]))):
        own = jax.tree.map(lambda array, index=index: array[index], predicted)
        made.append((own, sample(own, task.distribution, 4, key=jax.random.split(each)[1])))
    return made


def test_loss_is_the_mean_over_samples(sam, batch, prosam, drawn):
    decode = jax.jit(sam.logits, compiler_options=QUICK)
    losses, ious = [], []
    for index, (_, prompts) in enumerate(drawn):
        pair = row_of(batch, index)
        for each in prompts:
            logits = np.asarray(decode(sam.weights, scene_of(pair), each))
            losses.append(oracle(logits, pair["truth"], pair["inside"]))
            found, true = (logits > 0) & (pair["inside"] > 0), pair["truth"] > 0.5
            ious.append(np.sum(found & true) / max(1, np.sum(found | true)))
    value, metrics, _ = prosam(batch)
    assert value == pytest.approx(np.mean(losses), rel=1e-5) and np.std(losses) > 1e-4
    assert metrics["iou"] == pytest.approx(np.mean(ious), abs=1e-5)


def test_what_is_told_of_the_noise(batch, prosam, drawn):
    predictions = [predicted for predicted, _ in drawn]
    _, metrics, _ = prosam(batch)
    sigmas = [np.exp(np.asarray(p.log_sigma, np.float64)) for p in predictions]
    sizes = [np.sqrt(np.mean(np.asarray(p.mean, np.float64) ** 2)) for p in predictions]
    ratio = noise_ratio(DistributionConfig(), CONFIG.prompts, CONFIG.dim)
    noise = [ratio * np.sqrt(np.mean(s**2)) / size for s, size in zip(sigmas, sizes, strict=True)]
    assert metrics["sigma"] == pytest.approx(np.mean(sigmas), rel=1e-5)
    assert metrics["prompt_rms"] == pytest.approx(np.mean(sizes), rel=1e-5)
    assert metrics["noise_to_mean"] == pytest.approx(np.mean(noise), rel=1e-5)


@pytest.mark.parametrize(("chunk", "recompute"), [(1, False), (3, True)])
def test_saving_memory_changes_nothing(sam, batch, prosam, chunk, recompute):
    """Neither loss nor gradient; one sample at a time takes less memory, by the compiler's plan."""
    saving = Graded(task_of(sam, chunk=chunk, recompute=recompute), batch)
    value, metrics, gradient = saving(batch)
    expected, told, wanted = prosam(batch)
    assert value == pytest.approx(expected, rel=1e-6)
    assert metrics == pytest.approx(told, rel=1e-5)
    for name, array in wanted.items():
        scale = np.abs(wanted[name.replace(".key.bias", ".query.bias")]).max()
        assert np.abs(gradient[name] - array).max() <= 1e-5 * scale, name
    if chunk == 1:
        assert saving.memory < 0.65 * prosam.memory
    assert task_of(sam, chunk=chunk, recompute=recompute).settings == task_of(sam).settings


def test_gradient_by_differences(batch, prosam):
    """Along the gradient, and along random directions.

    In float32, as the encoder is, whose rounding is some 1e-7 of the loss: the steps are large.
    """
    start = prosam.start
    _, _, gradient = prosam(batch)
    rng = np.random.default_rng(0)
    directions = [{name: np.asarray(array) for name, array in gradient.items()}]
    directions += [{name: rng.normal(size=array.shape) for name, array in start.items()} for _ in range(2)]
    for direction in directions:
        length = math.sqrt(sum(np.sum(array**2.0) for array in direction.values()))
        unit = {name: (array / length).astype(np.float32) for name, array in direction.items()}
        there, back = (
            prosam(batch, encoder={name: start[name] + step * unit[name] for name in start})[0]
            for step in (5e-3, -5e-3)
        )
        slope = sum(np.sum(np.asarray(gradient[name]) * unit[name]) for name in start)
        assert (there - back) / 1e-2 == pytest.approx(slope, rel=2e-2, abs=2e-4)


def test_only_the_encoder_moves(sam, batch):
    task, config = task_of(sam), TrainConfig(steps=5, warmup_steps=0, learning_rate=1e-2, weight_decay=0.5)
    mesh = device_mesh(1)
    state = start_state(task, config, mesh)
    before = jax.device_get(state.params)
    state, outcome = make_step(task, config, mesh)(state, place(dict(batch), mesh, 1))
    after = jax.device_get(state.params)
    assert outcome.finite and set(after["encoder"]) == set(random_arrays(CONFIG))
    for name, array in before["encoder"].items():
        assert not np.array_equal(after["encoder"][name], array), name
    for (name, array), leaf in zip(before["sam"].items(), jax.tree.leaves(sam.weights), strict=True):
        np.testing.assert_array_equal(after["sam"][name], array)
        np.testing.assert_array_equal(leaf, array)
    trainable, decayed = task.trainable(before), task.decayed(before)
    assert all(trainable["encoder"].values()) and all(decayed["encoder"].values())
    assert not any(trainable["sam"].values()) and not any(decayed["sam"].values())


def test_keys_decide_the_noise(batch, prosam):
    first, again, other = (prosam(batch, jax.random.key(seed))[0] for seed in (1, 1, 2))
    assert first == again != other


def changed(config=CONFIG, **values):
    return PromptEncoderConfig(**{**vars(config), **values})


def test_vrp_sam_has_no_noise(sam, batch):
    run = Graded(task_of(sam, changed(variational=False)), batch)
    values = [run(batch, jax.random.key(seed))[0] for seed in (1, 2)]
    assert values[0] == values[1]
    assert set(run(batch)[1]) == {"iou", "prompt_rms"}


def test_dropout_depends_on_the_key(batch):
    config = changed(variational=False, dropout=0.5)
    encoder = encoder_of(config, random_arrays(config))
    predict = jax.jit(functools.partial(predict_pair, encoder), compiler_options=QUICK)
    pair = row_of(batch, 0)
    first, again, other = (predict(pair, jax.random.key(seed)).mean for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_sigma_has_a_floor(sam, batch):
    config = changed(sigma_floor=0.25)
    initial = random_arrays(config)
    initial["log_sigma_head.kernel"][:] = 0
    initial["log_sigma_head.bias"][:] = -6
    task = PromptTask(sam, config, config=PromptTrainConfig(samples=1), initial=initial)
    _, metrics, gradient = Graded(task, batch)(batch)
    assert metrics["sigma"] == pytest.approx(0.25, rel=1e-5)
    assert not np.any(gradient["log_sigma_head.bias"]) and np.any(gradient["mean_head.bias"])


@pytest.mark.parametrize(("old", "new"), [(256, 512), (16, 40), (9, 9), (1, 3)])
def test_enlarging_as_torch(old, new):
    import torch

    logits = np.random.default_rng(0).normal(size=(old, old)).astype(np.float32)
    made = enlarge(jnp.asarray(logits), new)
    tensor = torch.tensor(logits, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(tensor, (new, new), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(made, expected[0, 0], atol=1e-5)
    assert enlarge(made, None) is made


def test_a_small_sam_in_place_of_the_plain_one():
    """Its decoder, with finer features: the loss is that of its logits, the gradient reaches the encoder."""
    sam = small_predictor().sam
    batch = small_prompts.random_batch(sam, CONFIG.channels, pairs=1)
    task = task_of(sam, changed(variational=False))
    value, _, gradient = Graded(task, batch)(batch)
    encoder, pair = encoder_of(task.encoder, random_arrays(task.encoder)), row_of(batch, 0)
    logits = jax.jit(
        lambda pair: sam.logits(sam.weights, scene_of(pair), predict_pair(encoder, pair).mean),
        compiler_options=QUICK,
    )(pair)
    assert value == pytest.approx(oracle(np.asarray(logits), pair["truth"], pair["inside"]), rel=1e-5)
    assert all(np.any(array) for name, array in gradient.items() if not name.endswith("key.bias"))


class TestAsTorch:
    """A whole step against VRP-SAM's layers and segment-anything's decoder, float64, with the same noise."""

    CONFIG = PromptEncoderConfig(channels=24, dim=64, prompts=6, heads=4, dropout=0.0)
    PROMPTS = PromptTrainConfig(samples=2, loss_side=64)

    def step_of_torch(self, model, network, distribution, batch, noise):
        """Loss, and gradients left in the network."""
        import sam_checkpoints
        import torch

        authors = sam_checkpoints.authors_model(model)
        positions = authors.prompt_encoder.get_dense_pe().double()
        authors = authors.double()
        _, dense = authors.prompt_encoder(points=None, boxes=None, masks=None)
        double = {name: torch.tensor(array).double() for name, array in batch.items() if "valid" not in name}
        near, far = (double[name].movedim(-1, 1) for name in ("reference", "target"))
        mean, log_sigma = network(near, double["mask"], far, double["pseudo"])
        losses = []
        for row, standard in enumerate(noise):
            rows = double["scene_rows"][row]
            side = math.isqrt(len(rows))
            for each in torch.tensor(np.asarray(standard)).double():
                masks, _ = authors.mask_decoder(
                    image_embeddings=rows.T.reshape(1, -1, side, side),
                    image_pe=positions,
                    sparse_prompt_embeddings=(mean[row] + each * log_sigma[row].exp())[None],
                    dense_prompt_embeddings=dense,
                    multimask_output=False,
                )
                large = torch.nn.functional.interpolate(masks, (64, 64), mode="bilinear", align_corners=True)[
                    0, 0
                ]
                truth, p = double["truth"][row], large.sigmoid()
                dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
                entropy = torch.nn.functional.binary_cross_entropy_with_logits(large, truth)
                losses.append(entropy + dice)
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss.item()

    def test_step(self):
        import sam_checkpoints
        import torch_encoder

        from softmatch_jax.models.sam.config import SamConfig
        from softmatch_jax.models.sam.convert import convert
        from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator

        model = sam_checkpoints.transformers_model(sam_checkpoints.TINY, eps=1e-5)
        network = torch_encoder.trained("prosam", channels=24, dim=64, prompts=6, heads=4)
        converted = convert(
            model.state_dict(), SamConfig.from_transformers(model.config.to_dict()), "transformers"
        )
        sam = FrozenSam(SamMaskGenerator(converted, lambda pixels: pixels, "random", SamGeneratorConfig()))
        arrays = load_torch_encoder(torch_encoder.state(network), self.CONFIG)
        task = PromptTask(sam, self.CONFIG, DistributionConfig(), self.PROMPTS, initial=arrays)
        batch = small_prompts.random_batch(sam, 24, grid=8)
        batch = {
            name: array for name, array in batch.items() if name not in ("scene_double", "scene_fourfold")
        }
        for name in ("reference_valid", "target_valid"):
            batch[name] = np.ones_like(batch[name])
        y, x = np.mgrid[:64, :64] / 64
        batch["truth"] = np.stack([np.hypot(y - 0.5, x - c) < 0.3 for c in (0.4, 0.6)]).astype(np.float32)
        batch["inside"] = np.ones((2, 64, 64), np.float32)
        value, _, gradient = Graded(task, batch)(batch)
        # Samples about zero with a sigma of 1 are the noise alone.
        plain = PromptDistribution(jnp.zeros((6, 64)), jnp.zeros((6, 64)))
        keys = [jax.random.split(each)[1] for each in jax.random.split(KEY, 2)]
        noise = [sample(plain, task.distribution, 2, key=key) for key in keys]
        expected = self.step_of_torch(model, network, task.distribution, batch, noise)
        assert value == pytest.approx(expected, rel=1e-5)
        wanted = load_torch_encoder(torch_encoder.gradients(network), self.CONFIG)
        assert set(gradient) == set(wanted)
        for name, array in wanted.items():
            scale = np.abs(wanted[name.replace(".key.bias", ".query.bias")]).max()
            assert np.abs(gradient[name] - array).max() < 1e-4 * scale, name


def test_thirty_steps_learn_a_batch():
    """With the shipped small SAM at 64 pixels: the loss of a fixed batch falls."""
    from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig

    shipped = FrozenSam(TinySam.load(config=TinySamConfig(size=64)))
    config = PromptEncoderConfig(channels=6, dim=shipped.dim, prompts=4, dropout=0.0)
    start = random_arrays(config)
    task = PromptTask(shipped, config, config=PromptTrainConfig(samples=2), initial=start)
    batch = small_prompts.random_batch(shipped, 6)
    settings = TrainConfig(steps=30, warmup_steps=2, learning_rate=3e-3, optimiser="adamw")
    mesh = device_mesh(1)
    state, step = start_state(task, settings, mesh), make_step(task, settings, mesh)
    losses = []
    for _ in range(30):
        state, outcome = step(state, place(dict(batch), mesh, 1))
        losses.append(float(outcome.values["loss"]))
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses


def test_misfits(sam):
    def refused(said, encoder=CONFIG, **options):
        with pytest.raises(InputError, match=said):
            PromptTask(sam, encoder, **options)

    refused(r"encoder.dim is 32, but the prompts of plain have 16 numbers", changed(dim=32))
    student, none = DistributionConfig(), DistributionConfig(family="none")
    refused(
        "'student' for an encoder that is not variational", changed(variational=False), distribution=student
    )
    several = PromptTrainConfig(samples=4)
    refused(r"prompts.samples \(K\) is 4, but all samples are equal", distribution=none, config=several)
    refused("all samples are equal", changed(variational=False), config=several)
    with pytest.raises(InputError, match=r"prompts.samples \(K\) is 0"):
        PromptTrainConfig(samples=0)
    for name in ("chunk", "loss_side"):
        with pytest.raises(InputError, match=f"prompts.{name} is 0"):
            PromptTrainConfig(**{name: 0})
    wrong = random_arrays(changed(prompts=5))
    with pytest.raises(InputError, match="queries"):
        PromptTask(sam, CONFIG, initial=wrong).init(KEY)
    assert PromptTask(sam, CONFIG).config.samples == 10 and PromptTask(sam, CONFIG).name == "prosam"
    vrp = PromptTask(sam, changed(variational=False))
    assert (vrp.name, vrp.config.samples, vrp.distribution.family) == ("vrp-sam", 1, "none")
