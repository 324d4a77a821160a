"""The prompt encoder that comes with the package, as it comes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from softmatch_jax import ProSAM, ProSamConfig, read_image
from softmatch_jax.imaging import read_mask


@pytest.fixture(scope="module")
def prosam():
    return ProSAM.embedded(config=ProSamConfig(samples=4))


def scene(centre, seed):
    """A bright disc on dark texture."""
    image = np.random.default_rng(seed).integers(0, 60, (180, 240, 3)).astype(np.uint8)
    y, x = np.mgrid[:180, :240] + 0.5
    mask = np.hypot(x - centre[0], y - centre[1]) < 45
    image[mask] = (220, 190, 60)
    return image, mask


def iou(found, truth):
    return np.sum(found & truth) / np.sum(found | truth)


def test_a_disc_is_found_elsewhere(prosam):
    image, mask = scene((80, 90), 0)
    target, truth = scene((160, 80), 1)
    found = prosam.segment(target, prosam.reference(image, mask), key=jax.random.key(0))["object"]
    assert iou(found.mask, truth) > 0.8 and iou(mask, truth) < 0.2
    assert 0 <= found.disagreement < 0.5
    assert found.uncertainty[truth].mean() < 0.5


def test_objects_of_photographs(prosam, data_dir):
    folder = data_dir / "perseg"
    scores = []
    for thing in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = [read_image(thing / f"0{number}.jpg") for number in (0, 1)]
        masks = [read_mask(thing / f"0{number}.png") for number in (0, 1)]
        found = prosam.segment(images[1], prosam.reference(images[0], masks[0]), key=jax.random.key(0))
        scores.append(iou(found["object"].mask, masks[1]))
    assert len(scores) == 2 and min(scores) > 0.4, scores
