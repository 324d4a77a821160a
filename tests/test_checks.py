from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import (
    InputError,
    check_finite,
    check_image,
    check_mask,
    check_positive,
    check_rank,
    check_shape,
)


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_rank():
    check_rank("x", np.zeros((2, 3)), 2, "[n, d]")
    with pytest.raises(InputError, match=r"x has shape \(2, 3\); expected 3 axes \[h, w, d\]\."):
        check_rank("x", np.zeros((2, 3)), 3, "[h, w, d]")


def test_shape():
    check_shape("x", np.zeros((2, 3)), (None, 3), "n rows")
    for wrong in ((2, 4), (2,), (2, 3, 1)):
        with pytest.raises(InputError, match=r"x has shape \[2.*\]; expected \[any, 3\] \(n rows\)\."):
            check_shape("x", np.zeros(wrong), (None, 3), "n rows")


def test_positive():
    check_positive("x", 1e-9)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"x is {wrong}; expected a finite number greater than 0"):
            check_positive("x", wrong)


def test_finite():
    check_finite("x", np.ones(3), "mend it.")
    with pytest.raises(InputError, match=r"x holds 2 values that are NaN or infinite of 3; mend it\."):
        check_finite("x", np.array([1, np.nan, -np.inf]), "mend it.")


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3)),
        np.zeros((0, 2, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_image(wrong):
    check_image("x", np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"x is .*; expected a non-empty uint8 \[H, W, 3\] RGB array \(.*read_image"
    ):
        check_image("x", wrong)


def test_mask():
    check_mask("x", np.zeros((2, 3), bool), (2, 3))
    for wrong in (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 1), bool)):
        with pytest.raises(InputError, match=r"x is .*; expected a bool \[H, W\] array \(compare"):
            check_mask("x", wrong)
    # Sizes are told as people say them, width first.
    with pytest.raises(InputError, match="x is 3x2 pixels but its image is 2x3; expected the same size"):
        check_mask("x", np.zeros((2, 3), bool), (3, 2))
