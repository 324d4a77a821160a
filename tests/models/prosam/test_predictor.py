"""Extractor, prompt encoder and SAM put together: the same in, the same out, and parts that must fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_encoder

from softmatch_jax import InputError
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.convert import load_torch_encoder
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.predictor import Deepens, Predictor, mask_to_grid
from softmatch_jax.models.prosam.pseudo_mask import pseudo_mask
from softmatch_jax.models.prosam.weights import encoder_of
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.prompting import PatchGrid

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

SIZES = {"channels": 6, "dim": 128, "prompts": 5, "heads": 4}
SIDE, CELL = 64, 8


class Colours:
    """Mean colours of cells and their squares; a picture fills its square from the top left."""

    name, dim = "colours", 6

    def grid(self, image_size):
        scale = SIDE / max(image_size)
        content = tuple(round(length * scale) for length in image_size)
        return PatchGrid(
            image_size=image_size, input_size=content, stride=CELL, offset=CELL / 2, shape=(SIDE // CELL,) * 2
        )

    def __call__(self, images):
        grid = self.grid(images.shape[1:3])
        square = np.zeros((len(images), SIDE, SIDE, 3), np.float32)
        sizes = zip(grid.input_size, images.shape[1:3], strict=True)
        rows, columns = (np.arange(new) * old // new for new, old in sizes)
        square[:, : len(rows), : len(columns)] = images[:, rows][:, :, columns] / 255
        means = square.reshape(len(images), SIDE // CELL, CELL, SIDE // CELL, CELL, 3).mean(axis=(2, 4))
        return PatchFeatures(jnp.asarray(np.concatenate([means, means**2], -1)), grid.valid(), grid)


class Deep(Colours):
    """The same with deeper features, which keep what they were made of for the test."""

    name = "deep"

    def __init__(self):
        self.masks = []

    def deepen(self, values, mask):
        self.masks.append(mask)
        under = values if mask is None else values * mask[..., None]
        return jnp.concatenate([under[..., :2] ** 2, under[..., 3:4]], -1)


def picture(seed, size=(48, 64)):
    """Large patches of colour."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.repeat(np.repeat(small, size[0] // 6, 0), size[1] // 8, 1)


def annotation(size=(48, 64)):
    mask = np.zeros(size, bool)
    mask[8:30, 16:40] = True
    return mask


def encoder(outputs="prosam", seed=0, **settings):
    config = PromptEncoderConfig(**SIZES, variational=outputs == "prosam", **settings)
    return encoder_of(config, load_torch_encoder(torch_encoder.state(network(outputs, seed)), config))


def network(outputs="prosam", seed=0):
    return torch_encoder.trained(outputs, seed=seed, **SIZES)


@pytest.fixture(scope="module")
def sam():
    return FrozenSam(TinySam.load(config=TinySamConfig(size=64)))


@pytest.fixture(scope="module")
def predictor(sam):
    return Predictor(Colours(), sam, encoder())


def predicted(predictor):
    reference = predictor.reference(predictor.see(picture(0)), annotation())
    return predictor.prompts(reference, predictor.see(picture(1)))


def test_prompts_are_the_same_every_time(predictor, sam):
    """Of one predictor, and of another with the same weights; nothing is dropped."""
    once = predicted(predictor)
    assert once.mean.shape == once.log_sigma.shape == (5, 128)
    for other in (predictor, Predictor(Colours(), sam, encoder())):
        jax.tree.map(np.testing.assert_array_equal, predicted(other), once)
    assert np.abs(predicted(Predictor(Colours(), sam, encoder(seed=1))).mean - once.mean).max() > 0.1


def test_prompts_are_the_encoder_s(predictor):
    """The whole way against the re-expression in torch: mask on the grid, pseudo mask, padding."""
    import torch

    near, far = (predictor.see(picture(seed)) for seed in (0, 1))
    assert not near.valid.all() and near.values.shape == (8, 8, 6)
    mask = mask_to_grid(annotation(), near.grid, "nearest")
    assert 0 < mask.sum() < near.valid.sum()
    reference = predictor.reference(near, annotation())
    np.testing.assert_array_equal(reference.mask, mask)
    pseudo = np.asarray(pseudo_mask(near.values, mask, far.values)) * far.valid
    np.testing.assert_allclose(predictor.pseudo(reference, far), pseudo, atol=1e-6)
    arrays = [np.array(near.values).transpose(2, 0, 1), mask, np.array(far.values).transpose(2, 0, 1), pseudo]
    batch = [torch.tensor(array, dtype=torch.float64)[None] for array in arrays]
    valid = [torch.tensor(features.valid)[None] for features in (near, far)]
    for got, wanted in zip(predictor.prompts(reference, far), network()(*batch, *valid), strict=True):
        wanted = wanted[0].detach().numpy()
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.ptp(wanted))


