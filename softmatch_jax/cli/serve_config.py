"""The settings of ``softmatch serve``; its options and help are generated from this class.

Kept free of JAX, OpenCV and the web framework, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

from tyro import conf

from softmatch_jax.cli.config import Backend, ModelOptions, Variant
from softmatch_jax.pipelines.config import CompletionConfig, DecisionConfig, MatchingConfig, PromptingConfig
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks

_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Path: TypeAlias = Annotated[Path | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Names: TypeAlias = Annotated[
    tuple[str, ...], conf.UseAppendAction, conf.arg(metavar="NAME", help_behavior_hint="(repeatable)")
]

DEFAULT_MASKS: EmbeddedMasks = "tiny"
"""What makes masks in the app unless said otherwise: with scribbles it is ten times as fast as GrabCut."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Opens a page to scribble on pictures, match, correct and export; nothing leaves this machine.

    Attributes:
        project: Folder in which all is kept; made if it does not exist.
        host: Address to listen on. Any but this machine's own needs --token.
        port: Port to listen on; 0 takes any that is free.
        token: Secret that a page must know, in place of one that is made up and kept in the project.
        allow_host: Further name by which pages reach the server, for instance behind a proxy.
        read_only: Show the project, and let nothing be changed.
        no_browser: Only print the address, do not open it in a browser.
        max_upload_mb: Largest file of a picture in megabytes (10^6 bytes).
        max_pixels: Refuse pictures of more pixels than this.
        ray: Spread the work over so many replicas of Ray Serve, here or on a cluster.
        ray_address: The cluster's address; replicas on this machine when left out.
        ray_gpus: GPUs, or a share of one, for each replica.
        backend: embedded needs no downloads; foundation is DINOv2 and SAM, with other defaults for the
            settings below (add --help to see them).
        stride: With embedded, distance between patches in pixels of a picture whose longer side is 448:
            larger is quicker and coarser.
        embedded_masks: With embedded, what makes masks: grabcut, tiny (a small SAM that comes with this
            package, and answers ten times as fast), or both, whose masks compete.
        embedded_features: With embedded, what is compared: descriptor (colours and gradients), tiny (what
            the small SAM sees), or joined, both side by side.
        embedded_weights: With embedded, weights of the small SAM by softmatch train export; those that come
            with this package when left out.
        variant: With foundation, clusters has settings after the paper's Fig. 1, graph after GF-SAM.
        quiet: Print nothing but the address.
        models: With foundation, which models, and how they run. With --text-model, classes may have phrases.
        matching: How features are compared.
        prompting: How the match map becomes prompts.
        decision: How the map is cut, and when a find counts.
        completion: How scribbles become a mask.
    """

    project: Annotated[Path, conf.arg(metavar="FOLDER")] = Path("softmatch-project")
    host: Annotated[str, conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    port: Annotated[int, conf.arg(metavar="N")] = 8321
    token: Annotated[_Text, conf.arg(metavar="SECRET")] = None
    allow_host: _Names = ()
    read_only: _Flag = False
    no_browser: _Flag = False
    max_upload_mb: Annotated[int, conf.arg(metavar="MB")] = 50
    max_pixels: Annotated[int, conf.arg(metavar="N")] = 64_000_000
    ray: _Int = None
    ray_address: Annotated[_Text, conf.arg(metavar="ADDRESS")] = None
    ray_gpus: float = 0.0
    backend: Backend = "embedded"
    stride: int = 4
    embedded_masks: EmbeddedMasks = DEFAULT_MASKS
    embedded_features: EmbeddedFeatures = "descriptor"
    embedded_weights: Annotated[_Path, conf.arg(metavar="FILE")] = None
    variant: Variant = "clusters"
    quiet: _Flag = False
    models: Annotated[ModelOptions, conf.OmitArgPrefixes] = field(default_factory=ModelOptions)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    completion: CompletionConfig = field(default_factory=CompletionConfig)
