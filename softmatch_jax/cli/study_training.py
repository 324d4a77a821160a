"""The studies that compare trainings: what each of them needs, what is missing, and how to train it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.cli.class_data_options import ClassDataOptions
from softmatch_jax.cli.study_config import StudyConfig
from softmatch_jax.cli.study_contenders import recipe_of
from softmatch_jax.cli.train_arguments import parse_data
from softmatch_jax.data.pascal_coco_draws import PUBLISHED_SEED
from softmatch_jax.models.prosam.weights import StoredEncoder
from softmatch_jax.training.prompt_recipe import MethodName

_BACKBONES = {
    "resnet50": "timm/resnet50s.gluon_in1k",
    "vgg16": "timm/vgg16_bn.tv_in1k",
    "dinov2": "facebook/dinov2-base",
}
_BOTH: tuple[MethodName, ...] = ("vrp", "t")
_OF_DATA = tuple(each.name for each in fields(ClassDataOptions) if each.name != "dataset")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A training that a study compares.

    Attributes:
        method: Which method.
        samples: K, where the study asks for it.
        nu: Of Student's t, likewise.
        backbone: Kind of the image encoder, likewise.
    """

    method: MethodName
    samples: int | None = None
    nu: float | None = None
    backbone: str | None = None

    @property
    def name(self) -> str:
        """For files, such as ``t-k10-nu5``."""
        parts: list[str] = [self.method.replace("+", "")]
        parts += [] if self.backbone is None else [self.backbone]
        parts += [] if self.samples is None else [f"k{self.samples}"]
        parts += [] if self.nu is None else [f"nu{self.nu:g}"]
        return "-".join(parts)

    def filled_by(self, stored: StoredEncoder) -> bool:
        """Whether an encoder is what the study asks for, as far as its file says."""
        if method_of(stored) != self.method:
            return False
        if self.nu is not None and stored.distribution.nu != self.nu:
            return False
        if self.samples is not None and recipe_of(stored.metadata).get("prompts", {}).get("samples") != (
            self.samples
        ):
            return False
        return self.backbone is None or stored.metadata.get("backbone", "").startswith(f"{self.backbone}=")


SLOTS: dict[str, tuple[Slot, ...]] = {
    "distributions": (
        *(Slot(method="t", samples=k, nu=nu) for k in (10, 15) for nu in (5.0, 3.0)),
        *(Slot(method="gaussian", samples=k) for k in (10, 15)),
    ),
    "parameters": (Slot(method="vrp"), Slot(method="vrp+2"), Slot(method="t")),
    "encoders": tuple(Slot(method=method, backbone=kind) for kind in _BACKBONES for method in _BOTH),
    "domain": (Slot(method="vrp"), Slot(method="t")),
}
"""The trainings of each table of the paper."""


def method_of(stored: StoredEncoder) -> str:
    """Which method an encoder was trained by; empty for one that the paper does not have."""
    if stored.config.variational:
        return {"student": "t", "gaussian": "gaussian"}.get(stored.distribution.family, "")
    return {0: "vrp", 2: "vrp+2"}.get(stored.config.extra_linear, "")


def missing_slots(study: str, stored: Sequence[StoredEncoder]) -> list[Slot]:
    """The trainings of the paper's table that no contender is of."""
    return [slot for slot in SLOTS[study] if not any(slot.filled_by(each) for each in stored)]


def commands(config: StudyConfig, slots: Sequence[Slot]) -> list[str]:
    """How to train what is missing: a line for each, for a shell.

    Raises:
        InputError: The questions leave nothing to train on.
    """
    if slots and config.views is not None and parse_data(config.views, "--views").part is None:
        raise InputError(
            f"--views is {config.views!r}, which asks about all of its pictures and leaves none to train on; "
            "expected a part of them, such as KIND:FOLDER:val."
        )
    if slots and config.dataset == "folder" and config.fold is None and not config.novel:
        raise InputError(
            "The questions are about all classes of the folder, which leaves none to train on; expected "
            "--fold or --novel."
        )
    return [_command(config, slot) for slot in slots]


def _command(config: StudyConfig, slot: Slot) -> str:
    folder = f"runs/{config.study}/{slot.name}"
    words = ["softmatch", "train", "prosam", *_data_words(config), "--method", slot.method]
    if slot.samples is not None:
        words += ["--prompts.samples", str(slot.samples)]
    if slot.nu is not None:
        words += ["--distribution.nu", f"{slot.nu:g}"]
    if slot.backbone is not None:
        words += ["--backend", "foundation"]
        words += ["--prosam-backbone", f"{slot.backbone}={_BACKBONES[slot.backbone]}"]
    best = [] if config.views is not None else ["--best"]
    published = PUBLISHED_SEED if config.sampling == "published" else 0  # what the seed stands for there
    words += ["--seed", str(published + config.seed), "-o", folder]
    export = ["softmatch", "train", "export", folder, *best, "-o", f"{folder}.safetensors"]
    return f"{shlex.join(words)} && {shlex.join(export)}"


def _data_words(config: StudyConfig) -> list[str]:
    """What to train on, so that nothing of it is asked about."""
    if config.views is not None:
        words = parse_data(config.views, "--views")
        # Pictures that are asked about must be others.
        part = "val" if words.part == "train" else "train"
        return ["--views", f"{words.kind}:{words.root}:{part}", "--select", "none"]
    if config.study == "domain":
        return ["--dataset", "coco20i", "--root", "COCO", "--fold", str(config.fold)]
    given = ["--dataset", str(config.dataset)]
    unset = {each.name: each.default for each in fields(StudyConfig)}
    for name in _OF_DATA:
        value: Any = getattr(config, name)
        if value != unset[name]:
            option = f"--{name.replace('_', '-')}"
            values = value if isinstance(value, tuple) else (value,)
            given += [word for each in values for word in (option, str(each))]
    return given
