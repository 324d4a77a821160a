from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models import optional
from softmatch_jax.models.optional import EXTRAS, require

ROOT = Path(optional.__file__).resolve().parents[2]


def test_what_is_there_is_imported():
    torch = pytest.importorskip("torch")
    assert require("torch") is torch
    assert require("torch.nn") is importlib.import_module("torch.nn")


@pytest.mark.parametrize("package", EXTRAS)
def test_what_is_missing_is_asked_for_by_its_extra(package, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(importlib, "import_module", missing)
    for module in (package, f"{package}.part"):
        with pytest.raises(InputError, match=rf"package {package} is not.*pip install 'softmatch-jax\["):
            require(module)


def test_a_package_that_was_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "transformers.utils", raising=False)
    with pytest.raises(InputError, match=r"transformers is not installed.*\[foundation\]"):
        require("transformers.utils")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import a_package_that_is_not_there", ModuleNotFoundError),
        ("raise RuntimeError('built for another version')", RuntimeError),
        ("from os import no_such_name", ImportError),
    ],
)
def test_a_broken_package_keeps_its_own_error(source, error, tmp_path, monkeypatch):
    """What is installed is not to be installed again; only its own words say what is wrong with it."""
    (tmp_path / "torch.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(error) as raised:
        require("torch")
    assert not isinstance(raised.value, InputError)


def test_every_extra_is_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= project["optional-dependencies"].keys()
