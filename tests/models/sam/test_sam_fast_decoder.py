"""The fast decoder is the plain one, for every prompt, and its memory does not grow with their number.

The bar is 1e-5 of the logits' range, and 1e-5 for predicted IoU.
"""

from __future__ import annotations

import copy
import functools
import re

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
from softmatch_jax.models.sam import fast_decoder, thin_attention
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import convert
from softmatch_jax.models.sam.fast_decoder import FastDecoder, decode_one
from softmatch_jax.models.sam.model import Sam
from softmatch_jax.models.sam.prompt_encoder import point_tokens
from softmatch_jax.models.sam.static_graph import split

ALL = (0, 1, 2, 3)


def converted(model):
    return convert(model.state_dict(), SamConfig.from_transformers(model.config.to_dict()), "transformers")


def rows_of(embedding):
    return embedding.reshape(len(embedding), -1).T


def tokens_of(prompts, count, dim=64, seed=3):
    """Prompt embeddings of the size that the prompt encoder makes."""
    return np.random.default_rng(seed).normal(size=(prompts, count, dim)).astype(np.float32)


def plain(sam, rows, tokens):
    """Logits ``[P, 4, H, W]`` and scores ``[P, 4]`` of the decoder that this one must equal."""
    image = rows + sam.prompt_encoder.no_mask_dense()
    positions = sam.prompt_encoder.dense_positions()
    return jax.jit(lambda tokens: decode_batch(sam.mask_decoder, image, positions, tokens))(tokens)


def by_torch(model, embedding, tokens):
    """The same by transformers, a prompt at a time."""
    logits, scores = [], []
    for prompt in tokens:
        answers = [
            sam_checkpoints.transformers_decode_tokens(model, embedding, prompt, multimask=multimask)
            for multimask in (False, True)
        ]
        logits.append(np.concatenate([answer[0] for answer in answers]))
        scores.append(np.concatenate([answer[1] for answer in answers]))
    return np.stack(logits), np.stack(scores)


def assert_same(got, expected, masks=ALL):
    (logits, scores), expected = got, [np.asarray(part)[:, list(masks)] for part in expected]
    assert logits.shape == expected[0].shape and scores.shape == expected[1].shape
    assert logits.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(logits, expected[0], rtol=0, atol=1e-5 * np.ptp(expected[0]))
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def embedding(tiny):
    return sam_checkpoints.embedding_of(tiny)


@pytest.fixture(scope="module")
def rows(embedding):
    return rows_of(embedding)


@pytest.fixture(scope="module")
def sam(tiny):
    return converted(tiny)


@pytest.fixture(scope="module")
def decoder(sam):
    return FastDecoder(sam, chunk=1)


@pytest.fixture(scope="module")
def shared(decoder, rows):
    return decoder.share(rows)


@pytest.mark.parametrize("count", mostly_slow([0, 2, 3, 50], 3))
def test_any_number_of_tokens(count, tiny, decoder, embedding, shared):
    tokens = tokens_of(2, count)
    assert_same(decoder.decode(shared, tokens, masks=ALL), by_torch(tiny, embedding, tokens))


@pytest.mark.parametrize("count", mostly_slow([2, 50], 2))
def test_the_plain_decoder(count, sam, decoder, rows, shared):
    tokens = tokens_of(2, count)
    assert_same(decoder.decode(shared, tokens, masks=ALL), plain(sam, rows, tokens))


@pytest.mark.parametrize("config", [SamConfig(), SamConfig(dim=64, heads=4)])
def test_few_tokens_and_many_take_different_forms(config):
    """So that the counts above reach both."""
    sam = nnx.eval_shape(lambda: Sam(config, rngs=nnx.Rngs(0)))
    look = sam.mask_decoder.transformer.final_attn_token_to_image
    own = 1 + config.mask_tokens
    assert thin_attention._thin(look, own + 3) and not thin_attention._thin(look, own + 50)


@pytest.mark.parametrize("masks", [pytest.param((2,), marks=pytest.mark.slow), (1, 2, 3), (3, 0)])
def test_masks_asked_for(masks, tiny, decoder, embedding, shared):
    tokens = tokens_of(1, 2)
    assert_same(decoder.decode(shared, tokens, masks=masks), by_torch(tiny, embedding, tokens), masks)


