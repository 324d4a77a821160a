"""Batches of pairs: what they hold, and on what alone they depend."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from small_prompts import SIDE, CornerSam, Drawn, MeanColours, noise

from softmatch_jax._checks import InputError
from softmatch_jax.data.published_annotations import to_feature_grid
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.frozen_sam import Scene
from softmatch_jax.models.prosam.pseudo_mask import pseudo_mask
from softmatch_jax.training.prompt_batches import (
    PromptBatches,
    pair_arrays,
    scene_of,
    stack_pairs,
    truth_arrays,
)
from softmatch_jax.training.prompt_store import FrozenStore

CONFIG = PromptEncoderConfig(channels=4, dim=8, prompts=2, heads=2, to_grid="area")


def store_of(**options):
    return FrozenStore(MeanColours(), CornerSam(), **options)


def batches(*sources, store=None, config=CONFIG, **options):
    return PromptBatches(sources or [(Drawn(), 1.0)], store or store_of(), config, **options)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_batches_depend_on_seed_and_step_alone(tmp_path):
    source = batches(size=3)
    made = [source.batch(7, step) for step in range(4)]
    forgetful = batches(size=3, store=store_of(most_bytes=1))
    np.random.seed(0)
    for step in (3, 0, 2, 3):
        assert_same(forgetful.batch(7, step), made[step])
    assert len(forgetful._store.features.calls) > 20
    assert not np.array_equal(source.batch(8, 0)["mask"], made[0]["mask"])
    assert not np.array_equal(made[1]["mask"], made[0]["mask"])


def test_with_a_folder_as_without_but_rounded(tmp_path):
    rounded = batches(size=2, store=store_of(folder=tmp_path, most_bytes=1))
    again = batches(size=2, store=store_of(folder=tmp_path))
    assert_same(rounded.batch(0, 1), again.batch(0, 1))
    exact = batches(size=2).batch(0, 1)
    np.testing.assert_allclose(rounded.batch(0, 1)["reference"], exact["reference"], rtol=1e-3, atol=1e-3)
    assert rounded.digest != batches(size=2).digest


def test_steps_go_along_the_stream():
    """The pairs of a step follow those of the step before, whatever the size of a batch."""
    large, small = batches(size=4).batch(3, 1), [batches(size=2).batch(3, step) for step in (2, 3)]
    for name, array in large.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in small]))


def test_what_a_batch_holds():
    source = batches(size=2)
    batch = source.batch(1, 0)
    for row in range(2):
        pair = Drawn().pair(1, row)
        store = store_of()
        near, far = (store.get(shown.key, shown.image) for shown in (pair.reference, pair.target))
        np.testing.assert_array_equal(batch["reference"][row], near.features.values)
        np.testing.assert_array_equal(batch["target"][row], far.features.values)
        np.testing.assert_array_equal(batch["reference_valid"][row], near.features.valid)
        np.testing.assert_array_equal(batch["target_valid"][row], far.features.valid)
        np.testing.assert_array_equal(batch["scene_rows"][row], far.scene.rows)
        cells, values = batch["mask"][row], jnp.asarray(near.features.values)
        assert cells.any() and not cells[~near.features.valid].any()
        expected = pseudo_mask(values, cells, far.features.values, target_valid=far.features.valid)
        np.testing.assert_allclose(batch["pseudo"][row], expected, atol=1e-6)
        # The area of the object is that of its cells.
        height, width = pair.target.mask.shape
        cell = (max(height, width) / 8) ** 2
        np.testing.assert_allclose(batch["truth"][row].sum() * cell, pair.target.mask.sum(), rtol=0.02)
        np.testing.assert_array_equal(batch["inside"][row], far.raster.inside)
        assert not batch["truth"][row][batch["inside"][row] == 0].any()
    assert {array.dtype for array in batch.values()} == {np.dtype(np.float32), np.dtype(bool)}
    scene = scene_of(batch)
    assert isinstance(scene, Scene) and scene.double.shape == (2, 2, 2, 3) and scene.fourfold is None


def test_sources_are_mixed_by_weight():
    counts = {"a": 0, "b": 0, "c": 0}
    source = batches((Drawn("a"), 5.0), (Drawn("b"), 3.0), (Drawn("c"), 2.0))
    drawn = [source.pair(4, index).reference.key[0] for index in range(2000)]
    for name in drawn:
        counts[name] += 1
    # Standard deviations are below 23.
    np.testing.assert_allclose(list(counts.values()), [1000, 600, 400], atol=80)
    assert drawn[100:105] == [source.pair(4, index).reference.key[0] for index in range(100, 105)]
    assert drawn[:50] != [source.pair(5, index).reference.key[0] for index in range(50)]


def test_digest():
    others = [
        batches((Drawn(digest="drawn 2"), 1.0)),
        batches((Drawn(name="others"), 1.0)),
        batches((Drawn(), 1.0), (Drawn("b"), 1.0)),
        batches((Drawn(), 1.0), (Drawn("b"), 2.0)),
        batches(size=3),
        batches(loss_side=16),
        batches(config=replace(CONFIG, to_grid="nearest")),
        batches(config=replace(CONFIG, likeness="minmax")),
        batches(store=FrozenStore(MeanColours(name="other"), CornerSam())),
        batches(store=FrozenStore(MeanColours(), CornerSam(name="other"))),
    ]
    digests = {source.digest for source in (batches(), *others)}
    assert len(digests) == len(others) + 1
    # What the encoder is made of is the task's, and what is kept in memory changes nothing.
    assert batches(config=replace(CONFIG, prompts=3)).digest == batches().digest
    assert batches(store=store_of(most_bytes=1)).digest == batches().digest


@pytest.mark.parametrize("side", [32, 512])
def test_published_annotations_lie_on_a_stretched_grid(side):
    """As VRP-SAM's code brings its raster of 512x512 to the grid; the picture has any shape."""
    features = MeanColours(stretched=True, side=side)
    store = FrozenStore(features, CornerSam(stretched=True))
    config = replace(CONFIG, to_grid="nearest")
    frozen = store.get("a", lambda: noise(0, (24, 37)))
    marked = np.random.default_rng(0).random((512, 512)) < 0.3
    arrays = pair_arrays(store, config, frozen, marked, frozen, np.zeros((24, 37), bool))
    grid = features.grid((24, 37)).shape
    np.testing.assert_array_equal(arrays["mask"], to_feature_grid(marked, grid, mode="nearest"))
    for mode in ("area", "any"):
        arrays = pair_arrays(
            store, replace(config, to_grid=mode), frozen, marked, frozen, np.zeros((24, 37), bool)
        )
        np.testing.assert_allclose(arrays["mask"], to_feature_grid(marked, grid, mode=mode), atol=1e-6)


