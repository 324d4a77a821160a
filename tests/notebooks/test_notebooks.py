"""The notebooks: each is a pair that says the same twice, holds no outputs, and runs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="needs softmatch-jax[notebooks]")
nbclient = pytest.importorskip("nbclient", reason="needs softmatch-jax[notebooks]")
pytest.importorskip("ipykernel", reason="needs softmatch-jax[notebooks]")
pytest.importorskip("matplotlib", reason="needs softmatch-jax[notebooks]")

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def test_every_notebook_has_its_pair():
    scripts = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert scripts == NOTEBOOKS
    assert NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pair_says_the_same(name):
    script, notebook = (jupytext.read(FOLDER / f"{name}{ending}") for ending in (".py", ".ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (script, notebook)]
    assert cells[0] == cells[1], f"out of step; run: jupytext --sync notebooks/{name}.py"
    assert script.metadata["kernelspec"] == notebook.metadata["kernelspec"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_holds_no_outputs(name):
    code = [c for c in jupytext.read(FOLDER / f"{name}.ipynb").cells if c.cell_type == "code"]
    assert code
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None


# Compiling for a minute to compute for a second is no test: XLA's optimisations are left out.
SETTING = {
    "SOFTMATCH_NOTEBOOK_SMALL": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_in_the_small_setting(name, tmp_path):
    if name != "03_random_features":
        pytest.importorskip("ott", reason="needs softmatch-jax[transport]")
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    # The kernel is a process of its own: warnings there stay warnings. Here only its plumbing may warn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.execute(env={**os.environ, **SETTING})
    figures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(figures) >= 4
