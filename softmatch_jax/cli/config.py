"""The settings of the commands; their options and help are generated from these classes.

Kept free of JAX and OpenCV, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro import conf
from tyro.constructors import PrimitiveConstructorSpec

from softmatch_jax.pipelines.config import (
    CompletionConfig,
    DecisionConfig,
    MatchingConfig,
    ModelsConfig,
    PromptingConfig,
)
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks
from softmatch_jax.pipelines.prosam_config import Strategy

DEFAULT_CLASS = "object"

Backend: TypeAlias = Literal["embedded", "foundation"]
Variant: TypeAlias = Literal["clusters", "graph"]
SegmentMethod: TypeAlias = Literal["softmatcher", "prosam"]


def _numbers(text: str, count: int, example: str) -> tuple[float, ...]:
    """Parses numbers with commas between them."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ValueError(f"got {text!r}; expected {count} numbers with commas, such as {example}.")
    return numbers


def _point(text: str) -> tuple[float, float]:
    x, y = _numbers(text, 2, "120,80")
    return x, y


def _box(text: str) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = _numbers(text, 4, "20,30,180,160")
    return x0, y0, x1, y1


def _cache_folder(text: str) -> Path:
    """The folder that is typed, or the usual one for the word default."""
    if text != "default":
        return Path(text)
    from softmatch_jax.pipelines.feature_cache import default_cache_folder

    return default_cache_folder()


def _joined(numbers: tuple[float, ...]) -> list[str]:
    return [",".join(f"{number:g}" for number in numbers)]


