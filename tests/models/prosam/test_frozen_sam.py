"""Prompt embeddings through a frozen SAM: as its own decoder answers, in value and in gradient."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "sam"))
import sam_checkpoints
import torch

from softmatch_jax import InputError
from softmatch_jax.models.prosam.frozen_sam import FrozenSam, Scene, TakesEmbeddings
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import convert
from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator
from softmatch_jax.models.sam.prompt_batch import model_tokens
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.prompting import Prompt

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

SIZE = (30, 44)
QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes most of the time here."""


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def generator_of(model, embedding):
    """SAM with the weights of a ``SamModel``, whose image encoder sees one embedding in every picture."""
    sam = convert(model.state_dict(), SamConfig.from_transformers(model.config.to_dict()), "transformers")
    rows = jnp.asarray(embedding.reshape(len(embedding), -1).T)
    return SamMaskGenerator(sam, lambda pixels: rows[None], "random", SamGeneratorConfig(masks="single"))


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def decoded(sam, weights, scene, prompts, valid=None):
    return sam.logits(weights, scene, prompts, valid)


def assert_close(got, expected, tolerance=1e-5):
    assert got.shape == expected.shape
    assert np.abs(np.asarray(got) - expected).max() <= tolerance * np.ptp(expected)


@pytest.fixture(scope="module")
def model():
    return sam_checkpoints.transformers_model(sam_checkpoints.TINY, eps=1e-5)


@pytest.fixture(scope="module")
def full(model):
    """A small SAM with random weights."""
    return generator_of(model, sam_checkpoints.embedding_of(model))


@pytest.fixture(scope="module")
def shipped():
    """The shipped model, which sees pictures at a quarter of its usual size."""
    return TinySam.load(config=TinySamConfig(size=64, masks="single"))


@pytest.fixture(scope="module")
def generators(full, shipped):
    return {"full": full, "tiny": shipped}


@pytest.fixture(scope="module")
def sams(generators):
    return {name: FrozenSam(generator) for name, generator in generators.items()}


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_what_it_is(name, generators, sams):
    sam, generator = sams[name], generators[name]
    _, decoder = generator.parts()
    assert isinstance(generator, TakesEmbeddings)
    assert sam.dim == decoder.config.dim and sam.side == 4 * decoder.config.embedding_size
    assert sam.name == generator.embedding_name


def test_full_sam_answers_as_its_generator(full, sams):
    """Points and a box, encoded as tokens and handed over as prompt embeddings."""
    sam, prompt = sams["full"], Prompt(np.array([[20.0, 9.0]]), np.array([True]), (5, 4, 40, 22), None)
    encoded = sam.encode(picture())
    embedding = full.encode(picture())
    expected = full.decode(embedding, [prompt])
    ratio = np.divide(embedding.input_size, embedding.image_size)[::-1].astype(np.float32)
    tokens = full.parts()[0].encode_points(*model_tokens(prompt, ratio))
    got = decoded(sam, sam.weights, encoded.scene, tokens)
    assert_close(got, expected.logits[0])
    proposals = encoded.proposals(np.asarray(got)[None])
    assert np.mean(proposals.masks[0] == expected.masks[0]) > 0.99 and 0.02 < proposals.masks.mean() < 0.98


def test_tiny_sam_answers_as_its_network(shipped, sams):
    """As the network does to points that it is shown as tokens alone, without maps."""
    sam, network = sams["tiny"], shipped.network.model()
    xy, labels = np.array([[20.0, 31.0], [50.0, 12.0]], np.float32), np.array([1, 0], np.int32)
    embedding = shipped.encode(picture())

    @functools.partial(jax.jit, compiler_options=QUICK)
    def original(features):
        return network.decode(features, xy, labels, dense=False, pooled=False)[0][0]

    expected = np.asarray(original(embedding.views[0]))
    tokens = network.prompt_encoder.encode_points(xy - 0.5, labels)
    assert_close(decoded(sam, sam.weights, sam.of(embedding, picture().shape[:2]).scene, tokens), expected)
    assert np.ptp(expected) > 1


def test_tiny_sam_uses_its_finer_features(sams):
    sam = sams["tiny"]
    scene = sam.encode(picture()).scene
    prompts = np.random.default_rng(0).normal(size=(5, sam.dim)).astype(np.float32)
    with_them = decoded(sam, sam.weights, scene, prompts)
    zeros = Scene(scene.rows, jnp.zeros_like(scene.double), jnp.zeros_like(scene.fourfold))
    assert np.abs(with_them - decoded(sam, sam.weights, zeros, prompts)).max() > 0.1


