"""Prompt encoder and mask decoder against transformers and segment-anything on the same weights.

The bar is 5e-6 of the logits' range. Torch itself, in float32 against float64, differs by up to 1e-6 of it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sam_checkpoints
import torch
from flax import nnx
from plain_decoding import decode_batch
from slow_params import mostly_slow

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import convert
from softmatch_jax.models.sam.prompt_encoder import point_tokens

POINTS = np.array([[0.31, 0.72], [0.15, 0.25], [0.9, 0.05]], np.float32)  # in sides of the model's input
BOX = np.array([0.1, 0.2, 0.7, 0.93], np.float32)
PROMPTS = {
    "one point": {"points": POINTS[:1], "positive": [True]},
    "points of both kinds": {"points": POINTS, "positive": [True, False, True]},
    "box": {"box": BOX},
    "box and points": {"points": POINTS[:2], "positive": [False, True], "box": BOX},
    "mask": {"mask": True},
    "mask and point": {"points": POINTS[:1], "positive": [True], "mask": True},
}


def of_size(name, config):
    """A prompt at the size of the model, in the keywords of the two references."""
    prompt, side = PROMPTS[name], 4 * config.embedding_size
    scaled = {key: value * config.image_size for key, value in prompt.items() if key in ("points", "box")}
    if "mask" in prompt:
        scaled["mask"] = 5 * np.random.default_rng(3).normal(size=(side, side)).astype(np.float32)
    return {**prompt, **scaled}


@functools.partial(jax.jit, static_argnums=0)
def decoded(graph, state, image, tokens, dense, valid=None):
    sam = nnx.merge(graph, state)
    return sam.mask_decoder(image + dense, sam.prompt_encoder.dense_positions(), tokens, valid=valid)


def converted(model):
    return convert(model.state_dict(), SamConfig.from_transformers(model.config.to_dict()), "transformers")


def rows_of(embedding):
    return embedding.reshape(len(embedding), -1).T


def embedded(sam, *, points=None, positive=None, box=None, mask=None):
    """Tokens and dense embedding of one prompt."""
    encoder = sam.prompt_encoder
    tokens = encoder.encode_points(*point_tokens(points, positive, box))
    return tokens, encoder.no_mask_dense() if mask is None else encoder.embed_mask(mask)


def decode(sam, embedding, tokens, dense, valid=None):
    result = decoded(*nnx.split(sam), rows_of(embedding), tokens, dense, valid)
    return tuple(np.asarray(part) for part in result)


def assert_same(got, expected, multimask=None):
    """All masks, or the ones that a reference returns for ``multimask``."""
    kept = {None: slice(None), True: slice(1, None), False: slice(0, 1)}[multimask]
    logits, scores = (part[kept] for part in got)
    assert logits.shape == expected[0].shape and scores.shape == expected[1].shape
    scale = np.ptp(expected[0])
    assert np.abs(logits - expected[0]).max() <= 5e-6 * scale
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def sam(tiny):
    return converted(tiny)


@pytest.fixture(scope="module")
def authors(tiny):
    return sam_checkpoints.authors_model(tiny)


@pytest.fixture(scope="module")
def precise(tiny):
    return sam_checkpoints.in_float64(tiny)


@pytest.mark.parametrize("name", mostly_slow(PROMPTS, "box and points"))
def test_every_kind_of_prompt(name, tiny, precise, authors, sam):
    prompt, embedding = of_size(name, sam.config), sam_checkpoints.embedding_of(tiny)
    ours = decode(sam, embedding, *embedded(sam, **prompt))
    for multimask in (True, False):
        for model in (tiny, precise):
            theirs = sam_checkpoints.transformers_decode(model, embedding, **prompt, multimask=multimask)
            assert_same(ours, theirs, multimask)
        theirs = sam_checkpoints.authors_decode(authors, embedding, **prompt, multimask=multimask)
        assert_same(ours, theirs, multimask)


def test_the_reference_model_is_as_if_trained(tiny):
    """Logits of the size that trained weights give, and masks that differ, or parity would say little."""
    embedding = sam_checkpoints.embedding_of(tiny)
    prompt = of_size("one point", SamConfig.from_transformers(tiny.config.to_dict()))
    logits, _ = sam_checkpoints.transformers_decode(tiny, embedding, **prompt)
    assert 10 < np.abs(logits).max() < 40
    assert np.corrcoef(logits.reshape(3, -1))[np.triu_indices(3, 1)].max() < 0.9


@pytest.mark.parametrize("name", PROMPTS)
def test_embeddings_of_prompts(name, tiny, sam):
    prompt = of_size(name, sam.config)
    tokens, dense = embedded(sam, **prompt)
    points, positive = prompt.get("points"), prompt.get("positive")
    with torch.inference_mode():
        sparse, expected = tiny.prompt_encoder(
            input_points=None if points is None else torch.tensor(points)[None, None],
            input_labels=None if points is None else torch.tensor(positive).int()[None, None],
            input_boxes=torch.tensor(prompt["box"])[None, None] if "box" in prompt else None,
            input_masks=torch.tensor(prompt["mask"])[None, None] if "mask" in prompt else None,
        )
    expected_tokens = np.zeros((0, 64)) if sparse is None else sparse[0, 0].numpy()
    # Sines of arguments up to 20, which float32 holds to 1e-6.
    np.testing.assert_allclose(tokens, expected_tokens, atol=1e-5)
    np.testing.assert_allclose(dense, rows_of(expected[0].numpy()), atol=1e-5)


def test_dense_positions(tiny, sam):
    with torch.inference_mode():
        expected = tiny.get_image_wide_positional_embeddings()[0].numpy()
    np.testing.assert_allclose(sam.prompt_encoder.dense_positions(), rows_of(expected), atol=1e-5)


def test_raw_prompt_embeddings(tiny, precise, sam):
    """Fifty tokens that come from no point, as ProSAM predicts them."""
    embedding = sam_checkpoints.embedding_of(tiny)
    tokens = np.random.default_rng(5).normal(size=(50, 64)).astype(np.float32)
    ours = decode(sam, embedding, tokens, sam.prompt_encoder.no_mask_dense())
    for model in (tiny, precise):
        for multimask in (True, False):
            theirs = sam_checkpoints.transformers_decode_tokens(model, embedding, tokens, multimask=multimask)
            assert_same(ours, theirs, multimask)


def test_ragged_prompts_in_one_batch(tiny, sam):
    """Padded to one length, each prompt decodes as it does alone, whatever the padding holds."""
    embedding = sam_checkpoints.embedding_of(tiny)
    names = ("one point", "points of both kinds", "box", "box and points")
    alone = [embedded(sam, **of_size(name, sam.config))[0] for name in names]
    tokens = np.full((5, 6, 64), np.nan, np.float32)
    tokens[:, 4] = 1e30
    places = ([0, 1], [0, 2, 3, 5], [2, 4], [0, 1, 2, 3], [])  # the last prompt is padding alone
    valid = np.zeros((5, 6), bool)
    for row, prompt in enumerate(alone):
        tokens[row, places[row]], valid[row, places[row]] = prompt, True
    dense = sam.prompt_encoder.no_mask_dense()

    @functools.partial(jax.jit, static_argnums=0)
    def batch(graph, state, *arguments):
        return decode_batch(nnx.merge(graph, state), *arguments)

    image, positions = rows_of(embedding) + dense, sam.prompt_encoder.dense_positions()
    logits, scores = batch(*nnx.split(sam.mask_decoder), image, positions, tokens, valid)
    for row, name in enumerate(names):
        theirs = sam_checkpoints.transformers_decode(tiny, embedding, **of_size(name, sam.config))
        assert_same((logits[row], scores[row]), theirs, True)
        assert_same((logits[row], scores[row]), decode(sam, embedding, alone[row], dense))
    none = decode(sam, embedding, np.zeros((0, 64), np.float32), dense)
    assert_same((logits[4], scores[4]), none)


@pytest.mark.slow
def test_epsilon_of_the_checkpoint():
    """An epsilon large enough to see, in the blocks and not behind them."""
    model = sam_checkpoints.transformers_model(sam_checkpoints.TINY, eps=0.3)
    sam, embedding = converted(model), sam_checkpoints.embedding_of(model)
    prompt = of_size("one point", sam.config)
    theirs = sam_checkpoints.transformers_decode(model, embedding, **prompt)
    assert_same(decode(sam, embedding, *embedded(sam, **prompt)), theirs, True)


def test_epsilon_of_the_other_norms(sam):
    """1e-5 behind the blocks and 1e-6 over pixels, too close together for masks to tell."""
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    assert decoder.transformer.norm_final_attn.epsilon == 1e-5
    for norm in (decoder.upscale_norm, encoder.mask_norm1, encoder.mask_norm2):
        assert norm.epsilon == 1e-6


@pytest.mark.slow
def test_gradients(tiny, sam):
    """ProSAM trains its encoder through the decoder."""
    embedding = sam_checkpoints.embedding_of(tiny)
    generator = np.random.default_rng(7)
    tokens, cotangent = (generator.normal(size=s).astype(np.float32) for s in ((4, 64), (32, 32)))
    given = torch.tensor(tokens[None, None], requires_grad=True)
    masks, _ = tiny.mask_decoder(
        image_embeddings=torch.tensor(embedding)[None],
        image_positional_embeddings=tiny.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=given,
        dense_prompt_embeddings=tiny.prompt_encoder.no_mask_embed.weight[0, :, None, None],
        multimask_output=False,
    )
    (masks[0, 0, 0] * torch.tensor(cotangent)).sum().backward()
    expected = given.grad[0, 0].numpy()
    graph, state = nnx.split(sam)
    image, dense = rows_of(embedding), sam.prompt_encoder.no_mask_dense()
    padded, valid = np.concatenate([tokens, tokens[:2]]), np.arange(6) < 4
    got = jax.jit(
        jax.grad(lambda t: jnp.sum(decoded(graph, state, image, t, dense, valid)[0][0] * cotangent))
    )(padded)
    np.testing.assert_allclose(got[:4], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(got[4:], 0)


@pytest.mark.slow
def test_published_size(full):
    sam, embedding = converted(full), sam_checkpoints.embedding_of(full)
    authors, precise = sam_checkpoints.authors_model(full), sam_checkpoints.in_float64(full)
    prompt = of_size("one point", sam.config)
    ours = decode(sam, embedding, *embedded(sam, **prompt))
    for reference, multimask in ((full, False), (precise, True)):
        theirs = sam_checkpoints.transformers_decode(reference, embedding, **prompt, multimask=multimask)
        assert_same(ours, theirs, multimask)
    theirs = sam_checkpoints.authors_decode(authors, embedding, **prompt, multimask=True)
    assert_same(ours, theirs, True)


def test_tokens_of_points_and_boxes():
    xy, labels = point_tokens([[3, 4], [5, 6]], [True, False])
    np.testing.assert_array_equal(xy, [[3, 4], [5, 6], [0, 0]])
    np.testing.assert_array_equal(labels, [1, 0, -1])
    xy, labels = point_tokens([[3, 4]], box=(1, 2, 7, 8))
    np.testing.assert_array_equal(xy, [[3, 4], [1, 2], [7, 8]])
    np.testing.assert_array_equal(labels, [1, 2, 3])
    assert point_tokens()[0].shape == (0, 2) and point_tokens()[1].shape == (0,)
    assert xy.dtype == np.float32 and labels.dtype == np.int32


def test_shapes_that_do_not_fit(sam):
    rows, tokens = np.zeros((64, 64), np.float32), np.zeros((2, 64), np.float32)
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    for call in (
        lambda: decoder(rows[:63], rows, tokens),
        lambda: decoder(rows, rows[:, :8], tokens),
        lambda: decoder(rows, rows, tokens[0]),
        lambda: decoder(rows, rows, tokens, valid=np.ones(3, bool)),
        lambda: encoder.embed_mask(np.zeros((8, 8), np.float32)),
        lambda: encoder.encode_points(np.zeros((2, 3)), np.zeros(2, int)),
        lambda: encoder.encode_points(np.zeros((2, 2)), np.zeros(3, int)),
        lambda: point_tokens(np.zeros((2, 2)), [True]),
        lambda: point_tokens(box=(1, 2, 3)),
    ):
        with pytest.raises(InputError, match=r"has shape .*; expected \["):
            call()
