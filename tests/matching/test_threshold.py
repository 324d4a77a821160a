from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from softmatch_jax import matching
from softmatch_jax._checks import InputError

# One size, so that one compilation serves all examples.
SIZE = 24
otsu = jax.jit(matching.otsu_threshold)


def splits(values):
    """Every way to part the scores: (area above, gain, lowest above, highest below), float64."""
    values = np.asarray(values, np.float64)
    for below, above in zip(np.unique(values)[:-1], np.unique(values)[1:], strict=True):
        high = values > below
        share = high.mean()
        gain = share * (1 - share) * (values[high].mean() - values[~high].mean()) ** 2
        yield share, gain, above, below


def best_gain(values, low, high):
    """The best gain among the splits within the bounds, or among those nearest to them."""
    found = list(splits(values))
    outside = [max(low - share, share - high, 0) for share, *_ in found]
    return max(gain for (_, gain, *_), out in zip(found, outside, strict=True) if out <= min(outside) + 1e-6)


scores = st.lists(st.integers(-9, 9), min_size=SIZE, max_size=SIZE)  # many ties
bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@settings(max_examples=100, deadline=None)
@given(values=scores, area=bounds, valid=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_is_the_best_of_all_splits(values, area, valid):
    values, valid = np.array(values, np.float32) * 0.37, np.array(valid) | (np.arange(SIZE) == 0)
    cut = otsu(jnp.asarray(values), valid=jnp.asarray(valid), area=tuple(jnp.float32(a) for a in area))
    kept = values[valid]
    above = kept > cut.threshold
    np.testing.assert_allclose(cut.area, above.mean(), rtol=1e-6)
    np.testing.assert_allclose(cut.deviation, kept.astype(np.float64).std(), rtol=1e-5, atol=1e-6)
    if np.ptp(kept) == 0:
        assert (cut.area, cut.separation, cut.threshold) == (0, 0, kept[0])
        return
    high, low = kept[above].astype(np.float64), kept[~above].astype(np.float64)
    gain = above.mean() * (1 - above.mean()) * (high.mean() - low.mean()) ** 2
    np.testing.assert_allclose(gain, best_gain(kept, *np.float32(area)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cut.separation, gain / kept.astype(np.float64).var(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cut.threshold, (high.min() + low.max()) / 2, rtol=1e-5, atol=1e-6)
    assert 0 <= cut.separation <= 1


def test_parts_as_scikit_image_does():
    rng = np.random.default_rng(0)
    levels = np.concatenate([rng.normal(60, 12, 2000), rng.normal(150, 20, 700)]).round()
    # Integer levels in bins of one: the histogram loses nothing.
    theirs = float(threshold_otsu(levels.astype(np.int32)))
    ours = otsu(jnp.asarray(levels, jnp.float32)).threshold
    assert theirs < ours < theirs + 1


@pytest.mark.parametrize("area", [(0.0, 0.05), (0.2, 0.3), (0.8, 1.0)])
def test_area_stays_within_bounds(area):
    score = jnp.asarray(np.random.default_rng(1).normal(size=200), jnp.float32)
    cut = otsu(score, area=area)
    assert area[0] - 1e-6 <= cut.area <= area[1] + 1e-6


def test_finds_one_patch_in_a_thousand():
    score = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    score[77] = 12
    cut = otsu(jnp.asarray(score), area=(0.0005, 0.002))
    assert np.flatnonzero(score > cut.threshold).tolist() == [77]


def test_bounds_that_no_cut_meets_take_the_nearest():
    score = jnp.asarray([0.0] * 9 + [1.0])
    cut = otsu(score, area=(0.2, 0.5))
    assert cut.threshold == 0.5 and cut.area == np.float32(0.1)


def test_neighbouring_floats_are_parted():
    above = np.nextafter(np.float32(1), np.float32(2))
    for low, high in ((np.float32(1), above), (above, np.nextafter(above, np.float32(2)))):
        cut = otsu(jnp.asarray([low, high, low]))
        assert low <= cut.threshold < high


@pytest.mark.parametrize("size", [1, 5])
def test_constant_scores_have_no_object(size):
    cut = otsu(jnp.full(size, 3.7))
    np.testing.assert_array_equal(cut, np.array([3.7, 0, 0, 0], np.float32))


def test_padding_changes_nothing():
    score = np.random.default_rng(3).normal(size=50).astype(np.float32)
    for filler in (-np.inf, np.inf, 1e6, np.nan):
        padded = np.insert(score, [0, 7, 50, 50], filler)
        valid = np.insert(np.ones(50, bool), [0, 7, 50, 50], False)
        plain = otsu(jnp.asarray(score), area=(0.1, 0.4))
        cut = otsu(jnp.asarray(padded), valid=jnp.asarray(valid), area=(0.1, 0.4))
        np.testing.assert_allclose(cut, plain, rtol=1e-5)


def test_follows_an_affine_change_of_scores():
    score = jnp.asarray(np.random.default_rng(4).gamma(1.0, size=300), jnp.float32)
    plain, changed = otsu(score), otsu(3 * score - 5)
    np.testing.assert_allclose(changed.threshold, 3 * plain.threshold - 5, rtol=1e-5)
    np.testing.assert_allclose(changed.deviation, 3 * plain.deviation, rtol=1e-4)
    np.testing.assert_allclose(changed.area, plain.area)
    np.testing.assert_allclose(changed.separation, plain.separation, rtol=1e-4)


def test_far_from_zero_nothing_cancels():
    score = np.random.default_rng(5).normal(size=300).round(2)
    near, far = (otsu(jnp.asarray(score + shift, jnp.float32)) for shift in (0, 2048))
    np.testing.assert_allclose(far.threshold - 2048, near.threshold, atol=1e-3)  # ulp of 2048: 2e-4
    np.testing.assert_allclose(far.separation, near.separation, rtol=1e-3)


def test_vmap_is_a_loop():
    score = jnp.asarray(np.random.default_rng(6).normal(size=(4, SIZE)), jnp.float32)
    areas = jnp.asarray([0.1, 0.2, 0.5, 1.0])
    together = jax.jit(jax.vmap(lambda s, a: otsu(s, area=(a / 4, a))))(score, areas)
    for index in range(4):
        one = otsu(score[index], area=(areas[index] / 4, areas[index]))
        for a, b in zip(together, one, strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-5)


def test_jit_changes_nothing():
    score = jnp.asarray(np.random.default_rng(7).normal(size=SIZE), jnp.float32)
    for a, b in zip(otsu(score), matching.otsu_threshold(score), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match=r"score has shape \(2, 3\); expected 1 axes"):
        matching.otsu_threshold(jnp.ones((2, 3)))
    with pytest.raises(InputError, match=r"valid has shape \[1\]; expected \[3\]"):
        matching.otsu_threshold(jnp.ones(3), valid=jnp.ones(1, bool))
