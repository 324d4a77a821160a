"""The settings of ``softmatch evaluate``; its options and help are generated from this class.

Kept free of JAX and OpenCV, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro import conf

from softmatch_jax.cli.config import Backend, ModelOptions, Variant
from softmatch_jax.pipelines.config import CompletionConfig, DecisionConfig, MatchingConfig, PromptingConfig
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks

DataSet: TypeAlias = Literal["folder", "fss1000", "pascal5i", "coco20i", "perseg", "bsds500"]
SamplingChoice: TypeAlias = Literal["published", "corrected"]
LayoutChoice: TypeAlias = Literal["pairs", "indexed", "coco", "labelme", "yolo"]
Kind: TypeAlias = Literal["mask", "scribble", "box", "point"]
Mode: TypeAlias = Literal["fixed", "published"]
Folds: TypeAlias = Literal["standard", "coco"]

_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Path: TypeAlias = Annotated[Path | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Texts: TypeAlias = Annotated[tuple[str, ...], conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measures how well a method finds classes from references, on a data set or a folder of one's own.

    Attributes:
        dataset: folder is pictures and masks of one's own; the others are the papers' data sets.
        root: Where the data lie.
        output: Folder for the results; made if it does not exist. Each method gets a folder in it.
        method: A method of matching, a baseline (matcher, persam, gf-sam), all of these, or prosam.
        weights: With prosam, weights of the prompt encoder by softmatch train prosam; those that come with
            this package, for the embedded models, when left out.
        prosam_backbone: With prosam on the foundation, what the encoder sees pictures with: resnet50, vgg16
            or dinov2 and its weights; what its weights name when left out.
        shots: References for each target.
        seeds: How many times the references are drawn anew: with the seeds 0, 1, and so on.
        annotation: How references are annotated.
        annotation_mode: fixed draws as a person would, and the pipeline grows the mask; published is
            VRP-SAM's simulator, marks that are resized to 64 by 64 and used as the mask, points mostly lost.
        sampling: published draws episodes as the papers' code does; corrected asks for every target of every
            class once, and repeats no reference. By default published where there is such a thing. The draws
            of COCO-20i are the published ones only with the public list (softmatch data prepare --val-list).
        raster: Side of the square that pictures and masks are squashed to; published is the paper's (518 for
            FSS-1000, 512 for PASCAL and COCO) and the default with published sampling, own leaves them as
            they are.
        fold: Of PASCAL-5i and COCO-20i, 0 to 3; all of them when left out.
        folds: For the domain shift from COCO to PASCAL, coco groups PASCAL's classes by the fold of COCO in
            which they are new.
        class_name: Only this class.
        layout: Of a folder: pairs (mask beside picture), indexed (label maps), coco, labelme or yolo;
            recognised when left out.
        mask_threshold: Of a folder: mask values from this one on are object, for masks of many values.
        void: Of a folder with label maps: a value that does not count.
        label: Of a folder with label maps: the name of a value, such as 3=road. Value 0 is background unless
            it has a name.
        min_area: Of a folder: pixels of a class that a picture must show to be one of the class.
        test_classes: Of FSS-1000: the file that lists the test classes, where it is not beside the data.
        episodes: Evaluate so many episodes of each fold and seed, spread evenly; all when left out.
        shard: Only the i-th of n shares, as i/n: shards may work at the same time in the same output folder.
        workers: Threads that read pictures ahead.
        ray: Spread the episodes over so many workers of Ray, here or on a cluster.
        ray_address: The cluster's address; workers on this machine when left out.
        ray_gpus: GPUs that each worker of Ray needs, such as 1 or 0.5.
        resume: Go on with an earlier run in the same output folder: finished episodes are kept.
        overwrite: Replace the runs that are in the way.
        json: Print the results as JSON, and nothing else, on standard output.
        quiet: Show no progress.
        backend: embedded needs no downloads; foundation is DINOv2 and SAM, with other defaults for the
            settings below (add --help to see them).
        stride: With embedded, distance between patches in pixels of a picture whose longer side is 448:
            larger is quicker and coarser (hungarian, sinkhorn and the other dense methods want 8 or more).
        embedded_masks: With embedded, what makes masks: grabcut, tiny (a small SAM that comes with this
            package), or both, whose masks compete.
        embedded_features: With embedded, what is compared: descriptor (colours and gradients), tiny (what the
            small SAM sees), or joined, both side by side.
        embedded_weights: With embedded, weights of the small SAM by softmatch train export; those that come
            with this package when left out.
        variant: With foundation, clusters has settings after the paper's Fig. 1, graph after GF-SAM.
        models: With foundation, which models, and how they run.
        matching: How features are compared; the method is that of --method.
        prompting: How the match map becomes prompts.
        decision: How the map is cut, and when a find counts.
        completion: With foundation, how scribbles become a mask of the reference.
    """

    dataset: Annotated[DataSet, conf.Positional]
    root: Annotated[Path, conf.arg(metavar="FOLDER")]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]
    method: Annotated[
        _Texts, conf.arg(metavar="NAME", help_behavior_hint="(default: geometric, repeatable)")
    ] = ()
    weights: Annotated[_Path, conf.arg(metavar="FILE")] = None
    prosam_backbone: Annotated[_Text, conf.arg(metavar="KIND=NAME")] = None
    shots: int = 1
    seeds: int = 1
    annotation: Kind = "mask"
    annotation_mode: Mode = "fixed"
    sampling: Annotated[SamplingChoice | None, conf.DisallowNone, conf.arg(help_behavior_hint="")] = None
    raster: Annotated[_Text, conf.arg(metavar="N|published|own")] = None
    fold: Annotated[
        tuple[int, ...], conf.UseAppendAction, conf.arg(metavar="N", help_behavior_hint="(repeatable)")
    ] = ()
    folds: Folds = "standard"
    class_name: Annotated[_Texts, conf.arg(metavar="NAME", help_behavior_hint="(repeatable)")] = ()
    layout: Annotated[LayoutChoice | None, conf.DisallowNone, conf.arg(help_behavior_hint="")] = None
    mask_threshold: _Int = None
    void: Annotated[
        tuple[int, ...], conf.UseAppendAction, conf.arg(metavar="N", help_behavior_hint="(repeatable)")
    ] = ()
    label: Annotated[_Texts, conf.arg(metavar="N=NAME", help_behavior_hint="(repeatable)")] = ()
    min_area: int = 1
    test_classes: Annotated[_Path, conf.arg(metavar="FILE")] = None
    episodes: _Int = None
    shard: Annotated[_Text, conf.arg(metavar="I/N")] = None
    workers: int = 2
    ray: _Int = None
    ray_address: Annotated[_Text, conf.arg(metavar="ADDRESS")] = None
    ray_gpus: float = 0.0
    resume: _Flag = False
    overwrite: _Flag = False
    json: _Flag = False
    quiet: _Flag = False
    backend: Backend = "embedded"
    stride: int = 4
    embedded_masks: EmbeddedMasks = "grabcut"
    embedded_features: EmbeddedFeatures = "descriptor"
    embedded_weights: Path | None = None
    variant: Variant = "clusters"
    models: Annotated[ModelOptions, conf.OmitArgPrefixes] = field(default_factory=ModelOptions)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    completion: CompletionConfig = field(default_factory=CompletionConfig)