def test_first_mask_by_default(tiny, decoder, embedding, shared):
    tokens = tokens_of(1, 2)
    assert_same(decoder.decode(shared, tokens), by_torch(tiny, embedding, tokens), (0,))


@pytest.mark.parametrize(
    ("chunk", "counts"), mostly_slow([(1, (1, 3, 5)), (3, (5,)), (4, (1, 5))], (3, (5,)))
)
def test_any_number_of_prompts_in_any_chunks(chunk, counts, tiny, sam, embedding, shared):
    decoder, tokens = FastDecoder(sam, chunk=chunk), tokens_of(5, 2)
    logits, scores = by_torch(tiny, embedding, tokens)
    for count in counts:
        got = decoder.decode(shared, tokens[:count], masks=ALL)
        assert_same(got, (logits[:count], scores[:count]))


@pytest.mark.parametrize("chunk", [1, 4])
def test_prompts_that_fill_a_bucket_do_not_matter(chunk, sam, shared):
    tokens = tokens_of(5, 2)
    filled = np.concatenate([tokens, np.full((3, 2, 64), np.nan, np.float32)])
    arguments = (shared, jnp.asarray(filled), jnp.ones((8, 2), bool), jnp.int32(5))
    logits, scores = fast_decoder._decode(*split(sam), *arguments, masks=ALL, chunk=chunk)
    expected = FastDecoder(sam, chunk=chunk).decode(shared, tokens, masks=ALL)
    np.testing.assert_array_equal(logits[:5], expected[0])
    np.testing.assert_array_equal(scores[:5], expected[1])
    # Chunks without a prompt are not computed.
    computed = -(-5 // chunk) * chunk
    np.testing.assert_array_equal(logits[computed:], 0)
    np.testing.assert_array_equal(scores[computed:], 0)


@pytest.mark.parametrize("length", mostly_slow([6, 50], 6))
def test_padding(length, tiny, decoder, embedding, shared):
    """Padded to one length, each prompt decodes as it does alone, whatever the padding holds."""
    places = ([0, 1], [0, 2, 3, 5], [2, 4], [])  # the last prompt is padding alone
    alone = [tokens_of(1, len(at), seed=7 + k) for k, at in enumerate(places)]
    expected = [by_torch(tiny, embedding, prompt) for prompt in alone]
    for content in (np.nan, np.inf, 1e30):
        tokens, valid = np.full((4, length, 64), content, np.float32), np.zeros((4, length), bool)
        for row, at in enumerate(places):
            tokens[row, at], valid[row, at] = alone[row][0], True
        logits, scores = decoder.decode(shared, tokens, valid, masks=ALL)
        for row in range(4):
            assert_same((logits[row, None], scores[row, None]), expected[row])


def test_prompts_keep_their_order(decoder, shared):
    tokens, order = tokens_of(5, 2), np.array([3, 0, 4, 2, 1])
    logits, scores = decoder.decode(shared, tokens, masks=ALL)
    permuted = decoder.decode(shared, tokens[order], masks=ALL)
    np.testing.assert_array_equal(permuted[0], logits[order])
    np.testing.assert_array_equal(permuted[1], scores[order])


def test_tokens_of_a_prompt_have_no_order(decoder, shared):
    tokens = tokens_of(4, 6)
    first, second = (decoder.decode(shared, t, masks=ALL) for t in (tokens, tokens[:, ::-1]))
    assert_same(second, first)


def test_mask_prompt(tiny, sam, decoder, embedding, rows):
    side = 4 * sam.config.embedding_size
    mask = 5 * np.random.default_rng(3).normal(size=(side, side)).astype(np.float32)
    points, positive = np.array([[40, 90]], np.float32), [True]
    tokens = sam.prompt_encoder.encode_points(*point_tokens(points, positive))[None]
    shared = decoder.share(rows, sam.prompt_encoder.embed_mask(mask))
    got = decoder.decode(shared, tokens, masks=(1, 2, 3))
    prompt = {"points": points, "positive": positive}
    logits, scores = sam_checkpoints.transformers_decode(tiny, embedding, **prompt, mask=mask)
    assert_same(got, (logits[None], scores[None]), (0, 1, 2))
    without = decoder.decode(decoder.share(rows), tokens, masks=(1, 2, 3))
    assert np.abs(got[0] - without[0]).max() > 1


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (2, {"num_hidden_layers": 1}),
        pytest.param(50, {"num_hidden_layers": 3, "image_size": 80}, marks=pytest.mark.slow),
        pytest.param(
            2,
            {"num_multimask_outputs": 2, "iou_head_depth": 2, "num_attention_heads": 8, "image_size": 96},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one block", "three blocks", "three masks"],
)
def test_other_sizes(count, sizes):
    changed, sizes = copy.deepcopy(sam_checkpoints.TINY), dict(sizes)
    side = sizes.pop("image_size", 64)
    changed["vision"] |= {"image_size": side, "num_hidden_layers": 1, "global_attn_indexes": []}
    changed["prompts"] |= {"image_size": side}
    changed["decoder"] |= sizes
    model = sam_checkpoints.transformers_model(changed, eps=1e-5)
    sam, embedding = converted(model), sam_checkpoints.embedding_of(model)
    decoder, masks = FastDecoder(sam, chunk=1), tuple(range(sam.config.mask_tokens))
    tokens = tokens_of(1, count)
    got = decoder.decode(decoder.share(rows_of(embedding)), tokens, masks=masks)
    assert_same(got, by_torch(model, embedding, tokens), masks)


@pytest.mark.slow
@pytest.mark.parametrize("downsample", mostly_slow([1, 4], 1))
def test_other_widths_of_attention(downsample):
    """Which transformers' blocks do not have."""
    sizes = {"dim": 64, "heads": 4, "mlp_dim": 96, "image_size": 64, "embedding_size": 4}
    config = SamConfig(**sizes, downsample=downsample)
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Sam(config, rngs=nnx.Rngs(0))))
    generator = np.random.default_rng(5)
    state = jax.tree.map(lambda leaf: 0.2 * generator.normal(size=leaf.shape).astype(np.float32), shapes)
    sam, rows, tokens = nnx.merge(graph, state), tokens_of(16, 1)[:, 0], tokens_of(1, 8)
    decoder = FastDecoder(sam, chunk=1)
    assert_same(decoder.decode(decoder.share(rows), tokens, masks=ALL), plain(sam, rows, tokens))


