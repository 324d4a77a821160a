from __future__ import annotations

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr
from small_study import StandIn, disc, stand_in_questions

from softmatch_jax._checks import InputError
from softmatch_jax.studies.centre import centre_pixel, embed_point, study_centre
from softmatch_jax.studies.config import CentreSettings, IntervalSettings
from softmatch_jax.studies.question import Contender

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

QUESTIONS = stand_in_questions([disc(12 + 6 * i, 20, 8) for i in range(8)], ["red", "blue"] * 4)
FEW = IntervalSettings(replicates=200)


class Encoder:
    """Embeds a point as three numbers that tell it, and keeps what it was asked."""

    def encode_points(self, xy, labels):
        self.asked, self.labels = np.asarray(xy), np.asarray(labels)
        return jnp.concatenate([xy / 32 - 1, jnp.ones((len(xy), 1))], axis=1)


def a_sam() -> SimpleNamespace:
    encoder = Encoder()
    return SimpleNamespace(
        name="a SAM", encoder=encoder, generator=SimpleNamespace(parts=lambda: (encoder, None))
    )


SAM = a_sam()
CENTRES = np.array(
    [embed_point(SAM, each.scene, centre_pixel(each.truth, "deepest")) for each in QUESTIONS], np.float64
)


def contender(name: str, prompts, logits=None) -> Contender:
    decode = logits or (lambda place, prompts: np.full((16, 16), -1.0))
    return Contender(name=name, predictor=StandIn(prompts, decode, sam=SAM))


def run(*contenders: Contender, questions=QUESTIONS, **settings):
    return study_centre(
        contenders, questions, CentreSettings(intervals=FEW, **settings), key=jax.random.key(0)
    )


def test_centre_of_a_disc_is_its_middle():
    for centre in ("deepest", "centroid"):
        assert centre_pixel(disc(20.5, 12.5, 9), centre) == (20, 12)


def test_centres_of_a_ring_lie_on_it():
    ring = disc(30.5, 24.5, 20) & ~disc(30.5, 24.5, 12)
    for centre in ("deepest", "centroid"):
        column, row = centre_pixel(ring, centre)
        assert ring[row, column]
    column, row = centre_pixel(ring, "deepest")
    assert np.hypot(column - 30, row - 24) == pytest.approx(16, abs=1)


def test_the_deepest_pixel_is_not_drawn_to_the_rim():
    assert centre_pixel(np.ones((5, 9), bool), "deepest")[1] == 2
    lopsided = np.zeros((20, 40), bool)
    lopsided[2:17, 2:17], lopsided[9, 17:39] = True, True
    assert centre_pixel(lopsided, "deepest") == (9, 9)
    assert centre_pixel(lopsided, "centroid")[0] > 10


def test_an_empty_mask_has_no_centre():
    with pytest.raises(InputError, match="empty"):
        centre_pixel(np.zeros((3, 3), bool), "deepest")


def test_a_point_is_brought_to_the_square_and_embedded_alone():
    raster = SimpleNamespace(content=(64, 128), image_size=(32, 64))
    sam = a_sam()
    found = embed_point(sam, SimpleNamespace(raster=raster), (3, 10))
    # The middle of the pixel is (3.5, 10.5); twice that is (7, 21), half a pixel before which is the index.
    assert sam.encoder.asked == pytest.approx(np.array([[6.5, 20.5]]))
    assert sam.encoder.labels.tolist() == [1]
    assert found.shape == (3,)


def test_prompts_at_the_centre_have_cosine_one():
    result = run(
        contender("away", lambda place: -CENTRES[[place] * 3]),
        contender("there", lambda place: 7 * CENTRES[[place] * 3]),
    )
    away, there = result.rows
    assert there.cosine.value == pytest.approx(1) and away.cosine.value == pytest.approx(-1)
    assert there.more.value == pytest.approx(2) and there.more.sign == 1
    assert there.owing_to_centre.sign == 1 and away.owing_to_centre.sign == -1
    unit = CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    others = (unit @ unit.T)[~np.eye(8, dtype=bool)].mean()
    assert there.elsewhere.value == pytest.approx(others)
    assert result.chance == pytest.approx(3**-0.5)
    assert "(against away +2.0000" in result.conclusion and ": nearer)" in result.conclusion


def test_a_cosine_is_the_mean_over_prompts_of_any_length():
    mixed = np.stack([5 * CENTRES[0], -0.1 * CENTRES[0], np.zeros(3)])
    (row,) = run(contender("mixed", lambda place: mixed)).rows
    assert row.cosines[0] == pytest.approx(0, abs=1e-6)


def test_constant_prompts_owe_nothing_to_the_centre():
    (row,) = run(contender("constant", lambda place: np.array([[1.0, 2.0, 3.0]]))).rows
    assert row.cosine.value == pytest.approx(row.elsewhere.value, abs=0.02)
    assert row.owing_to_centre.sign == 0


def test_correlation_with_the_iou():
    def logits(place: int, prompts: np.ndarray) -> np.ndarray:
        return QUESTIONS[place].small_truth - 0.2 - 0.1 * place

    (row,) = run(contender("some", lambda place: CENTRES[[place]] + 0.1 * place**2, logits)).rows
    assert np.std(row.ious) > 0.05
    assert row.correlation.value == pytest.approx(pearsonr(row.cosines, row.ious).statistic)


def test_questions_without_an_object_are_left_out(tmp_path):
    empty = stand_in_questions([np.zeros((48, 64), bool), QUESTIONS[1].truth], ["red", "blue"])
    one = contender("one", lambda place: CENTRES[[place]])
    result = run(one, questions=empty)
    assert result.left_out == 1 and len(result.rows[0].ious) == 1
    json.dumps(result.to_json(), allow_nan=False)
    with pytest.raises(InputError, match="No question has an object"):
        run(one, questions=empty[:1])
    pytest.importorskip("matplotlib")
    result.figure(tmp_path / "centre.png")
    assert (tmp_path / "centre.png").stat().st_size > 1000


def test_bad_settings():
    with pytest.raises(InputError, match="'deepest' or 'centroid'"):
        CentreSettings(centre="middle")