def authors_answer(model, embedding, prompts, cotangent):
    """Logits of the first mask by segment-anything, and their gradient in the prompts, in float64."""
    network = sam_checkpoints.authors_model(model)
    positions = network.prompt_encoder.get_dense_pe().double()  # which they can in float32 alone
    network = network.double()
    given = torch.tensor(prompts, dtype=torch.float64, requires_grad=True)
    _, dense = network.prompt_encoder(points=None, boxes=None, masks=None)
    masks, _ = network.mask_decoder(
        image_embeddings=torch.tensor(embedding, dtype=torch.float64)[None],
        image_pe=positions,
        sparse_prompt_embeddings=given[None],
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    (masks[0, 0] * torch.tensor(cotangent)).sum().backward()
    return masks[0, 0].detach().numpy(), given.grad.numpy()


def assert_as_the_authors(model, count=50):
    embedding = sam_checkpoints.embedding_of(model)
    sam = FrozenSam(generator_of(model, embedding))
    rng = np.random.default_rng(5)
    prompts = rng.normal(size=(count, sam.dim)).astype(np.float32)
    cotangent = rng.normal(size=(sam.side, sam.side)).astype(np.float32)
    logits, gradient = authors_answer(model, embedding, prompts, cotangent)

    def value(prompts, weights, scene):
        made = sam.logits(weights, scene, prompts)
        return jnp.sum(made * cotangent), made

    run = jax.jit(jax.grad(value, has_aux=True), compiler_options=QUICK)
    got, made = run(prompts, sam.weights, sam.encode(picture()).scene)
    assert_close(made, logits)
    assert np.abs(got - gradient).max() <= 1e-4 * np.abs(gradient).max() > 0


def test_fifty_embeddings_as_the_authors_decode_them(model):
    assert_as_the_authors(model)


def test_fifty_embeddings_at_the_published_size():
    assert_as_the_authors(sam_checkpoints.transformers_model(sam_checkpoints.FULL, eps=1e-5))


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_gradient_by_differences(name, sams, x64):
    """Along random directions, in float64."""
    sam = sams[name]
    double = functools.partial(jax.tree.map, lambda array: jnp.asarray(array, jnp.float64))
    weights, scene = double(sam.weights), double(sam.encode(picture()).scene)
    rng = np.random.default_rng(2)
    prompts = jnp.asarray(rng.normal(size=(6, sam.dim)))
    cotangent = jnp.asarray(rng.normal(size=(sam.side, sam.side)))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def value_and_gradient(prompts):
        return jax.value_and_grad(lambda p: jnp.sum(sam.logits(weights, scene, p) * cotangent))(prompts)

    _, gradient = value_and_gradient(prompts)
    assert gradient.dtype == jnp.float64 and np.all(np.abs(gradient).max(axis=1) > 0)
    for direction in rng.normal(size=(3, *prompts.shape)):
        there, back = (value_and_gradient(prompts + step * direction)[0] for step in (1e-5, -1e-5))
        np.testing.assert_allclose((there - back) / 2e-5, jnp.sum(gradient * direction), rtol=1e-5)


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_prompts_that_do_not_count(name, sams):
    sam = sams[name]
    scene = sam.encode(picture()).scene
    prompts = np.random.default_rng(0).normal(size=(7, sam.dim)).astype(np.float32)
    expected = np.asarray(decoded(sam, sam.weights, scene, prompts[:5]))
    prompts[5:] = np.nan
    assert_close(decoded(sam, sam.weights, scene, prompts, np.arange(7) < 5), expected)
    assert np.abs(decoded(sam, sam.weights, scene, prompts[:4]) - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_scenes_in_a_batch(name, sams):
    """Scenes of several pictures, decoded together as alone."""
    sam = sams[name]
    scenes = [sam.encode(picture(seed)).scene for seed in (0, 1)]
    prompts = np.random.default_rng(0).normal(size=(2, 5, sam.dim)).astype(np.float32)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scenes)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(stacked))
    together = jax.jit(jax.vmap(sam.logits, in_axes=(None, 0, 0)), compiler_options=QUICK)
    got = together(sam.weights, stacked, prompts)
    for each, scene, own in zip(got, scenes, prompts, strict=True):
        assert_close(each, np.asarray(decoded(sam, sam.weights, scene, own)))


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_geometry(name, generators, sams):
    """The raster is that of the generator's own proposals."""
    encoded = sams[name].encode(picture())
    prompt = Prompt(np.array([[20.0, 9.0]]), np.array([True]), None, None)
    own = generators[name].decode(generators[name].encode(picture()), [prompt])
    side = sams[name].side
    assert own.logits.shape[1:] == (side, side) == encoded.raster.inside.shape
    made = encoded.proposals(own.logits)
    assert made.image_size == SIZE and len(made) == 1
    np.testing.assert_array_equal(made.masks, own.masks)
    np.testing.assert_array_equal(encoded.raster.inside, own.inside)


def test_bad_input(sams):
    sam = sams["full"]
    scene = sam.encode(picture()).scene
    with pytest.raises(InputError, match=r"sparse has shape .*; expected \["):
        sam.logits(sam.weights, scene, np.zeros((5, sam.dim + 1), np.float32))
    with pytest.raises(InputError, match=r"image has shape .*; expected \["):
        sam.logits(sam.weights, Scene(scene.rows[1:]), np.zeros((5, sam.dim), np.float32))
    with pytest.raises(InputError, match="expected a non-empty uint8"):
        sam.encode(np.zeros((4, 4), np.uint8))