def test_truth_is_the_share_of_each_cell():
    raster = CornerSam().raster((16, 32))
    truth = np.random.default_rng(0).random((16, 32)) < 0.4
    made = truth_arrays(raster, truth, None)
    expected = truth.reshape(4, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(made["truth"][:4], expected, atol=1e-6)
    assert not made["truth"][4:].any()
    np.testing.assert_array_equal(made["inside"], np.arange(8)[:, None].repeat(8, 1) < 4)


def test_truth_as_published():
    """The mask at 512x512 by the nearest pixels of torch, void of half-covered ones; all of it counts."""
    import torch

    truth = np.random.default_rng(0).random((333, 500)) < 0.4
    made = truth_arrays(CornerSam(stretched=True).raster((333, 500)), truth, 512)
    tensor = torch.tensor(truth[None, None], dtype=torch.float32)
    expected = torch.nn.functional.interpolate(tensor, (512, 512), mode="nearest")[0, 0].numpy()
    # torch multiplies by a rounded ratio, which may take the neighbour of a pixel that is hit exactly.
    assert np.mean(made["truth"] == expected) > 0.99
    assert made["inside"].all() and made["truth"].dtype == np.float32
    assert set(np.unique(made["truth"])) == {0.0, 1.0}


def test_a_square_loss_needs_a_square_picture():
    truth = np.ones((16, 32), bool)
    truth_arrays(CornerSam().raster((SIDE, SIDE)), np.ones((SIDE, SIDE), bool), 16)
    with pytest.raises(InputError, match="loss_side is 16, but a picture of 32x16 does not fill the raster"):
        truth_arrays(CornerSam().raster((16, 32)), truth, 16)


def test_misfits():
    with pytest.raises(InputError, match="no source"):
        PromptBatches([], store_of(), CONFIG)
    with pytest.raises(InputError, match="The weight of drawn is 0"):
        batches((Drawn(), 0.0))
    with pytest.raises(InputError, match="The size of a batch is 0"):
        batches(size=0)
    with pytest.raises(InputError, match="features of 5 channels, but colours has 4"):
        batches(config=replace(CONFIG, channels=5))
    with pytest.raises(InputError, match="prompts of 16 numbers, but corner takes 8"):
        batches(config=replace(CONFIG, dim=16))
    with pytest.raises(InputError, match=r"mask has the shapes \[\(2, 2\), \(4, 4\)\] within a batch"):
        stack_pairs([{"mask": np.zeros((side, side))} for side in (4, 2)])


def test_an_annotation_of_another_size_is_squashed_like_its_picture():
    """On a padded grid too: the object's cells are those that it has at the picture's own size."""
    store = store_of()
    frozen = store.get("a", lambda: noise(0, (24, 32)))
    mask = np.zeros((24, 32), bool)
    mask[8:16, 8:24] = True
    large = np.zeros((512, 512), bool)
    large[512 * 8 // 24 + 1 : 512 * 16 // 24, 128:384] = True
    blank = np.zeros((24, 32), bool)
    made = [pair_arrays(store, CONFIG, frozen, each, frozen, blank)["mask"] for each in (mask, large)]
    np.testing.assert_allclose(made[1], made[0], atol=0.01)
    assert made[0].sum() == 2 and isinstance(frozen.raster, Proposals)