_Point: TypeAlias = Annotated[
    tuple[float, float],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="X,Y",
        instance_from_str=lambda texts: _point(texts[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=_joined,
    ),
]
_Points: TypeAlias = Annotated[tuple[_Point, ...], conf.UseAppendAction, conf.arg(metavar="X,Y")]
_Box: TypeAlias = Annotated[
    tuple[float, float, float, float] | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="X0,Y0,X1,Y1",
        instance_from_str=lambda texts: _box(texts[0]),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda box: [""] if box is None else _joined(box),
    ),
    conf.arg(help_behavior_hint=""),
]
# What is off unless it is asked for; other switches are pairs, such as --norm and --no-norm.
_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
# What may be left out shows no default, and the word None cannot be typed for it.
_Path: TypeAlias = Annotated[Path | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Texts: TypeAlias = Annotated[
    tuple[str, ...], conf.UseAppendAction, conf.arg(metavar="NAME=PHRASE", help_behavior_hint="(repeatable)")
]


_Cache: TypeAlias = Annotated[
    Path | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="FOLDER",
        instance_from_str=lambda texts: _cache_folder(texts[0]),
        is_instance=lambda value: value is None or isinstance(value, Path),
        str_from_instance=lambda folder: [str(folder or "")],
    ),
    conf.arg(
        help="Folder that remembers what the encoders made of pictures; in memory only when left out. The "
        "word default stands for $SOFTMATCH_CACHE, else softmatch_jax in the user's cache (~/.cache).",
        help_behavior_hint="",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """Each --reference opens a group; the options after it describe it, up to the next one.

    Say in exactly one way where the object is. Give --reference again for more examples of the
    same class, or for other classes.

    Attributes:
        reference: The picture that shows the object.
        class_name: What the object is called; references that share a name make one class. Files
            and colours that name their classes need none. (default: object)
        mask: The whole object: a picture of two values, the larger on the object.
        mask_threshold: Take mask values from this one on as object, for a mask of many values.
        scribbles: Strokes, points and boxes in a file of ours, of one class or several.
        painting: Strokes painted in an image editor, on a transparent layer or on a copy of the
            picture.
        colours: The classes of the painting: duck=#ff0000,cat=#00ff00,background=#0000ff. Not
            needed for a painting of one colour.
        point: A point on the object, in pixels from the top left corner.
        negative_point: A point that is not on the object.
        box: Two corners of a box that holds the whole object.
    """

    reference: Annotated[Path, conf.arg(metavar="IMAGE")]
    class_name: Annotated[_Text, conf.arg(metavar="NAME")] = None
    mask: Annotated[_Path, conf.arg(metavar="PNG")] = None
    mask_threshold: Annotated[_Int, conf.arg(metavar="N")] = None
    scribbles: Annotated[_Path, conf.arg(metavar="JSON")] = None
    painting: Annotated[_Path, conf.arg(metavar="PNG")] = None
    colours: Annotated[_Text, conf.arg(metavar="NAME=#RRGGBB,...")] = None
    point: _Points = ()
    negative_point: _Points = ()
    box: _Box = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ModelsConfig):
    """Which foundation models to load, and how they run."""

    features_revision: Annotated[_Text, conf.arg(metavar="REVISION")] = None
    masks_revision: Annotated[_Text, conf.arg(metavar="REVISION")] = None
    text_model: _Text = None
    text_model_revision: Annotated[_Text, conf.arg(metavar="REVISION")] = None
    offline: _Flag = False
    cache: _Cache = None
    cache_half: _Flag = False
    cache_limit_mb: Annotated[_Int, conf.arg(metavar="MB")] = None
    chunk: Annotated[_Int, conf.arg(metavar="N")] = None


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Segments in every target what the references show.

    Attributes:
        targets: Pictures to segment: files, folders, or patterns such as 'photos/*.jpg'.
        output: Folder for the results; made if it does not exist.
        method: softmatcher compares features and needs no training; prosam has a trained encoder turn the
            reference into prompts for SAM, and tells how sure it is of them.
        weights: With prosam, weights of the prompt encoder by softmatch train prosam; those that come with
            this package, for the embedded models, when left out.
        prosam_backbone: With prosam on the foundation, what the encoder sees pictures with: resnet50, vgg16
            or dinov2 and its weights; what its weights name when left out.
        strategy: With prosam, mean uses the mean prompt; the others merge the masks of sampled prompts by
            their greatest or mean logit, or where one, half or more than half of them agree.
        samples: With prosam, how many prompts are sampled, for the strategy or the uncertainty.
        skip_uncertainty: With prosam, do not tell how far the masks of sampled prompts disagree, which is
            hatched in the overlay, a number in the results, and with --confidence a map.
        complete: With prosam, grow scribbles, points and boxes into a mask before the encoder sees them.
        backend: embedded needs no downloads; foundation is DINOv2 and SAM, with other defaults for the
            settings below (add --help to see them).
        stride: With embedded, distance between patches in pixels of a picture whose longer side is 448:
            larger is quicker and coarser.
        embedded_masks: With embedded, what makes masks: grabcut, tiny (a small SAM that comes with this
            package), or both, whose masks compete.
        embedded_features: With embedded, what is compared: descriptor (colours and gradients), tiny (what
            the small SAM sees), or joined, both side by side.
        embedded_weights: With embedded, weights of the small SAM by softmatch train export; those that come
            with this package when left out.
        variant: With foundation, clusters has settings after the paper's Fig. 1, graph after GF-SAM; both
            with the object contrasted with its surroundings and with bars of our own, none of them tuned
            on public weights yet.
        text: With foundation, a phrase for a class, which CLIP looks for (see --text-model); where there is
            one class its name may be left out.
        recursive: Look for pictures in the folders of a folder, too.
        seed: Seed of all randomness; the same seed gives the same results.
        resume: Go on with an earlier run in the same output folder: finished targets are kept.
        overwrite: Replace the results that an earlier run left in the output folder.
        shard: Only the i-th of n shares, as i/n: shards may work at the same time in the same output folder;
            afterwards the whole with --resume, or softmatch merge, makes one result of theirs.
        ray: Spread the targets over so many workers of Ray, here or on a cluster.
        ray_address: The cluster's address; workers on this machine when left out.
        ray_gpus: GPUs, or a share of one, for each worker of Ray.
        max_pixels: Refuse pictures of more pixels than this.
        json: Print the results as JSON, and nothing else, on standard output.
        quiet: Show no progress.
        confidence: Write a map of confidence for each target and class, too.
        models: With foundation, which models, and how they run.
        matching: How features are compared.
        prompting: How the match map becomes prompts.
        decision: How the map is cut, and when a find counts.
        completion: With foundation, how scribbles become a mask of the reference.
    """

    targets: Annotated[
        tuple[str, ...], conf.Positional, conf.arg(metavar="TARGET...", help_behavior_hint="(required)")
    ]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]
    method: SegmentMethod = "softmatcher"
    weights: _Path = None
    prosam_backbone: Annotated[_Text, conf.arg(metavar="KIND=NAME")] = None
    strategy: Strategy = "mean"
    samples: Annotated[int, conf.arg(metavar="K")] = 10
    skip_uncertainty: _Flag = False
    complete: _Flag = False
    backend: Backend = "embedded"
    stride: int = 4
    embedded_masks: EmbeddedMasks = "grabcut"
    embedded_features: EmbeddedFeatures = "descriptor"
    embedded_weights: Path | None = None
    variant: Variant = "clusters"
    text: _Texts = ()
    recursive: _Flag = False
    seed: int = 0
    resume: _Flag = False
    overwrite: _Flag = False
    shard: Annotated[_Text, conf.arg(metavar="I/N")] = None
    ray: Annotated[_Int, conf.arg(metavar="N")] = None
    ray_address: Annotated[_Text, conf.arg(metavar="ADDRESS")] = None
    ray_gpus: float = 0.0
    max_pixels: int = 100_000_000
    json: _Flag = False
    quiet: _Flag = False
    confidence: _Flag = False
    models: Annotated[ModelOptions, conf.OmitArgPrefixes] = field(default_factory=ModelOptions)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    completion: CompletionConfig = field(default_factory=CompletionConfig)
