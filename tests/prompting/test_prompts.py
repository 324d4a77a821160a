from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import Clusters, Prompt, prompts_from_clusters


def clusters(assignment, valid):
    k = len(valid)
    counts = jnp.array([assignment.count(j) for j in range(k)])
    none = jnp.zeros(())
    return Clusters(
        jnp.zeros((k, 2)), jnp.array(assignment), counts, jnp.array(valid), none, jnp.int32(1), none == 0
    )


def test_one_prompt_for_each_valid_cluster():
    xy = np.array([[0, 0], [1, 0], [90, 90], [91, 90], [92, 90], [500, 0]], np.float32)
    grouped = clusters([2, 2, 0, 0, 0, -1], [True, False, True, False])
    first, second = prompts_from_clusters(xy, grouped)
    np.testing.assert_array_equal(first.points, xy[2:5])
    np.testing.assert_array_equal(second.points, xy[:2])
    assert first.positive.all() and first.points.dtype == np.float32 and first.box is None


def test_no_cluster_no_prompt():
    assert prompts_from_clusters(np.zeros((3, 2)), clusters([-1, -1, -1], [False, False])) == ()


def test_errors():
    with pytest.raises(InputError, match="points_xy"):
        prompts_from_clusters(np.zeros((4, 2)), clusters([0, 0, 0], [True]))
    none = np.zeros((0, 2), np.float32), np.zeros(0, bool)
    with pytest.raises(InputError, match="neither a point nor a box"):
        Prompt(*none)
    assert Prompt(*none, box=(0, 0, 5, 5)).box == (0, 0, 5, 5)
    with pytest.raises(InputError, match="positive"):
        Prompt(np.zeros((2, 2), np.float32), np.ones(3, bool))
    with pytest.raises(InputError, match="NaN"):
        Prompt(np.full((1, 2), np.nan, np.float32), np.ones(1, bool))
