"""``softmatch segment`` over Ray: each worker loads the models and encodes the references for itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
from softmatch_jax.cli.layout import TargetFiles
from softmatch_jax.cli.pipeline import load_pipeline
from softmatch_jax.cli.records import difference_in_making, failed_entry, fingerprint
from softmatch_jax.cli.references import encode_references, read_references
from softmatch_jax.cli.run import Done, Plan, one_target
from softmatch_jax.cli.sharing import keeps_finished
from softmatch_jax.evaluation.ray_pool import MOST_LIVES, work_on_ray


def segment_on_ray(plan: Plan, references: Sequence[ReferenceConfig]) -> Generator[tuple[int, Done]]:
    """Segments the targets of a plan, in the order in which they become ready.

    The output folder is the truth: a target whose worker is lost after its record was written is found
    finished.

    Args:
        plan: What is to be done, with room made for it.
        references: What the plan's references were read from.

    Yields:
        The number of a target in the plan, and what became of it.

    Raises:
        InputError: Ray is missing or cannot be reached, a worker would make other results than the plan
            says, or the output folder cannot be written.
    """
    config = replace(plan.config, output=plan.config.output.absolute())
    make = partial(_TargetWorker, config, tuple(references), plan.targets, plan.texts, plan.made_with)
    answers = work_on_ray(
        make,
        len(plan.targets),
        notes=config.output / "records",
        workers=config.ray or 1,
        address=config.ray_address,
        gpus_per_worker=config.ray_gpus,
    )
    yield from answers


class _TargetWorker:
    """Segments targets by their number."""

    def __init__(
        self,
        config: SegmentConfig,
        references: Sequence[ReferenceConfig],
        targets: list[tuple[Path, TargetFiles]],
        texts: dict[str, str],
        made_with: dict[str, Any],
    ) -> None:
        images = read_references(references, max_pixels=config.max_pixels)
        matcher = load_pipeline(config, texts, None)
        here = fingerprint(config, matcher, images, texts)
        difference = difference_in_making(made_with, here)
        if difference is not None:
            raise InputError(
                f"A worker of Ray would make other results: {difference}; expected the same version, models "
                "and reference files on all machines."
            )
        self._keeps = keeps_finished(config)
        self._plan = Plan(
            # What is there was made in this run: it is kept when a target comes again.
            config=replace(config, resume=True),
            matcher=matcher,
            references=encode_references(images, matcher),
            targets=targets,
            texts=texts,
            made_with=made_with,
        )

    def __call__(self, item: int) -> tuple[int, Done]:
        done, new = one_target(self._plan, *self._plan.targets[item])
        return item, (done, new or not self._keeps)

    def give_up(self, item: int) -> tuple[int, Done]:
        lost = InputError(f"its worker was lost {MOST_LIVES} times; expected a picture that fits the memory.")
        return item, (failed_entry(self._plan.targets[item][0], lost), True)
