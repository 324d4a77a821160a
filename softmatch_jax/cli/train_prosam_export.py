"""``softmatch train export`` of a prompt encoder: its last or its best weights as one file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.train_config import ExportConfig
from softmatch_jax.cli.train_run_file import kind_of, last_metrics, read_run
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.weights import expected_shapes, read_encoder, save_encoder
from softmatch_jax.training.checkpoints import checkpoint_path, read_about, stored_steps
from softmatch_jax.training.metrics import FILE as METRICS
from softmatch_jax.training.metrics import Record, read_metrics
from softmatch_jax.training.stored_parameters import read_parameters

BEST = "best.safetensors"
"""Name of the best encoder in the folder of a training."""

_FROZEN = re.compile(r"\.fixed\['sam'\]\['(\d+)'\]")
_TASKS = ("prosam", "vrp-sam")


class _Encoder(NamedTuple):
    """What goes into the file."""

    arrays: dict[str, np.ndarray]
    config: PromptEncoderConfig
    distribution: DistributionConfig
    step: int
    parameters: str


def is_prosam(folder: Path) -> bool:
    """Whether a folder is that of a training of a prompt encoder."""
    run = read_run(folder)
    if run is not None:
        return kind_of(run) == "prosam"
    about = _newest(folder)
    return about is not None and about["task"] in _TASKS


def export_prosam(config: ExportConfig, stdout: TextIO) -> int:
    """Writes the file, whole or not at all.

    Returns:
        0.

    Raises:
        InputError: There is no such checkpoint, nothing was best, or the file cannot be written.
    """
    run = read_run(config.run)
    if run is None:
        raise InputError(
            f"{config.run} has no run.json, which says what the encoder was trained with; expected the whole "
            "folder of the training."
        )
    found = _best(config, run) if config.best else _stored(config)
    metrics = json.dumps(last_metrics(config.run, found.step))
    said = {"step": found.step, "parameters": found.parameters, "metrics": metrics}
    save_encoder(
        config.output,
        found.arrays,
        config=found.config,
        distribution=found.distribution,
        metadata={**metadata_of(run), **said},
    )
    size = config.output.stat().st_size / 2**20
    models = run["models"]
    use = f"--backend foundation --masks {models.get('masks')} " if "backbone" in models else ""
    lines = [
        f"{config.output}: the {found.parameters} prompt encoder after step {found.step}, {size:.1f} MB in "
        "half precision.",
        f"To use it: softmatch segment ... --method prosam {use}--weights {config.output}",
    ]
    print(printable("\n".join(lines)), file=stdout)
    return 0


def metadata_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of weights says of the training that ``run.json`` describes; documents as JSON."""
    documents = {name: json.dumps(run[name]) for name in ("recipe", "data", "novel", "select")}
    return {
        **run["models"],
        **documents,
        "seed": run["recipe"]["training"]["seed"],
        "data_digest": run["digest"],
        "init": run["init"] or "random",
        "steps": run["recipe"]["training"]["steps"],
        "trained_with": f"softmatch-jax {run['code']}",
    }


def best_of(history: Sequence[Record], metric: str) -> tuple[float, int] | None:
    """The greatest value of a metric and the first step that has it; ``None`` where it was not measured."""
    best: tuple[float, int] | None = None
    for record in history:
        value = record.get(metric)
        if value is not None and (best is None or value > best[0]):
            best = value, int(record["step"] or 0)
    return best


def _best(config: ExportConfig, run: Mapping[str, Any]) -> _Encoder:
    if config.step is not None or config.raw:
        raise InputError("--best names the weights already; expected it without --step and --raw.")
    path = config.run / BEST
    metric = {"base": "val_miou", "novel": "novel_miou", "views": "val_views_iou"}.get(
        run["select"]["by"], ""
    )
    best = best_of(read_metrics(config.run / METRICS), metric)
    if best is None or not path.is_file():
        raise InputError(
            f"{config.run} holds no {BEST} yet, or none was chosen; expected a training that has validated "
            "(or leave --best out)."
        )
    stored = read_encoder(path)
    return _Encoder(stored.arrays, stored.config, stored.distribution, best[1], "best")


def _stored(config: ExportConfig) -> _Encoder:
    about = _newest(config.run)
    if about is None:
        raise InputError(
            f"{config.run} holds no checkpoint that can be read; expected the folder of a training."
        )
    task = _Blank(about)
    stored = read_parameters(config.run, task, config.step)
    params = stored.params if config.raw else stored.averaged
    arrays = {name: np.asarray(array) for name, array in params["encoder"].items()}
    kind = "last" if config.raw else "averaged"
    return _Encoder(arrays, task.encoder, task.distribution, stored.step, kind)


def _newest(folder: Path) -> dict[str, Any] | None:
    """What is written beside the newest checkpoint that is whole enough to say it."""
    for step in reversed(stored_steps(folder)):
        try:
            return read_about(checkpoint_path(folder, step))
        except OSError:
            continue
    return None


class _Blank:
    """A task of the same parameters as that of a checkpoint, made without the frozen models."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.name = about["task"]
        settings = about["settings"]
        self.encoder = PromptEncoderConfig(**settings["encoder"])
        self.distribution = DistributionConfig(**settings["distribution"])
        found = ((_FROZEN.fullmatch(name), leaf) for name, leaf in about["leaves"].items())
        self._frozen = {match[1]: leaf for match, leaf in found if match}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Parameters of the right types and shapes."""
        encoder = {name: jnp.zeros(shape) for name, shape in expected_shapes(self.encoder).items()}
        return {
            "encoder": encoder,
            "sam": {name: jnp.zeros(shape, dtype) for name, (dtype, *shape) in self._frozen.items()},
        }

    def trainable(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The encoder alone."""
        return {
            name: jax.tree.map(lambda _, own=name == "encoder": own, part) for name, part in params.items()
        }

    def decayed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """As the task that trains."""
        return self.trainable(params)

    def loss(self, params: Any, batch: Any, key: jax.Array) -> Any:
        """Not to be asked for."""
        raise NotImplementedError