def test_settings_of_the_encoder_are_heeded(sam):
    for settings in ({"to_grid": "area"}, {"likeness": "minmax"}):
        other = Predictor(Colours(), sam, encoder(**settings))
        reference = other.reference(other.see(picture(0)), annotation())
        np.testing.assert_array_equal(
            reference.mask,
            mask_to_grid(annotation(), reference.features.grid, settings.get("to_grid", "nearest")),
        )
        pseudo = np.asarray(other.pseudo(reference, other.see(picture(1))))
        assert ("likeness" in settings) == bool(
            np.isclose(pseudo[reference.features.valid].min(), 0, atol=1e-6)
        )


def test_deeper_features_measure_likeness(sam):
    """Masked before they go deeper for the reference, and not for the target."""
    extractor = Deep()
    assert isinstance(extractor, Deepens) and not isinstance(Colours(), Deepens)
    deep = Predictor(extractor, sam, encoder())
    near, far = (deep.see(picture(seed)) for seed in (0, 1))
    reference = deep.reference(near, annotation())
    got = deep.pseudo(reference, far)
    assert [mask is None for mask in extractor.masks] == [False, True]
    expected = pseudo_mask(
        Deep().deepen(near.values, reference.mask), reference.mask, Deep().deepen(far.values, None)
    )
    np.testing.assert_allclose(got, np.where(far.valid, expected, 0), atol=1e-6)
    assert reference.deep.shape == (8, 8, 3)


def test_chunks_do_not_matter(predictor, sam):
    """Sets that are decoded one by one, in pairs with one left over, or all at once."""
    scene = sam.encode(picture(1))
    sets = np.random.default_rng(0).normal(size=(5, 5, 128)).astype(np.float32)
    logits = jax.jit(sam.logits)
    expected = np.stack([logits(sam.weights, scene.scene, each) for each in sets])
    for chunk in (1, 2, 100):
        got = predictor.decode(scene, sets, chunk=chunk)
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.ptp(expected))


def test_references_in_a_row(predictor, sam):
    """Prompts of two references are a set of twice as many."""
    scene, mean = sam.encode(picture(1)), predicted(predictor).mean
    one, two = (predictor.decode(scene, jnp.concatenate([mean] * n)[None]) for n in (1, 2))
    assert one.shape == two.shape == (1, sam.side, sam.side) and np.abs(one - two).max() > 1e-3


def test_distribution_of_the_encoder(sam):
    assert Predictor(Colours(), sam, encoder()).distribution == DistributionConfig()
    assert Predictor(Colours(), sam, encoder(0)).distribution == DistributionConfig(family="none")
    given = DistributionConfig(family="gaussian")
    assert Predictor(Colours(), sam, encoder(), given).distribution == given


def test_parts_that_do_not_fit(sam):
    other = Colours()
    other.dim = 7
    with pytest.raises(
        InputError, match="6 channels, but colours has 7; expected the features it was trained"
    ):
        Predictor(other, sam, encoder())
    sizes = SIZES | {"dim": 64}
    config = PromptEncoderConfig(**sizes)
    narrow = encoder_of(
        config, load_torch_encoder(torch_encoder.state(torch_encoder.trained("prosam", **sizes)), config)
    )
    with pytest.raises(
        InputError, match=r"prompts of 64 numbers, but tiny-sam.* takes 128; expected the SAM"
    ):
        Predictor(Colours(), sam, narrow)


def test_bad_input(predictor, sam):
    scene, sets = sam.encode(picture(1)), np.zeros((2, 5, 128), np.float32)
    for wrong in (sets[0], sets[..., :64]):
        with pytest.raises(InputError, match=r"prompts has shape .*; expected \["):
            predictor.decode(scene, wrong)
    with pytest.raises(InputError, match="chunk is 0 for 2 sets"):
        predictor.decode(scene, sets, chunk=0)
    with pytest.raises(InputError, match="chunk is 1 for 0 sets"):
        predictor.decode(scene, sets[:0])
    with pytest.raises(InputError, match="but its image is"):
        predictor.reference(predictor.see(picture(0)), annotation((48, 32)))
