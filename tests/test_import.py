"""What importing the package does, each time in a fresh interpreter."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

import softmatch_jax

HEAVY = {
    "torch",
    "transformers",
    "jax",
    "jaxlib",
    "numpy",
    "cv2",
    "PIL",
    "skimage",
    "scipy",
    "fastapi",
    "uvicorn",
}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_loads_nothing_heavy_and_leaves_the_environment():
    run(
        "import os, sys; before = dict(os.environ); import softmatch_jax\n"
        f"loaded = {HEAVY} & sys.modules.keys()\n"
        "assert not loaded, loaded\nassert before == dict(os.environ)"
    )


def test_public_names_need_no_torch_or_web_framework_and_leave_jax_as_it_was():
    run(
        "import sys, jax; before = dict(jax.config.values)\n"
        "import softmatch_jax\n"
        "for name in softmatch_jax.__all__:\n"
        "    if name != 'ProSAM': getattr(softmatch_jax, name)\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'uvicorn'}\n"
        "loaded = (heavy | {'flax', 'optax'}) & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
        "softmatch_jax.ProSAM  # a network of Flax, which brings optax\n"
        "assert before == dict(jax.config.values)\n"
        "assert not heavy & sys.modules.keys()\n"
    )


def test_importing_prints_nothing_and_writes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import softmatch_jax"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_is_there():
    names = getattr(softmatch_jax, "__all__", ())
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(softmatch_jax, name) is not None


@pytest.mark.parametrize("folder", ["matching", "prompting", "imaging", "models", "pipelines", "data"])
def test_every_folder_offers_what_it_lists(folder):
    module = importlib.import_module(f"softmatch_jax.{folder}")
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None
