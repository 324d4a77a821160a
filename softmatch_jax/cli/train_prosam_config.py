"""The settings of ``softmatch train prosam``; options and help are generated from these classes.

Kept free of JAX and of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import tyro
from tyro import conf

from softmatch_jax.cli.class_data_options import ClassDataOptions
from softmatch_jax.cli.config import Backend
from softmatch_jax.cli.evaluate_config import Kind, Mode
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.prompt_config import PromptTrainConfig, ViewConfig
from softmatch_jax.training.prompt_recipe import EMBEDDED, RECIPES, MethodName, PromptRecipe, RecipeName

Select: TypeAlias = Literal["base", "views", "novel", "none"]

_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Number: TypeAlias = Annotated[float | None, conf.DisallowNone, conf.arg(metavar="X", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Path: TypeAlias = Annotated[
    Path | None, conf.DisallowNone, conf.arg(metavar="FOLDER", help_behavior_hint="")
]
_Texts: TypeAlias = Annotated[tuple[str, ...], conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(PromptEncoderConfig):
    """Sizes and choices of the prompt encoder."""

    channels: conf.Suppress[int] = 1536
    dim: conf.Suppress[int] = 256
    initial_log_sigma: _Number = None

    def sized(self, channels: int, dim: int) -> PromptEncoderConfig:
        """The encoder for features of ``channels`` and prompts of ``dim`` numbers."""
        return PromptEncoderConfig(**{**asdict(self), "channels": channels, "dim": dim})


@dataclass(frozen=True, kw_only=True)
class PromptOptions(PromptTrainConfig):
    """What the prompts are trained for."""

    chunk: _Int = None
    loss_side: _Int = None

    def plain(self) -> PromptTrainConfig:
        """Without what belongs to the command line."""
        return PromptTrainConfig(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class TrainProsamConfig(ClassDataOptions):
    """Trains a prompt encoder on a frozen SAM: ProSAM, or VRP-SAM.

    Attributes:
        output: Folder of the training: checkpoints, metrics, curves, and the best encoder; made if it does
            not exist.
        views: Train on views of one picture that show the same region, too: a kind of data (bsds500, camvid,
            folder or masks), its folder, a part of it, and how often pairs come from there, where the data
            set has 1; such as bsds500:/data/BSR:train=1.5.
        view: Which views.
        validate_views: Pictures to draw held-out views of, written as for --views without a weight.
        annotation: How references are annotated; several take turns at random. (default: mask)
        annotation_mode: fixed draws as a person would; published is VRP-SAM's simulator at 512 by 512.
        backend: embedded is the small SAM that comes with this package; foundation is SAM with an image
            encoder of your choice.
        size: Side in pixels at which the small SAM, or the image encoder of the foundation, sees pictures;
            128, or the encoder's own, when left out.
        embedded_weights: With embedded, weights of the small SAM; those that come with this package when left
            out.
        prosam_backbone: With foundation, what the encoder sees pictures with: resnet50, vgg16 or dinov2, and
            its weights.
        masks: With foundation, SAM: a model of the hub, a folder, or a .pth file of segment-anything.
        masks_revision: Its commit, tag or branch.
        sam_fit: With foundation, how SAM is given pictures: aspect is its own way, published is VRP-SAM's,
            squashed to half of SAM's square and enlarged from there; goes with the recipe when left out.
        runtime: What runs SAM's image encoder.
        device: Where it runs: auto, cpu, cuda or cuda:N.
        dtype: Its precision: auto (half on a GPU), float32, float16 or bfloat16.
        offline: Look for models on this machine only.
        cache: Folder that keeps, in half precision, what the frozen models make of pictures; in memory only
            when left out.
        recipe: Defaults of all settings of the training: those for the small SAM, or the papers'. It is
            published with the foundation, if not given.
        method: ProSAM with Student's t or a Gaussian, VRP-SAM, or VRP-SAM with two more linear layers, which
            is as large; sets the defaults of encoder, distribution and samples.
        batch_size: Pairs of a batch.
        epochs: How long to train, in place of --steps. An epoch has as many pairs as the data set has
            pictures to train on, and as --views have.
        schedule: Along one cosine the learning rate falls, or it restarts.
        restart_epochs: With restarts, epochs from one to the next; or give --restart-every steps.
        validate_epochs: Epochs from one validation to the next, in place of --validate-every.
        validate_pairs: Held-out pairs to validate on, spread evenly.
        select: What the best encoder is chosen by: held-out pictures of base classes, held-out views, or none
            is chosen. novel chooses by the novel classes themselves, as the published code does, and is only
            for comparing with it. By default base with a data set, else views.
        init: Start from the encoder in this file instead of random weights.
        resume: Go on from the newest checkpoint in the output folder.
        quiet: Show no progress.
        training: How the parameters are optimised.
        encoder: Sizes and choices of the encoder.
        distribution: What prompts are drawn from.
        prompts: What the prompts are trained for.
    """

    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]
    views: Annotated[
        _Texts, conf.arg(metavar="KIND:FOLDER[:PART][=WEIGHT]", help_behavior_hint="(repeatable)")
    ] = ()
    view: ViewConfig = field(default_factory=ViewConfig)
    validate_views: Annotated[_Text, conf.arg(metavar="KIND:FOLDER[:PART]")] = None
    annotation: Annotated[tuple[Kind, ...], conf.UseAppendAction, conf.arg(help_behavior_hint="")] = ()
    annotation_mode: Mode = "fixed"
    backend: Backend = "embedded"
    size: _Int = None
    embedded_weights: Annotated[
        Path | None, conf.DisallowNone, conf.arg(metavar="FILE", help_behavior_hint="")
    ] = None
    prosam_backbone: Annotated[_Text, conf.arg(metavar="KIND=NAME")] = None
    masks: str = "facebook/sam-vit-base"
    masks_revision: Annotated[_Text, conf.arg(metavar="REVISION")] = None
    sam_fit: Annotated[
        Literal["aspect", "published"] | None, conf.DisallowNone, conf.arg(help_behavior_hint="")
    ] = None
    runtime: Literal["jax", "torch"] = "jax"
    device: str = "auto"
    dtype: str = "auto"
    offline: _Flag = False
    cache: _Path = None
    recipe: RecipeName = "embedded"
    method: MethodName = "t"
    batch_size: int = EMBEDDED.batch_size
    epochs: _Number = None
    schedule: Literal["cosine", "restarts"] = "cosine"
    restart_epochs: float = 15
    validate_epochs: _Number = None
    validate_pairs: int = 200
    select: Annotated[Select | None, conf.DisallowNone, conf.arg(help_behavior_hint="")] = None
    init: Annotated[_Text, conf.arg(metavar="FILE")] = None
    resume: _Flag = False
    quiet: _Flag = False
    training: Annotated[TrainConfig, conf.OmitArgPrefixes] = EMBEDDED.training
    encoder: EncoderOptions = EncoderOptions(**asdict(EMBEDDED.encoder))
    distribution: DistributionConfig = EMBEDDED.distribution
    prompts: PromptOptions = PromptOptions(**asdict(EMBEDDED.prompts))


def default_settings(words: Sequence[str]) -> TrainProsamConfig:
    """The defaults that go with the recipe, the method and the back-end among the words; no output yet."""
    backend: Backend = "foundation" if last_value("--backend", words) == "foundation" else "embedded"
    named = last_value("--recipe", words) or ("published" if backend == "foundation" else "embedded")
    recipe = RECIPES["published" if named == "published" else "embedded"]
    method = last_value("--method", words)
    if method in get_args(MethodName):
        recipe = recipe.of_method(method)  # type: ignore[arg-type]
    missing: Any = tyro.MISSING
    return TrainProsamConfig(
        output=missing,
        annotation_mode=recipe.annotation_mode,
        recipe="published" if named == "published" else "embedded",
        batch_size=recipe.batch_size,
        epochs=None if last_value("--steps", words) is not None else recipe.epochs,
        validate_epochs=None if last_value("--validate-every", words) is not None else recipe.validate_epochs,
        training=recipe.training,
        encoder=EncoderOptions(**asdict(recipe.encoder)),
        distribution=recipe.distribution,
        # The published raster of the loss needs the published fit, which the small SAM does not have.
        prompts=PromptOptions(**asdict(recipe.prompts) | {"loss_side": _loss_side(recipe, backend, words)}),
    )


def _loss_side(recipe: PromptRecipe, backend: Backend, words: Sequence[str]) -> int | None:
    fits = backend == "foundation" and last_value("--sam-fit", words) != "aspect"
    return recipe.prompts.loss_side if fits else None


def last_value(option: str, words: Sequence[str]) -> str | None:
    """The value of an option, the last one where it is given more than once."""
    found = None
    for word, after in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            found = value if equals else after
    return found
