"""The options that say which classes of which data are base, novel and held out. Kept free of JAX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tyro import conf

from softmatch_jax.cli.evaluate_config import LayoutChoice, SamplingChoice

if TYPE_CHECKING:
    from softmatch_jax.data.training_sets import TrainingSource

_Int: TypeAlias = Annotated[int | None, conf.DisallowNone, conf.arg(metavar="N", help_behavior_hint="")]
_Text: TypeAlias = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]
_Texts: TypeAlias = Annotated[tuple[str, ...], conf.UseAppendAction]
_Names: TypeAlias = Annotated[_Texts, conf.arg(metavar="NAME", help_behavior_hint="(repeatable)")]


@dataclass(frozen=True, kw_only=True)
class ClassDataOptions:
    """Classes of a data set, as a training divides them and a study asks about them.

    Attributes:
        dataset: A data set with classes: folder is pictures and masks of one's own.
        root: Where the data set lies.
        sampling: corrected makes every picture a target once in each epoch; published draws as VRP-SAM's code
            does, and is for pascal5i and coco20i.
        fold: Which classes are novel, which no training sees, from 0. Of a folder none are when left out.
        folds: Of a folder: how many folds there are.
        scheme: Of a folder: neighbouring classes are novel together, or every n-th.
        novel: Of a folder: a novel class, in place of --fold.
        exclude: Of a folder: train on no picture that shows a novel class, or only leave its masks out; then
            novel classes are evaluated in held-out pictures.
        held_share: Share of the pictures that a training holds out to validate on.
        held_folder: Of a folder: hold out the pictures below this folder in it, such as val, instead.
        held_seed: Which pictures are held out.
        grouping: Of PASCAL-5i: its own folds, or for the domain shift those of COCO.
        classes: Only this class.
        layout: Of a folder: pairs (mask beside picture), indexed (label maps), coco, labelme or yolo;
            recognised when left out.
        mask_threshold: Of a folder: mask values from this one on are object, for masks of many values.
        void: Of a folder with label maps: a value that does not count.
        label: Of a folder with label maps: the name of a value, such as 3=road.
        min_area: Of a folder: pixels of a class that a picture must show to be one of the class.
    """

    dataset: Annotated[
        Literal["folder", "pascal5i", "coco20i"] | None, conf.DisallowNone, conf.arg(help_behavior_hint="")
    ] = None
    root: Annotated[Path | None, conf.DisallowNone, conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
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

    def training_source(self) -> TrainingSource:
        """The same for :func:`softmatch_jax.data.training_sets.open_training`; a data set must be given.

        Raises:
            InputError: A label is in another form.
        """
        from softmatch_jax.cli.evaluate_arguments import parse_labels
        from softmatch_jax.data.training_sets import TrainingSource

        assert self.dataset is not None and self.root is not None
        return TrainingSource(
            dataset=self.dataset,
            root=self.root.expanduser(),
            sampling=self.sampling,
            fold=self.fold,
            folds=self.folds,
            scheme=self.scheme,
            novel=self.novel,
            exclude=self.exclude,
            held_share=self.held_share,
            held_folder=self.held_folder or "",
            held_seed=self.held_seed,
            grouping=self.grouping,
            classes=self.classes,
            layout=self.layout,
            mask_threshold=self.mask_threshold,
            void=self.void,
            labels=parse_labels(self.label),
            min_area=self.min_area,
        )
