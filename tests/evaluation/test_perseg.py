"""The accuracy the embedded back-end must keep on real photographs."""

import jax
import numpy as np
import pytest
from slow_params import mostly_slow

from softmatch_jax import Softmatcher, read_image, read_mask
from softmatch_jax.data import simulate_scribbles
from softmatch_jax.evaluation import intersection_over_union

OBJECTS = ("cat", "duck_toy")
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def matcher():
    return Softmatcher.embedded()


def photograph(data_dir, name, number):
    stem = data_dir / "perseg" / name / f"0{number}"
    return read_image(stem.with_suffix(".jpg")), read_mask(stem.with_suffix(".png"))


@pytest.mark.parametrize(
    ("scribbles", "least"),
    mostly_slow([(False, 0.85), (True, 0.80)], (False, 0.85)),
    ids=["mask", "scribbles"],
)
def test_mean_iou_and_absence(matcher, data_dir, scribbles, least):
    overlaps, on_the_bar = [], []
    for name, other in (OBJECTS, OBJECTS[::-1]):
        image, mask = photograph(data_dir, name, 0)
        annotation = simulate_scribbles(mask, count=3, key=KEY) if scribbles else mask
        reference = matcher.reference(image, annotation, class_name=name)
        for number in (1, 2):
            target, truth = photograph(data_dir, name, number)
            found = matcher.segment(target, reference, key=KEY)[name]
            overlaps.append(intersection_over_union(found.mask, truth))
        for number in (0, 1, 2):
            found = matcher.segment(photograph(data_dir, other, number)[0], reference, key=KEY)[name]
            # One pair lies on the bar of 0.45, on this or that side of it by what the machine rounds.
            if abs(found.resemblance - matcher.config.decision.min_resemblance) < 0.02:
                on_the_bar.append((name, other, number))
            else:
                assert found.absent and not found.mask.any(), f"{name} is not in {other} {number}"
    assert len(on_the_bar) <= 1
    assert np.mean(overlaps) >= least, overlaps
