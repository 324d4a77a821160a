"""The settings of ``softmatch train``; options and help are generated from these classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from tyro import conf

from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.region_config import Colours, Drawing, Framing, Pasting, RegionBatchConfig
from softmatch_jax.training.sam_config import SamTrainConfig
from softmatch_jax.training.sam_recipe import TINY, SamRecipe

Stages: TypeAlias = tuple[tuple[int, int, int], ...]

_BATCHES = TINY.batches
_Flag: TypeAlias = Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")]
_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Texts: TypeAlias = Annotated[tuple[str, ...], conf.UseAppendAction]


def write_stages(stages: Stages) -> str:
    """Stages as the command line has them: ``STEP:SIDE:COUNT``, with commas between."""
    return ",".join(":".join(map(str, stage)) for stage in stages)


@dataclass(frozen=True, kw_only=True)
class TrainSamConfig:
    """Trains a small SAM on pictures that are cut into regions; without options as that of this package was.

    Attributes:
        output: Folder of the training: checkpoints, metrics, learning curves; made if it does not exist.
        data: What to train on: a kind (bsds500, camvid, folder or masks) and its folder, and if wanted a
            part of it and how often pictures are drawn from there relative to the others, such as
            bsds500:/data/BSR:train=0.85. What follows the last colon is the part, unless it is no plain
            word; a folder whose own name ends like that is written with one more colon. A folder whose name
            holds = needs a weight behind it.
        preset: Which model.
        init: Start from the weights in this file instead of random ones.
        resume: Go on from the newest checkpoint in the output folder.
        quiet: Show no progress.
        validate: Pictures to measure on while training, written as for --data; not among those to train on.
        validate_pictures: Measure on so many of them, spread evenly.
        training: How the parameters are optimised.
        sam: What the masks are trained for.
        stages: From which step on views have which side, and how many there are in a batch: STEP:SIDE:COUNT,
            with commas between.
        prompts: Regions of each view.
        correct_every: Every so often a batch asks for a round of corrections; 0 for never.
        framing: Which parts of pictures are shown.
        colours: How colours change.
        drawing: Which regions are asked for, and how.
        pasting: What is pasted into views from other pictures.
    """

    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")]
    data: Annotated[
        _Texts,
        conf.arg(metavar="KIND:FOLDER[:PART][=WEIGHT]", help_behavior_hint="(required, repeatable)"),
    ] = ()
    preset: str = "tiny"
    init: Annotated[_Text, conf.arg(metavar="FILE")] = None
    resume: _Flag = False
    quiet: _Flag = False
    validate: Annotated[_Text, conf.arg(metavar="KIND:FOLDER[:PART]")] = None
    validate_pictures: int = 20
    training: Annotated[TrainConfig, conf.OmitArgPrefixes] = TINY.training
    sam: SamTrainConfig = TINY.sam
    stages: Annotated[str, conf.arg(metavar="STEP:SIDE:COUNT[,...]")] = write_stages(_BATCHES.stages)
    prompts: int = _BATCHES.prompts
    correct_every: int = _BATCHES.correct_every
    framing: Framing = _BATCHES.framing
    colours: Colours = _BATCHES.colours
    drawing: Drawing = _BATCHES.drawing
    pasting: Pasting = _BATCHES.pasting

    def recipe(self, stages: Stages) -> SamRecipe:
        """What the training is made of, without the data."""
        batches = RegionBatchConfig(
            stages=stages,
            prompts=self.prompts,
            framing=self.framing,
            colours=self.colours,
            drawing=self.drawing,
            pasting=self.pasting,
            correct_every=self.correct_every,
        )
        return replace(TINY, training=self.training, sam=self.sam, batches=batches)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes the weights of a training as one file in half precision, with what they were trained by.

    Attributes:
        run: The folder of a training.
        output: The file to write, such as weights.safetensors; an earlier one is replaced.
        step: Of the checkpoint; the newest when left out.
        raw: The parameters as the last step left them, not their running average.
        best: Of a prompt encoder: the one that was best on the held-out pairs, instead of the newest.
    """

    run: Annotated[Path, conf.Positional, conf.arg(metavar="RUN")]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FILE")]
    step: _Int = None
    raw: _Flag = False
    best: _Flag = False
