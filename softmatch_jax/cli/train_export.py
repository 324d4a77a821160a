"""``softmatch train export``: the weights of a training as one file."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.train_config import ExportConfig
from softmatch_jax.cli.train_prosam_export import export_prosam, is_prosam
from softmatch_jax.cli.train_run_file import last_metrics, read_run
from softmatch_jax.models.sam.tiny_weights import save_weights
from softmatch_jax.training.sam_task import SamTask
from softmatch_jax.training.stored_parameters import StoredParameters, read_parameters


def run_export(config: ExportConfig, *, stdout: TextIO | None = None) -> int:
    """Writes the file, whole or not at all.

    Args:
        config: Settings.
        stdout: Gets the last lines; by default standard output.

    Returns:
        0.

    Raises:
        InputError: There is no such checkpoint, or the file cannot be written.
    """
    stdout = stdout or sys.stdout
    if config.output.suffix != ".safetensors":
        raise InputError(f"--output is {config.output}; expected a name that ends in .safetensors.")
    if is_prosam(config.run):
        return export_prosam(config, stdout)
    if config.best:
        raise InputError(f"--best is given for {config.run}, which is no training of a prompt encoder.")
    stored = read_parameters(config.run, SamTask(), config.step)
    weights = stored.params if config.raw else stored.averaged
    save_weights(config.output, weights, metadata=_metadata(config, stored))
    kind = "parameters" if config.raw else "averaged parameters"
    size = config.output.stat().st_size
    use = f"softmatch segment ... --embedded-masks tiny --embedded-weights {config.output}"
    lines = [
        f"{config.output}: the {kind} after step {stored.step}, {size / 2**20:.1f} MB in half precision.",
        f"To use them: {use}",
    ]
    print(printable("\n".join(lines)), file=stdout)
    return 0


def _metadata(config: ExportConfig, stored: StoredParameters) -> dict[str, Any]:
    """How the weights came about; documents as JSON."""
    about, run = stored.about, read_run(config.run)
    settings = {name: value for name, value in about["settings"].items() if name not in ("model", "initial")}
    recipe = run["recipe"] if run else {"training": about["config"], "sam": settings}
    data = run["data"] if run else None
    documents = {"recipe": recipe, "data": data, "metrics": last_metrics(config.run, stored.step)}
    return {
        **{name: json.dumps(document) for name, document in documents.items()},
        "seed": about["config"]["seed"],
        "data_digest": about["data"],
        "init": about["settings"].get("initial") or "random",
        "step": stored.step,
        "steps": about["config"]["steps"],
        "parameters": "last" if config.raw else "averaged",
        "trained_with": f"softmatch-jax {about['softmatch']}, jax {about['jax']}",
    }
