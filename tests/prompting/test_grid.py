from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import PatchGrid


@st.composite
def grids(draw):
    stride = draw(st.integers(1, 16))
    offset = draw(st.sampled_from([stride / 2, 0.0, 0.5]))
    input_size = draw(st.tuples(st.integers(9, 60), st.integers(9, 60)))
    shape = tuple(-(-n // stride) + draw(st.integers(0, 2)) for n in input_size)
    image_size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return PatchGrid(image_size=image_size, input_size=input_size, stride=stride, offset=offset, shape=shape)


def dino():
    return PatchGrid(image_size=(300, 400), input_size=(420, 560), stride=14, offset=7.0, shape=(40, 40))


def test_centres_of_a_known_grid():
    centres = dino().patch_centres()
    assert centres.shape == (40, 40, 2) and centres.dtype == np.float32
    np.testing.assert_allclose(centres[0, 0], [5, 5])
    np.testing.assert_allclose(centres[2, 3], [(7 + 3 * 14) / 1.4, (7 + 2 * 14) / 1.4], rtol=1e-6)
    valid = dino().valid()
    assert valid[:30].all() and not valid[30:].any()


@settings(max_examples=40, deadline=None)
@given(grid=grids())
def test_mapping_there_and_back(grid):
    xy = np.random.default_rng(0).uniform(-5, 50, (7, 2))
    np.testing.assert_allclose(grid.to_original(grid.to_input(xy)), xy, rtol=1e-12)
    height, width = grid.image_size
    np.testing.assert_allclose(grid.to_input((width, height)), grid.input_size[::-1])


@settings(max_examples=40, deadline=None)
@given(grid=grids())
def test_patches_own_their_centres(grid):
    valid = grid.valid()
    row, column = np.nonzero(valid)
    # Mapping in float64: a float32 centre may round across the border of a cell at stride 1.
    centres = grid.to_original(np.stack([column, row], axis=-1) * grid.stride + grid.offset)
    np.testing.assert_allclose(grid.patch_centres()[valid], centres, rtol=1e-5)
    np.testing.assert_array_equal(grid.patch_of(centres), (row, column))
    assert valid[grid.patch_of([[-1e5, -1e5], [1e5, 1e5]])].all()


@settings(max_examples=40, deadline=None)
@given(grid=grids())
def test_valid_means_that_the_centre_is_in_the_picture(grid):
    row, column = np.indices(grid.shape)
    x, y = column * grid.stride + grid.offset, row * grid.stride + grid.offset
    inside = (x < grid.input_size[1]) & (y < grid.input_size[0])
    np.testing.assert_array_equal(grid.valid(), inside)


def test_hashable_and_normalised():
    grid = PatchGrid(
        image_size=(np.int64(300), 400), input_size=[420, 560], stride=14, offset=7.0, shape=(40, 40)
    )
    assert grid == dino() and hash(grid) == hash(dino())


def test_single_position():
    row, column = dino().patch_of((399.9, 0.0))
    assert (int(row), int(column)) == (0, 39)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (0, 4)}, "image_size"),
        ({"shape": (0, 4)}, "shape"),
        ({"stride": 0}, "stride"),
        ({"offset": float("nan")}, "offset"),
        ({"offset": 600.0}, "no patch centre"),
    ],
)
def test_bad_geometry(change, message):
    fields = {"image_size": (30, 40), "input_size": (42, 56), "stride": 14, "offset": 7.0, "shape": (3, 4)}
    with pytest.raises(InputError, match=message):
        PatchGrid(**(fields | change))
