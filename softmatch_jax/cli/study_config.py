"""The settings of ``softmatch study``; its options and help are generated from this class.

Kept free of JAX, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from tyro import conf

from softmatch_jax.cli.config import ModelOptions
from softmatch_jax.cli.evaluate_config import Kind, LayoutChoice, SamplingChoice
from softmatch_jax.studies.config import (
    CentreSettings,
    CurvatureSettings,
    NoiseSettings,
    RatesSettings,
    StrategiesSettings,
)
from softmatch_jax.studies.descent_config import DescentSettings
from softmatch_jax.studies.trainings_config import TrainingsSettings, TrainingStudy
from softmatch_jax.training.prompt_config import ViewConfig

ON_ENCODERS = ("noise", "centre", "strategies", "rates", "curvature", "descent")
"""The studies that take encoders as they are."""

ON_TRAININGS: tuple[TrainingStudy, ...] = get_args(TrainingStudy)
"""The studies that compare trainings."""

STUDIES = (*ON_ENCODERS, *ON_TRAININGS)

_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Path: TypeAlias = Annotated[Path | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Texts: TypeAlias = Annotated[tuple[str, ...], conf.UseAppendAction]
_Names: TypeAlias = Annotated[_Texts, conf.arg(metavar="NAME", help_behavior_hint="(repeatable)")]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Repeats a study of the ProSAM paper on trained prompt encoders, and says what came out.

    Attributes:
        study: noise, centre, strategies, rates, curvature or descent; or, to compare trainings,
            distributions (Table 5), parameters (Table 9), encoders (Tables 6 and 10) or domain (Table 3, on
            PASCAL-5i under both groupings of classes).
        output: Folder for NAME.json and NAME.png; made if it does not exist.
        contender: A prompt encoder by softmatch train prosam, and what to call it; the others are compared
            with the first. To compare trainings, those of several seeds may share a name.
        dataset: Where questions come from: the novel classes of a fold. Of a folder without --fold or --novel
            all classes, for encoders that were trained on other pictures.
        root: Where the data set lies.
        sampling: How episodes are drawn.
        fold: Which classes are novel, from 0.
        folds: Of a folder: how many folds there are.
        scheme: Of a folder: neighbouring classes are novel together, or every n-th.
        novel: Of a folder: a novel class, in place of --fold.
        exclude: Of a folder: as in the training; with masks, only held-out pictures are asked about.
        held_share: Of a folder: share of the pictures that the training held out.
        held_folder: Of a folder: the pictures below this folder were held out instead.
        held_seed: Of a folder: which pictures were held out.
        grouping: Of PASCAL-5i: its own folds, or those of COCO.
        classes: Only this class.
        layout: Of a folder: pairs, indexed, coco, labelme or yolo; recognised when left out.
        mask_threshold: Of a folder: mask values from this one on are object, for masks of many values.
        void: Of a folder with label maps: a value that does not count.
        label: Of a folder with label maps: the name of a value, such as 3=road.
        min_area: Of a folder: pixels of a class that a picture must show to be one of the class.
        views: In place of a data set: pairs of views of held-out pictures that show the same region, of a
            kind of data (bsds500, camvid, folder or masks), its folder, and a part of it.
        view: Which views.
        episodes: Questions at most, spread evenly over the data set; all when left out, and of views as many
            as there are pictures.
        seed: Of the draws of references, annotations, noise and intervals.
        annotation: How references are annotated.
        plan: Of a study that compares trainings: only print the commands that train what is missing.
        overwrite: Replace the results that are in the way.
        quiet: Show no progress.
        embedded_weights: Weights of the small SAM, for encoders that were trained with others than those that
            come with this package.
        prosam_backbone: For encoders on the foundation models: KIND=NAME of an image encoder that lies
            elsewhere than in training.
        models: For encoders on the foundation models: which SAM, and how it runs.
        noise: Settings of noise.
        centre: Settings of centre.
        strategies: Settings of strategies.
        rates: Settings of rates.
        curvature: Settings of curvature.
        descent: Settings of descent.
        trainings: Settings of the studies that compare trainings.
    """

    study: Annotated[str, conf.Positional, conf.arg(metavar="NAME")]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]
    contender: Annotated[
        _Texts, conf.arg(metavar="NAME=WEIGHTS.safetensors", help_behavior_hint="(required, repeatable)")
    ] = ()
    dataset: Annotated[
        Literal["folder", "pascal5i", "coco20i"] | None, conf.DisallowNone, conf.arg(help_behavior_hint="")
    ] = None
    root: Annotated[_Path, conf.arg(metavar="FOLDER")] = None
    sampling: SamplingChoice = "corrected"
    fold: _Int = None
    folds: int = 4
    scheme: Literal["contiguous", "interleaved"] = "contiguous"
    novel: _Names = ()
    exclude: Literal["pictures", "masks"] = "pictures"
    held_share: float = 0.1
    held_folder: _Text = None
    held_seed: int = 0
    grouping: Literal["standard", "coco"] = "standard"
    classes: _Names = ()
    layout: Annotated[LayoutChoice | None, conf.DisallowNone, conf.arg(help_behavior_hint="")] = None
    mask_threshold: _Int = None
    void: Annotated[
        tuple[int, ...], conf.UseAppendAction, conf.arg(metavar="N", help_behavior_hint="(repeatable)")
    ] = ()
    label: Annotated[_Texts, conf.arg(metavar="N=NAME", help_behavior_hint="(repeatable)")] = ()
    min_area: int = 1
    views: Annotated[_Text, conf.arg(metavar="KIND:FOLDER[:PART]")] = None
    view: ViewConfig = field(default_factory=ViewConfig)
    episodes: _Int = None
    seed: int = 0
    annotation: Kind = "mask"
    plan: _Flag = False
    overwrite: _Flag = False
    quiet: _Flag = False
    embedded_weights: Annotated[_Path, conf.arg(metavar="FILE")] = None
    prosam_backbone: Annotated[_Texts, conf.arg(metavar="KIND=NAME", help_behavior_hint="(repeatable)")] = ()
    models: Annotated[ModelOptions, conf.OmitArgPrefixes] = field(default_factory=ModelOptions)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    centre: CentreSettings = field(default_factory=CentreSettings)
    strategies: StrategiesSettings = field(default_factory=StrategiesSettings)
    rates: RatesSettings = field(default_factory=RatesSettings)
    curvature: CurvatureSettings = field(default_factory=CurvatureSettings)
    descent: DescentSettings = field(default_factory=DescentSettings)
    trainings: TrainingsSettings = field(default_factory=TrainingsSettings)

    @property
    def settings(self) -> str:
        """Name of the settings of this study."""
        return "trainings" if self.study in ON_TRAININGS else self.study
