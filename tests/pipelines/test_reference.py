from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import GREEN, RED, disc, scene

from softmatch_jax import InputError, Painted, Softmatcher
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, PatchFeatures
from softmatch_jax.pipelines.completing import outline_contrast
from softmatch_jax.pipelines.match_step import _spread
from softmatch_jax.pipelines.reference import NEGATIVE_SHARE, patch_weights, stack_references
from softmatch_jax.prompting import PatchGrid

SIZE = (64, 96)


@pytest.fixture(scope="module")
def matcher():
    return Softmatcher.embedded()


def features(size=SIZE):
    grid = PatchGrid(
        image_size=size, input_size=size, stride=8, offset=4, shape=(size[0] // 8 + 1, size[1] // 8)
    )
    return PatchFeatures(jnp.zeros((1, *grid.shape, 2)), grid.valid(), grid)


def half_mask():
    mask = np.zeros(SIZE, bool)
    mask[:, :48] = True
    return mask


def test_weights_of_object_and_surroundings_sum_to_one_apart():
    foreground, background = patch_weights(half_mask(), np.zeros(SIZE, bool), features())
    assert foreground.sum() == pytest.approx(1) and background.sum() == pytest.approx(1)
    assert not ((foreground > 0) & (background > 0)).any()
    assert (foreground > 0).sum() == (background > 0).sum() == 48


def test_padding_has_no_weight():
    given = features()
    for weights in patch_weights(half_mask(), np.zeros(SIZE, bool), given):
        assert not weights[~given.valid.ravel()].any()


def test_what_was_marked_as_background_gets_its_share():
    negative = np.zeros(SIZE, bool)
    negative[:8, 88:] = True  # one patch, and one that the object covers
    negative[:8, :8] = True
    foreground, background = patch_weights(half_mask(), negative, features())
    marked = background.reshape(features().grid.shape)[0, 11]
    assert marked == pytest.approx(NEGATIVE_SHARE + (1 - NEGATIVE_SHARE) / 48)
    assert background.sum() == pytest.approx(1) and foreground[0] > 0 == background[0]


def test_an_object_thinner_than_a_patch_has_patches():
    mask = np.zeros(SIZE, bool)
    mask[:, 50] = True
    foreground, _ = patch_weights(mask, np.zeros(SIZE, bool), features())
    assert (foreground.reshape(features().grid.shape)[:8, 6] > 0).all() and (foreground > 0).sum() == 8


def test_a_full_mask_has_no_surroundings():
    _, background = patch_weights(np.ones(SIZE, bool), np.zeros(SIZE, bool), features())
    assert background.sum() == 0


def test_stacking_pads_to_a_power_of_two_and_keeps_classes_apart(matcher):
    made = []
    for number, name in enumerate(("a", "b", "a")):
        image, (mask,) = scene((64, 64), [((30, 30), 10 + 5 * number, RED)], number)
        made.append(matcher.reference(image, mask, class_name=name))
    names, arrays = stack_references(made)
    patches = made[0].foreground.size
    assert names == ("a", "b") and arrays.features.shape[0] == 4 * patches
    expected = np.zeros((2, 4, patches), np.float32)
    for place, row in enumerate((0, 1, 0)):
        expected[row, place] = made[place].foreground
    assert np.array_equal(np.asarray(arrays.foreground).reshape(2, 4, -1), expected)
    assert arrays.area == pytest.approx(
        [(made[0].mask.mean() + made[2].mask.mean()) / 2, made[1].mask.mean()]
    )
    assert float(arrays.moments.weight) == pytest.approx(1, rel=1e-5)


def test_classes_on_one_picture_share_its_patches(matcher):
    size = (64, 64)
    image, masks = scene(size, [((20, 30), 12, RED), ((46, 34), 10, (60, 70, 200))], 0)
    encoded = matcher.encode(image)
    shared = [
        matcher.reference(encoded, mask, class_name=name) for name, mask in zip("ab", masks, strict=True)
    ]
    # The same object twice: its two examples of one class cannot share a row.
    again = matcher.reference(encoded, masks[0], class_name="a")
    patches = shared[0].foreground.size
    assert stack_references(shared)[1].features.shape[0] == patches
    assert stack_references([*shared, again])[1].features.shape[0] == 2 * patches
    apart = [replace(r, encoded=matcher.encode(image)) for r in shared]
    assert stack_references(apart)[1].features.shape[0] == 2 * patches
    target, _ = scene(size, [((40, 40), 12, RED), ((16, 16), 10, (60, 70, 200))], 1)
    one, other = (matcher.segment(target, refs, key=jax.random.key(0)) for refs in (shared, apart))
    assert np.array_equal(one.labels, other.labels) and one.labels.max() == 2
    for name in "ab":
        assert one[name].log_evidence == pytest.approx(other[name].log_evidence, abs=1e-4)
        assert one[name].resemblance == pytest.approx(other[name].resemblance, abs=1e-4)


def test_negatives_keep_their_weight_beside_another_reference(matcher):
    """A look-alike that one reference marks as background stays out when a second reference joins."""
    size, like = (120, 160), (200, 85, 50)
    image, _ = scene(size, [((40, 60), 25, RED), ((115, 60), 25, like)], 0)
    marked = matcher.reference(image, Painted(disc(size, (40, 60), 12), disc(size, (115, 60), 20)))
    plain_image, (plain_mask,) = scene(size, [((80, 60), 30, RED)], 3)
    plain = matcher.reference(plain_image, plain_mask)
    target, (truth, _) = scene(size, [((110, 70), 25, RED), ((40, 50), 25, like)], 5)
    found = matcher.segment(target, [marked, plain], key=jax.random.key(0)).classes[0]
    assert intersection_over_union(found.mask, truth) > 0.9


def test_references_of_another_model_are_refused(matcher):
    other = replace(matcher, features=DenseDescriptor(DescriptorConfig(gradient_scale=3.0)))
    image, (mask,) = scene((64, 64), [((30, 30), 15, RED)], 0)
    with pytest.raises(InputError, match="different models"):
        matcher.segment(image, other.reference(image, mask), key=jax.random.key(0))


def test_outline_contrast_prefers_the_true_outline(matcher):
    image, (mask,) = scene((160, 160), [((80, 80), 40, GREEN)], 0)
    encoded = matcher.encode(image).features
    true = outline_contrast(mask, encoded)
    for centre, radius in (((80, 80), 25), ((80, 80), 60), ((60, 80), 40)):
        assert outline_contrast(disc((160, 160), centre, radius), encoded) < true
    assert outline_contrast(np.ones((160, 160), bool), encoded) == 0


def test_outline_contrast_of_a_blank_picture_is_zero():
    assert outline_contrast(half_mask(), features()) == 0


def test_spread_draws_by_weight():
    weights = np.array([0, 3, 0, 1, 0], np.float32)
    assert np.bincount(_spread(jnp.asarray(weights), 400), minlength=5).tolist() == [0, 300, 0, 100, 0]
