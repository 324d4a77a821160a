from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from softmatch_jax.training.sam_prompting import AMBIGUOUS, KINDS, Marks, correct, draw_marks

SHARES = (0.4, 0.0, 0.3, 0.1, 0.2)
NUMBER = 4000


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    return [rng.random((NUMBER, width), np.float32) * 64 for width in (2, 2, 4)]


@pytest.fixture(scope="module")
def drawn(given):
    draw = jax.jit(partial(draw_marks, shares=SHARES, sparse=0.3, bare=0.25))
    return Marks(*map(np.asarray, draw(jax.random.key(0), *given)))


def test_kinds_by_their_shares(drawn):
    counts = np.bincount(drawn.kinds, minlength=len(KINDS)) / NUMBER
    assert counts == pytest.approx(SHARES, abs=0.03)
    assert counts[1] == 0  # never means never


def test_marks_of_every_kind(drawn, given):
    centres, points, boxes = given
    np.testing.assert_array_equal(drawn.xy, np.stack([centres, points, boxes[:, :2], boxes[:, 2:]], 1))
    expected = {
        "box": [-1, -1, 2, 3],
        "centre": [1, -1, -1, -1],
        "point": [-1, 1, -1, -1],
        "two points": [1, 1, -1, -1],
        "box and point": [-1, 1, 2, 3],
    }
    assert {name: list(labels) for name, labels in KINDS.items()} == expected
    np.testing.assert_array_equal(drawn.labels, np.array(list(expected.values()))[drawn.kinds])
    assert set(AMBIGUOUS) == {name for name, labels in expected.items() if sorted(labels) == [-1, -1, -1, 1]}


def test_what_reaches_the_decoder_by_its_shares(drawn):
    assert np.mean(~drawn.dense) == pytest.approx(0.3, abs=0.03)
    assert not (drawn.dense & ~drawn.pooled).any()  # bare are only prompts of tokens alone
    assert np.mean(~drawn.pooled[~drawn.dense]) == pytest.approx(0.25, abs=0.05)
    # Neither hangs on the kind.
    assert np.mean(~drawn.dense[drawn.kinds == 0]) == pytest.approx(0.3, abs=0.05)


@pytest.fixture(scope="module")
def corrected():
    """Truth and logits of some cases, and 600 corrections of each."""
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 0.25, 0.5, 0.75, 1], (5, 6, 4)).astype(np.float32)
    logits = rng.normal(size=truth.shape).astype(np.float32)
    logits[1] = np.where(truth[1] > 0.5, 1, -1)  # all right
    truth[2], logits[2] = 0, -1
    truth[2, 0, 1] = truth[2, 3, 2] = 1  # missed
    logits[2, 2, 0] = 1  # too much
    truth[3], logits[3] = 0, -1
    logits[3, 5] = 1  # wrong in the padding alone
    inside = np.zeros((6, 4), np.float32)
    inside[:5, :3] = 1
    marks = Marks(
        xy=np.zeros((5, 4, 2), np.float32),
        labels=np.tile(np.int32([1, -1, 2, 3]), (5, 1)),
        kinds=np.arange(5, dtype=np.int32),
        dense=np.zeros(5, bool),
        pooled=np.zeros(5, bool),
    )
    keys = jax.random.split(jax.random.key(2), 600)
    one = partial(correct, marks=marks, logits=logits, truth=truth, inside=inside, stride=4)
    found = jax.jit(jax.vmap(lambda key: one(key)))(keys)
    return truth, logits, inside, marks, Marks(*map(np.asarray, found))


def test_a_correction_adds_one_point_to_what_was_there(corrected):
    *_, marks, found = corrected
    assert found.xy.shape == (600, 5, 5, 2) and found.labels.shape == (600, 5, 5)
    assert found.xy.dtype == np.float32 and found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.xy[:, :, :4], np.broadcast_to(marks.xy, (600, 5, 4, 2)))
    np.testing.assert_array_equal(found.labels[:, :, :4], np.broadcast_to(marks.labels, (600, 5, 4)))
    assert (found.kinds == marks.kinds).all() and found.dense.all() and found.pooled.all()


def test_corrections_lie_in_the_error_and_say_which(corrected):
    truth, logits, inside, _, found = corrected
    for case in (0, 2, 4):
        seen = set()
        for (x, y), label in zip(found.xy[:, case, 4], found.labels[:, case, 4], strict=True):
            cell = (case, int(y) // 4, int(x) // 4)
            assert inside[cell[1:]] and (logits[cell] > 0) != (truth[cell] > 0.5)
            assert label == (1 if truth[cell] > 0.5 else 0)
            seen.add(cell[1:])
        wrong = ((logits[case] > 0) != (truth[case] > 0.5)) & (inside > 0)
        assert seen == set(map(tuple, np.argwhere(wrong).tolist()))  # all of it, sooner or later


def test_corrections_are_uniform_over_the_error(corrected):
    found = corrected[-1]
    cells, counts = np.unique(found.xy[:, 2, 4] // 4, axis=0, return_counts=True)
    assert cells.tolist() == [[0, 2], [1, 0], [2, 3]]
    assert counts / 600 == pytest.approx([1 / 3] * 3, abs=0.07)
    # And over each cell of four pixels, in either direction.
    np.testing.assert_allclose((found.xy[:, 2, 4] % 4).mean(axis=0), 2, atol=0.2)
    np.testing.assert_allclose((found.xy[:, 2, 4] % 4).std(axis=0), 4 / 12**0.5, atol=0.15)


@pytest.mark.parametrize("case", [1, 3])
def test_no_error_no_point(corrected, case):
    found = corrected[-1]
    assert (found.labels[:, case, 4] == -1).all() and np.isfinite(found.xy[:, case]).all()
