"""The prompt encoders that take part in a study, with the frozen models that they were trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.cli.study_arguments import parse_contenders
from softmatch_jax.cli.study_config import ON_TRAININGS, StudyConfig
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.weights import StoredEncoder, read_encoder
from softmatch_jax.pipelines.config import ModelsConfig
from softmatch_jax.pipelines.prosam_models import load_embedded, load_foundation
from softmatch_jax.studies.question import Contender

_MODELS = ("features", "sam", "backbone", "size", "level")
"""What the metadata say of the frozen models."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """An encoder as it was named on the command line.

    Attributes:
        name: What it is called in results.
        file: Its weights.
        stored: What these hold.
    """

    name: str
    file: str
    stored: StoredEncoder

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it; the file by its checksum, wherever it lies."""
        return {
            "name": self.name,
            "file": Path(self.file).name,
            "sha256": self.stored.digest,
            "encoder": asdict(self.stored.config),
            "distribution": asdict(self.stored.distribution),
            "metadata": self.stored.metadata,
        }


def read_entrants(config: StudyConfig) -> list[Entrant]:
    """Reads the weights; no model is loaded yet.

    Raises:
        InputError: There are too few, two share a name where they may not, or a file cannot be used.
    """
    named = parse_contenders(config.contender)
    names = [name for name, _ in named]
    if not named:
        cure = f" (softmatch study {config.study} --plan prints how)" if config.study in ON_TRAININGS else ""
        raise InputError(
            "There is no contender; expected at least one --contender NAME=WEIGHTS.safetensors, a prompt "
            f"encoder by softmatch train prosam{cure}."
        )
    if config.study in ON_TRAININGS and len(set(names)) < 2:
        raise InputError(
            f"The study {config.study} compares trainings, and --contender names one of them, {names[0]}; "
            "expected at least 2 (the same command with --plan prints how to train what is missing)."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and config.study not in ON_TRAININGS:
        raise InputError(f"--contender names {twice} twice; expected another name for each.")
    return [read_entrant(name, file) for name, file in named]


def read_entrant(name: str, file: str) -> Entrant:
    """Reads the weights of one.

    Raises:
        InputError: They cannot be used.
    """
    try:
        return Entrant(name=name, file=file, stored=read_encoder(Path(file).expanduser()))
    except InputError as error:
        raise InputError(f"--contender {name}: {error}") from None


def load_contenders(config: StudyConfig, entrants: Sequence[Entrant]) -> list[Contender]:
    """Puts encoders and frozen models together. Those trained with the same models share them.

    Raises:
        InputError: A model is missing, encoders were trained with models that a study cannot compare, or an
            encoder does not fit the models.
    """
    _check_shared(config.study, entrants)
    _check_models(config, [is_embedded(entrant.stored) for entrant in entrants])
    loaded: dict[tuple[str | None, ...], Predictor] = {}
    contenders = []
    for entrant in entrants:
        stored = entrant.stored
        kind = tuple(stored.metadata.get(name) for name in _MODELS)
        if kind not in loaded:
            loaded[kind] = _first(config, entrant, list(loaded.values()))
        shared = loaded[kind]
        predictor = Predictor(shared.features, shared.sam, stored.module(), stored.distribution)
        contenders.append(Contender(name=entrant.name, predictor=predictor))
    return contenders


def _first(config: StudyConfig, entrant: Entrant, others: Sequence[Predictor]) -> Predictor:
    """The first encoder on some models, with the SAM of the others where it is the same."""
    file = Path(entrant.file).expanduser()
    try:
        if is_embedded(entrant.stored):
            predictor, _ = load_embedded(file, config.embedded_weights)
        else:
            predictor, *_ = load_foundation(file, _backbone(config, entrant.stored), config.models)
    except InputError as error:
        raise InputError(f"--contender {entrant.name}: {error}") from None
    same = next((other.sam for other in others if other.sam.name == predictor.sam.name), None)
    if same is None:
        return predictor
    return Predictor(predictor.features, same, entrant.stored.module(), entrant.stored.distribution)


def is_embedded(stored: StoredEncoder) -> bool:
    """Whether an encoder was trained with the small SAM."""
    return stored.metadata["sam"].startswith("tiny-sam(")


def _check_models(config: StudyConfig, embedded: Sequence[bool]) -> None:
    """Raises ``InputError`` for options of models that no contender was trained with."""
    changed = [
        each.name for each in fields(ModelsConfig) if getattr(config.models, each.name) != each.default
    ]
    options = ["prosam_backbone"] * bool(config.prosam_backbone) + changed
    if all(embedded) and options:
        raise InputError(
            f"--{options[0].replace('_', '-')} has no effect: all contenders were trained with the small "
            "SAM; leave it out."
        )
    if not any(embedded) and config.embedded_weights is not None:
        raise InputError(
            "--embedded-weights has no effect: no contender was trained with the small SAM; leave it out."
        )


def _backbone(config: StudyConfig, stored: StoredEncoder) -> str | None:
    """The image encoder that is given for one of its kind; ``None`` for what the weights name."""
    kind = stored.metadata["features"].partition("(")[0].removeprefix("split-")
    given = [text for text in config.prosam_backbone if text.partition("=")[0] == kind]
    return given[-1] if given else None


def _check_shared(study: str, entrants: Sequence[Entrant]) -> None:
    """Raises ``InputError`` before models are loaded that could not be compared."""
    for key, what in (("sam", "SAMs"), ("features", "features")):
        if key == "features" and study in ON_TRAININGS:
            continue
        found: dict[str, str] = {}
        for entrant in entrants:
            found.setdefault(entrant.stored.metadata[key], entrant.name)
        if len(found) > 1:
            listed = ", ".join(f"{name} with {model}" for model, name in found.items())
            cure = " (the study encoders compares features)" if key == "features" else ""
            raise InputError(
                f"The contenders were trained with different {what} ({listed}); expected the same for all in "
                f"the study {study}{cure}."
            )


def recipe_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How an encoder was trained, as far as its file says."""
    try:
        recipe = json.loads(metadata["recipe"])
    except (KeyError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}