@pytest.mark.slow
@pytest.mark.parametrize("count", mostly_slow([2, 50], 50))
def test_published_size(count, full):
    sam, embedding = converted(full), sam_checkpoints.embedding_of(full)
    decoder, tokens = FastDecoder(sam, chunk=1), tokens_of(1, count, 256)
    got = decoder.decode(decoder.share(rows_of(embedding)), tokens, masks=ALL)
    assert_same(got, by_torch(full, embedding, tokens))


def test_attention_to_one_row(tiny, decoder, embedding, shared):
    """Logits of attention in the hundreds, whose exponentials overflow."""
    tokens = 40 * tokens_of(2, 3)
    assert_same(decoder.decode(shared, tokens, masks=ALL), by_torch(tiny, embedding, tokens))


@pytest.mark.parametrize("count", mostly_slow([3, 49], 3))
def test_gradients(count, tiny, sam, embedding, shared):
    """ProSAM trains its encoder through the decoder; a token that is padding gets no gradient."""
    side = 4 * sam.config.embedding_size
    cotangents = [np.random.default_rng(7).normal(size=s).astype(np.float32) for s in ((side, side), ())]
    tokens = tokens_of(1, count)[0]
    given = torch.tensor(tokens[None, None], requires_grad=True)
    answer = tiny.mask_decoder(
        image_embeddings=torch.tensor(embedding)[None],
        image_positional_embeddings=tiny.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=given,
        dense_prompt_embeddings=tiny.prompt_encoder.no_mask_embed.weight[0, :, None, None],
        multimask_output=False,
    )
    sum((p[0, 0, 0] * torch.tensor(c)).sum() for p, c in zip(answer, cotangents, strict=True)).backward()
    expected = given.grad[0, 0].numpy()

    @jax.jit
    @jax.grad
    def gradient(tokens):
        answer = decode_one(sam.mask_decoder, shared, tokens, np.arange(count + 1) < count, masks=(0,))
        return sum(jnp.sum(p[0] * c) for p, c in zip(answer, cotangents, strict=True))

    got = gradient(np.concatenate([tokens, tokens[:1]]))
    np.testing.assert_allclose(got[:-1], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(got[-1], 0)


@pytest.mark.parametrize("count", [2, 50])
@pytest.mark.parametrize("chunk", [1, 2])
def test_nothing_is_promoted_silently(count, chunk, sam, rows, strict_jax):
    def everything(rows, tokens, valid):
        decoder = FastDecoder(sam, chunk=chunk)
        return decoder.decode(decoder.share(rows), tokens, valid, masks=ALL)

    jax.eval_shape(everything, rows, tokens_of(3, count), np.ones((3, count), bool))


def test_stays_single_where_arrays_default_to_double(sam, rows, x64):
    def everything(rows, tokens):
        decoder = FastDecoder(sam, chunk=1)
        return decoder.decode(decoder.share(rows), tokens, masks=ALL)

    made = str(jax.make_jaxpr(everything)(rows, tokens_of(3, 2)))
    assert re.search(r"f32\[\d", made) and not re.search(r"f64\[\d", made)


def test_one_compilation_for_a_bucket(sam, rows, count_compiles):
    decoder = FastDecoder(sam, chunk=1)
    shared = decoder.share(rows)
    with count_compiles("_decode") as compiled:
        for count in (5, 6, 7, 8):
            decoder.decode(shared, tokens_of(count, 9), masks=(1,))
            decoder.decode(shared, tokens_of(count, 9), np.ones((count, 9), bool), masks=(1,))
    assert len(compiled) == 1
    another = FastDecoder(sam, chunk=1)
    with count_compiles() as compiled:
        another.decode(another.share(2 * rows), tokens_of(6, 9), masks=(1,))
    assert not [name for name in compiled if "_decode" in name or "_share" in name]


@functools.cache
def temporaries(prompts, tokens, masks):
    """Bytes that XLA sets aside for the decoder of the published size, which is compiled only."""
    sam = nnx.eval_shape(lambda: Sam(SamConfig(), rngs=nnx.Rngs(0)))
    graph, state = split(sam)
    shaped = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    wide, narrow = shaped((4096, 256)), shaped((4096, 128))
    lowered = fast_decoder._decode.lower(
        graph,
        state,
        fast_decoder.SharedImage(wide, wide, narrow, narrow, narrow),
        shaped((prompts, tokens, 256)),
        shaped((prompts, tokens), dtype=jnp.bool_),
        shaped((), dtype=jnp.int32),
        masks=masks,
        chunk=1,
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokens", "masks"), [(2, (1, 2, 3)), pytest.param(50, (0,), marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_prompts(tokens, masks):
    few, many = (temporaries(prompts, tokens, masks) for prompts in (16, 64))
    assert many < 100e6
    assert abs(many - few) < 0.03 * few


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, s: d.share(np.zeros((63, 64), np.float32)), r"embedding has shape .*expected \[64, 64\]"),
        (lambda d, s: d.share(s.rows, s.rows[:, :8]), r"dense has shape .*expected \[64, 64\]"),
        (lambda d, s: d.decode(s, tokens_of(1, 2)[0]), r"sparse has shape .*expected \[any, any, 64\]"),
        (lambda d, s: d.decode(s, tokens_of(1, 2, 32)), r"sparse has shape .*expected \[any, any, 64\]"),
        (lambda d, s: d.decode(s, tokens_of(2, 2), np.ones((2, 3), bool)), r"valid has shape .*\[2, 2\]"),
        (lambda d, s: d.decode(s, tokens_of(0, 2)), "no prompts; expected at least one"),
        (
            lambda d, s: d.decode(s, tokens_of(1, 2), masks=()),
            r"masks is \(\); expected some of \(0, 1, 2, 3",
        ),
        (lambda d, s: d.decode(s, tokens_of(1, 2), masks=(1, 4)), r"masks is \(1, 4\)"),
        (lambda d, s: d.decode(s, tokens_of(1, 2), masks=(-1,)), r"masks is \(-1,\)"),
    ],
)
def test_what_does_not_fit(call, message, decoder, shared):
    with pytest.raises(InputError, match=message):
        call(decoder, shared)
