"""The settings of ``softmatch study``; its options and help are generated from this class.

Kept free of JAX, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

from tyro import conf

from softmatch_jax.cli.class_data_options import ClassDataOptions
from softmatch_jax.cli.config import ModelOptions
from softmatch_jax.cli.evaluate_config import Kind
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


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ClassDataOptions):
    """Repeats a study of the ProSAM paper on trained prompt encoders, and says what came out.

    Attributes:
        study: noise, centre, strategies, rates, curvature or descent; or, to compare trainings,
            distributions (Table 5), parameters (Table 9), encoders (Tables 6 and 10) or domain (Table 3, on
            PASCAL-5i under both groupings of classes).
        output: Folder for NAME.json and NAME.png; made if it does not exist.
        contender: A prompt encoder by softmatch train prosam, and what to call it; the others are compared
            with the first. To compare trainings, those of several seeds may share a name.
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
