"""The tiny model as a mask generator: it sees what it was trained on, and prompts keep places."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
import random_tiny

from softmatch_jax import InputError
from softmatch_jax.models import MaskGenerator, Storable
from softmatch_jax.models.sam import tiny_network
from softmatch_jax.models.sam.flat_weights import merge
from softmatch_jax.models.sam.static_graph import split
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig, mirror_raster
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.models.sam.tiny_weights import save_weights
from softmatch_jax.prompting import Prompt
from softmatch_jax.training.augmenting import View
from softmatch_jax.training.sam_task import _prepare

SIDE, RASTER = 32, 8


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def points(*xy, box=None, logits=None, negative=()):
    everything = np.reshape(np.array([*xy, *negative], np.float32), (-1, 2))
    return Prompt(everything, np.arange(len(everything)) < len(xy), box, logits)


@pytest.fixture(scope="module")
def network():
    return TinyNetwork(random_tiny.random_weights(), size=SIDE, source="test")


@pytest.fixture(scope="module")
def generator(network):
    return TinySam(network, TinySamConfig(size=SIDE))


@pytest.fixture(scope="module")
def image():
    return picture(45, 64)


@pytest.fixture(scope="module")
def embedding(generator, image):
    return generator.encode(image)


ONE, TWO = points((40, 30)), points((10, 30), (50, 20), negative=[(10, 8)])
BOX, BOTH = points(box=(10.5, 5.25, 50, 40)), points((60, 40), box=(20, 10, 62, 44))
PROMPTS = [TWO, ONE, BOX, BOTH]


def test_it_is_a_storable_mask_generator(generator):
    made: MaskGenerator = generator
    assert isinstance(made, Storable) and made.promptable


@pytest.mark.parametrize("size", [(45, 64), (32, 20), (31, 1000), (1000, 3), (7, 9), (17, 32), (500, 501)])
def test_a_picture_is_seen_as_in_training(network, size):
    """Size, pixels, standardisation and padding of a view of the whole picture."""
    image = picture(*size, seed=sum(size))
    view = View(x=0, y=0, width=size[1], height=size[0], side=SIDE, scale=SIDE / max(size))
    assert network.content(size) == view.content
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[: view.content[0], : view.content[1]] = view.cut(image)
    arrays = {
        "images": square,
        "content": np.asarray(view.content, np.int32),
        "masks": np.zeros((1, SIDE // 2, SIDE // 2), bool),
        "weights": np.ones(1, np.float32),
    }
    seen = []
    model = SimpleNamespace(config=network.config, encode=lambda pixels: seen.append(np.asarray(pixels)))
    _prepare(model, arrays)
    wanted = _encoded(merge(network.config, network._weights), seen[0])
    for made, expected in zip(
        jax.tree.leaves(network.encode(image, view.content)), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-4)


def _encoded(model, pixels):
    graph, state = split(model)
    return _encode(state, pixels, graph=graph)


_encode = jax.jit(lambda state, pixels, graph: graph.merge(state).encode(pixels), static_argnames="graph")


@pytest.mark.slow
def test_masks_follow_the_prompt(generator, embedding):
    """Three for a single point, one for what is clear."""
    made = generator.decode(embedding, PROMPTS)
    assert made.prompts.tolist() == [0, 1, 1, 1, 2, 3]
    assert (made.image_size, made.content, made.scale) == ((45, 64), (22, 32), 4)
    assert made.logits.shape == (6, RASTER, RASTER) and made.masks.shape == (6, 45, 64)
    assert made.logits.dtype == made.scores.dtype == made.stability.dtype == np.float32
    for masks, counts in (("single", [1] * 4), ("multiple", [3] * 4)):
        other = TinySam(generator.network, replace(generator.config, masks=masks))
        assert np.bincount(other.decode(embedding, PROMPTS).prompts).tolist() == counts


def test_it_decodes_what_the_model_does(generator, embedding):
    """Points at +0.5, scaled by the true ratio; all maps and tokens on."""
    ratio = np.divide(embedding.content, embedding.image_size)[::-1]
    model = merge(generator.network.config, generator.network._weights)
    xy = np.concatenate([BOTH.points, np.reshape(BOTH.box, (2, 2))]) * ratio
    labels = np.array([1, 2, 3], np.int32)
    decode = jax.jit(lambda xy, labels: model.decode(embedding.views[0], xy, labels))
    logits, iou = decode(xy.astype(np.float32), labels)
    made = generator.decode(embedding, [BOTH])
    rows, columns = embedding.content[0] // 4, embedding.content[1] // 4
    np.testing.assert_allclose(made.logits[0, :rows, :columns], logits[0, :rows, :columns], rtol=0, atol=1e-4)
    np.testing.assert_allclose(made.scores[0], iou[0], atol=1e-5)


@pytest.mark.slow
def test_prompts_do_not_mix(generator, embedding):
    together = generator.decode(embedding, PROMPTS)
    alone = [generator.decode(embedding, [prompt]) for prompt in PROMPTS]
    np.testing.assert_allclose(together.logits, np.concatenate([one.logits for one in alone]), atol=1e-5)
    np.testing.assert_allclose(together.scores, np.concatenate([one.scores for one in alone]), atol=1e-5)
    many = generator.decode(embedding, [ONE, TWO] * 9)  # more than a block
    np.testing.assert_allclose(many.logits[-4:-1], together.logits[1:4], atol=1e-5)
    assert len(many) == 36 and many.prompts.tolist() == sorted(many.prompts.tolist())


def test_few_programs_are_compiled(generator, embedding, count_compiles):
    generator.decode(embedding, [ONE])
    with count_compiles("_decode") as compiled:
        for count in (1, 3, 17):
            generator.decode(embedding, [BOX] * count)
        generator.decode(embedding, [replace(BOX, logits=np.ones((RASTER, RASTER), np.float32))])
    assert len(compiled) == 0


def test_threads_change_nothing(network, image, monkeypatch):
    features = network.encode(image, network.content(image.shape[:2]))
    xy = np.random.default_rng(3).uniform(0, SIDE, (7, 3, 2)).astype(np.float32)
    labels = np.ones((7, 3), np.int32)
    logits = np.zeros((7, RASTER, RASTER), np.float32)
    answers = []
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr(tiny_network, "THREADS", threads)
        answers += [network.decode(features, xy, labels, logits) for _ in range(2)]
    for masks, iou in answers[1:]:
        np.testing.assert_array_equal(masks, answers[0][0])
        np.testing.assert_array_equal(iou, answers[0][1])


def test_earlier_logits_are_corrected(generator, embedding):
    first = generator.decode(embedding, [BOX])
    again = replace(BOX, logits=first.logits[0])
    answers = generator.decode(embedding, [BOX, again])
    assert answers.prompts.tolist() == [0, 1]
    np.testing.assert_allclose(answers.logits[0], first.logits[0], atol=1e-5)
    assert np.abs(answers.logits[1] - answers.logits[0]).max() > 1e-3
    assert generator.decode(embedding, [replace(ONE, logits=first.logits[0])]).prompts.tolist() == [0]
    with pytest.raises(InputError, match=r"Prompt\.logits has shape"):
        generator.decode(embedding, [replace(BOX, logits=np.zeros((4, 4), np.float32))])


def test_a_prior_counts_only_where_it_is_asked_for(generator, embedding):
    prior = np.zeros((45, 64), np.float32)
    prior[10:30, 20:50] = 0.9
    plain = generator.decode(embedding, [ONE])
    np.testing.assert_array_equal(generator.decode(embedding, [ONE], prior=prior).logits, plain.logits)
    guided = TinySam(generator.network, replace(generator.config, use_prior=True))
    made = guided.decode(embedding, [ONE], prior=prior)
    assert len(made) == 1 and np.isfinite(made.logits).all()
    likely = np.clip(generator.raster(embedding.image_size).reduce(prior), 1e-3, 1 - 1e-3)
    same = generator.decode(embedding, [replace(ONE, logits=np.log(likely / (1 - likely)))])
    np.testing.assert_allclose(made.logits, same.logits, atol=1e-4)
    assert len(guided.decode(embedding, [ONE])) == 3
    with pytest.raises(InputError, match="prior has shape"):
        guided.decode(embedding, [ONE], prior=prior[1:])


@pytest.mark.parametrize("size", [(31, 1000), (1000, 31), (3, 1000), (13, 17)])
def test_a_prompt_in_the_corner_of_a_sliver(generator, size, monkeypatch):
    """The spot it is drawn as lies in the last cells that show the picture."""
    height, width = size
    image = picture(height, width)
    embedding = generator.encode(image)
    asked = []
    monkeypatch.setattr(generator.network, "decode", lambda *given: (asked.append(given), answer)[1])
    answer = (np.zeros((1, 4, RASTER, RASTER), np.float32), np.zeros((1, 4), np.float32))
    made = generator.decode(embedding, [points((width - 0.5, height - 0.5), (0.5, 0.5))])
    _, xy, labels, _ = asked[0]
    given = xy[0][labels[0] == 1]
    back = given * np.divide(size, embedding.content)[::-1]
    np.testing.assert_allclose(back, [(width - 0.5, height - 0.5), (0.5, 0.5)], rtol=1e-5)
    assert (given > 0).all() and (given < np.array(embedding.content[::-1])).all()
    assert made.masks.shape == (1, height, width)


def test_a_mask_lies_where_its_logits_do(generator, monkeypatch):
    """A cell of the raster is the part of the picture that it was made from, at an odd size too."""
    embedding = generator.encode(picture(331, 487))
    logits = np.full((1, 4, RASTER, RASTER), -1, np.float32)
    logits[0, 0, 2:4, 3:6] = 1  # square's pixels y 8..16, x 12..24, of 22 x 32
    monkeypatch.setattr(generator.network, "decode", lambda *given: (logits, np.ones((1, 4), np.float32)))
    rows, columns = np.nonzero(generator.decode(embedding, [BOX]).masks[0])
    scale = np.divide((331, 487), embedding.content)
    edges = [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]
    np.testing.assert_allclose(edges, [8 * scale[0], 16 * scale[0], 12 * scale[1], 24 * scale[1]], atol=2)


def test_what_lies_beyond_the_picture_does_not_reach_its_rim(generator, embedding, monkeypatch):
    logits = np.full((1, 4, RASTER, RASTER), -9, np.float32)
    logits[..., :5, :] = 1  # the picture ends within the sixth row, which no cell centre is in
    monkeypatch.setattr(generator.network, "decode", lambda *given: (logits, np.ones((1, 4), np.float32)))
    assert generator.decode(embedding, [BOX]).masks[0].all()


def test_a_mirrored_picture_gives_the_mirrored_mask(network, image):
    """Asking the mirror image as well makes answers symmetric, whichever way round a picture is."""
    both = TinySam(network, TinySamConfig(size=SIDE, flips=True, masks="single"))
    turned = [points((64 - 40, 30)), points(box=(64 - 50, 5.25, 64 - 10.5, 40))]
    made = both.decode(both.encode(image), [ONE, BOX])
    other = both.decode(both.encode(image[:, ::-1]), turned)
    np.testing.assert_allclose(made.logits[..., ::-1], other.logits, atol=1e-4)
    np.testing.assert_allclose(made.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("width", [2, 4, 6, 26, 30, 32])
def test_mirrored_rasters(width):
    """A ramp stays a ramp, through the same middle."""
    x = (np.arange(RASTER) + 0.5) * 4
    ramp = np.broadcast_to(x, (2, RASTER, RASTER)).astype(np.float32)
    mirrored = mirror_raster(ramp, width)[0, 0, : width // 4]
    np.testing.assert_allclose(mirrored, width - x[: width // 4])


@pytest.mark.parametrize("flips", [False, True])
def test_an_embedding_comes_back_from_a_cache(network, image, flips):
    made = TinySam(network, TinySamConfig(size=SIDE, flips=flips))
    embedding = made.encode(image)
    packed = made.pack(embedding)
    assert all(isinstance(array, np.ndarray) for array in packed.values())
    back = made.unpack(packed, (45, 64))
    first, second = made.decode(embedding, PROMPTS), made.decode(back, PROMPTS)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert (first.content, first.image_size) == (second.content, second.image_size)


def test_names_say_what_decides(network):
    def named(**changes):
        return TinySam(network, TinySamConfig(size=SIDE, **changes))

    assert "test" in named().name and named().name.startswith("tiny-sam(")
    assert named(masks="single").name != named().name
    assert named(masks="single").embedding_name == named().embedding_name
    assert named(flips=True).embedding_name != named().embedding_name


def test_it_is_loaded_from_a_file(tmp_path):
    weights = random_tiny.random_weights(1)
    path = tmp_path / "w.safetensors"
    save_weights(path, weights, metadata={})
    loaded = TinySam.load(path, config=TinySamConfig(size=64), masks="single")
    assert (loaded.config.masks, loaded.config.size) == ("single", 64)
    one, two = (TinySam(random_tiny.random_weights(seed), masks="single") for seed in (1, 2))
    assert one.network.config.image_size == 256 and one.name != two.name


def test_what_cannot_be(generator, embedding):
    with pytest.raises(InputError, match="no prompts"):
        generator.decode(embedding, [])
    with pytest.raises(InputError, match="masks is 'all'"):
        TinySamConfig(masks="all")
    for size in (0, 100, 512):
        with pytest.raises(InputError, match=f"{size}; expected a multiple of 16"):
            TinySamConfig(size=size)
    with pytest.raises(InputError, match="size is 256, but the network is for 32"):
        TinySam(generator.network)
    with pytest.raises(InputError, match="image is"):
        generator.encode(np.zeros((4, 4), np.uint8))
