from __future__ import annotations

import pytest
import sam_checkpoints

from softmatch_jax.models.sam.config import SamConfig


@pytest.fixture(scope="session")
def tiny():
    """A small ``SamModel`` with the epsilon of segment-anything, so that both packages agree on it."""
    return sam_checkpoints.transformers_model(sam_checkpoints.TINY, eps=1e-5)


@pytest.fixture(scope="session")
def full():
    """A ``SamModel`` with prompt encoder and mask decoder of the published size."""
    return sam_checkpoints.transformers_model(sam_checkpoints.FULL, eps=1e-5)


@pytest.fixture(scope="module")
def config(tiny):
    """The sizes of the small model."""
    return SamConfig.from_transformers(tiny.config.to_dict())


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """The small model in transformers' format."""
    return sam_checkpoints.save_transformers(tiny, tmp_path_factory.mktemp("sam") / "folder")
