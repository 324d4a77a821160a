"""``softmatch segment``: check everything, encode the references once, then one target after another."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import jax

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.cli.backend import cache_counts, check_models, parse_texts
from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
from softmatch_jax.cli.digests import file_digest
from softmatch_jax.cli.evaluate_arguments import parse_shard
from softmatch_jax.cli.layout import (
    SHEET,
    TargetFiles,
    check_output,
    make_folders,
    remove_files,
    results_file,
    results_files,
    target_files,
)
from softmatch_jax.cli.names import name_targets, printable
from softmatch_jax.cli.pictures import reference_tiles, write_pictures, write_sheet
from softmatch_jax.cli.pipeline import Pipeline, check_pipeline, extra_maps, load_pipeline, segment
from softmatch_jax.cli.plain_warnings import plain_warnings
from softmatch_jax.cli.progress import progress
from softmatch_jax.cli.records import (
    Record,
    check_same_making,
    failed_entry,
    fingerprint,
    finished_entry,
    read_record,
    read_records,
    results,
    sampled_points,
    to_json,
    write_record,
)
from softmatch_jax.cli.references import LoadedReference, encode_references, read_references
from softmatch_jax.cli.sharing import check_sharing, keeps_finished
from softmatch_jax.cli.summary import outcome, summary
from softmatch_jax.cli.targets import expand_targets
from softmatch_jax.imaging import atomic_write_text, image_size, read_image

_LARGEST_SEED = 2**32 - 1

Done: TypeAlias = tuple[Record | dict[str, Any], bool]
"""The record of a finished target or the entry of a failed one, and whether it is new."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What will be done, all of it checked.

    Attributes:
        config: Settings.
        matcher: The pipeline.
        references: Encoded references.
        targets: The targets, or this shard's share of them, and their files.
        texts: The phrase for each class that has one.
        made_with: What decides the results besides the targets.
    """

    config: SegmentConfig
    matcher: Pipeline
    references: list[LoadedReference]
    targets: list[tuple[Path, TargetFiles]]
    texts: dict[str, str]
    made_with: dict[str, Any]


def run_segment(
    config: SegmentConfig,
    references: Sequence[ReferenceConfig],
    *,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Segments all targets and writes masks, overlays, maps, records, results and a contact sheet.

    Nothing is written before all settings, references and paths are checked and the references are
    encoded. A target that cannot be read is reported and does not stop the others.

    Args:
        config: Settings, targets and output folder.
        references: Reference pictures and their annotations.
        stdout: Gets a summary, or the results as JSON; by default standard output.
        stderr: Gets the progress; by default standard error.

    Returns:
        0, or 1 if a target failed.

    Raises:
        InputError: Something the user gave cannot be used.
    """
    with plain_warnings(stderr):
        return _run(config, references, stdout, stderr)


def _run(
    config: SegmentConfig,
    references: Sequence[ReferenceConfig],
    stdout: TextIO | None,
    stderr: TextIO | None,
) -> int:
    started = time.perf_counter()
    plan = _prepare(config, references, stderr or sys.stderr)
    timings: dict[str, Any] = {"references": time.perf_counter() - started}
    _make_room(plan)
    by_number: dict[int, Done] = {}
    with (
        progress(len(plan.targets), quiet=config.quiet, stream=stderr or sys.stderr) as step,
        closing(_segmented(plan, references)) as segmented,
    ):
        for number, (done, new) in segmented:
            by_number[number] = done, new
            step(outcome(_entry(done), new=new))
    finished = [by_number[number] for number in sorted(by_number)]
    shard = parse_shard(config.shard)
    if shard[1] == 1:
        records = [done for done, _ in finished if isinstance(done, Record)]
        write_sheet(config.output, reference_tiles(plan.references), records)
    timings["total"] = time.perf_counter() - started
    # How much an earlier run had done is no property of the results, so it stands with the timings.
    timings["skipped"] = sum(not new for _, new in finished)
    if (counts := cache_counts(plan.matcher)) is not None:
        timings["cache"] = counts
    document = results(plan.made_with, plan.references, [_entry(done) for done, _ in finished], timings)
    text, where = to_json(document), config.output / results_file(*shard)
    atomic_write_text(where, text)
    told = text if config.json else summary(document, config.output, shard=shard)
    _print(told, stdout or sys.stdout, where)
    return 1 if document["summary"]["failed"] else 0


def _segmented(plan: Plan, references: Sequence[ReferenceConfig]) -> Generator[tuple[int, Done]]:
    """All targets with their number, here in their order, on Ray as they come."""
    if plan.config.ray is None:
        for number, (path, files) in enumerate(plan.targets):
            yield number, one_target(plan, path, files)
        return
    from softmatch_jax.cli.segment_ray import segment_on_ray

    yield from segment_on_ray(plan, references)


def _entry(done: Record | dict[str, Any]) -> dict[str, Any]:
    return done.entry if isinstance(done, Record) else done


def _print(text: str, stream: TextIO, where: Path) -> None:
    try:
        print(text, end="", file=stream, flush=True)
    except BrokenPipeError:  # a reader that has seen enough, which main deals with
        raise
    except OSError as error:
        raise InputError(
            f"Standard output cannot be written ({error.strerror}); the results are in {where}."
        ) from None


def _prepare(config: SegmentConfig, references: Sequence[ReferenceConfig], stream: TextIO | None) -> Plan:
    """Checks all that can be checked before the first target, the cheap things first."""
    check_positive("--max-pixels", config.max_pixels)
    if not 0 <= config.seed <= _LARGEST_SEED:
        raise InputError(f"--seed is {config.seed}; expected a whole number from 0 to {_LARGEST_SEED}.")
    check_sharing(config)
    check_pipeline(config)
    check_models(config, config.text)
    annotations = [path for one in references for path in (one.mask, one.painting) if path is not None]
    paths = expand_targets(
        config.targets, recursive=config.recursive, output=config.output, passed_over=annotations
    )
    images = read_references(references, max_pixels=config.max_pixels)
    classes = list(dict.fromkeys(name for image in images for name in image.annotations))
    texts = parse_texts(config.text, classes)
    targets = [
        (path, target_files(name, classes, **extra_maps(config)))
        for path, name in zip(paths, name_targets(paths), strict=True)
    ]
    inputs = [*paths, *(path for image in images for path in (image.path, image.source))]
    planned = [files for _, files in targets]
    check_output(config.output, planned, inputs, resume=keeps_finished(config), overwrite=config.overwrite)
    number, of = parse_shard(config.shard)
    targets = targets[number - 1 :: of]  # named among all of them, so that no name depends on the shard
    matcher = load_pipeline(config, texts, stream)
    made_with = fingerprint(config, matcher, images, texts)
    if keeps_finished(config):
        check_same_making(made_with, read_records(config.output), config.output)
        _check_owners(config.output, targets)
    return Plan(
        config=config,
        matcher=matcher,
        references=encode_references(images, matcher),
        targets=targets,
        texts=texts,
        made_with=made_with,
    )


def _make_room(plan: Plan) -> None:
    """Makes the folders; removes what an earlier run recorded, where that was asked for."""
    root = plan.config.output
    make_folders(root, **extra_maps(plan.config))
    if plan.config.overwrite:
        remove_files(root, (SHEET, *(path.name for path in results_files(root).values())))
        for name, record in read_records(root).items():
            remove_files(root, (*record.files(), name))


def one_target(plan: Plan, path: Path, files: TargetFiles) -> Done:
    """Segments one target, or finds it finished; a target that cannot be read makes an entry of its own.

    Raises:
        InputError: The output folder cannot be written.
    """
    root, limit = plan.config.output, plan.config.max_pixels
    clock = time.perf_counter()
    try:
        image_size(path, max_pixels=limit)  # refuses what is no picture before reading all of it
        digest = file_digest(path)
        earlier = _earlier(plan, path, files, digest.sha256)
        if earlier is not None:
            return earlier, False
        image = read_image(path, max_pixels=limit)
        timings = {"read": time.perf_counter() - clock}
        key = jax.random.fold_in(jax.random.key(plan.config.seed), digest.crc32)
        references = [loaded.reference for loaded in plan.references]
        segmentation = segment(plan.matcher, image, references, key=key, texts=plan.texts)
    except InputError as error:
        _forget(plan, files)
        return failed_entry(path, error), True
    clock = time.perf_counter()
    _forget(plan, files)
    write_pictures(root, files, image, segmentation)
    timings |= {**segmentation.timings, "write": time.perf_counter() - clock}
    record = Record(
        made_with=plan.made_with,
        entry=finished_entry(path, digest.sha256, files, segmentation, timings),
        points=sampled_points(segmentation),
    )
    write_record(root / files.record, record)
    return record, True


def _earlier(plan: Plan, path: Path, files: TargetFiles, sha256: str) -> Record | None:
    """The record of an earlier run for the same content, if its pictures are there."""
    root = plan.config.output
    record = read_record(root / files.record) if keeps_finished(plan.config) else None
    if record is None or record.entry.get("sha256") != sha256:
        return None
    if not all((root / file).is_file() for file in files.pictures):
        return None
    return replace(record, entry={**record.entry, "target": printable(path)})


def _forget(plan: Plan, files: TargetFiles) -> None:
    """Removes what an earlier run made of a target that has changed since."""
    root = plan.config.output
    record = read_record(root / files.record)
    if record is not None:
        remove_files(root, (*record.files(), files.record))


def _check_owners(root: Path, targets: Sequence[tuple[Path, TargetFiles]]) -> None:
    """Checks that no target takes the place of another one's earlier result.

    Raises:
        InputError: One does.
    """
    for path, files in targets:
        record = read_record(root / files.record)
        if record is None or record.entry.get("target") == printable(path) or not path.is_file():
            continue
        if record.entry.get("sha256") != file_digest(path).sha256:
            raise InputError(
                f"{root / files.record} is the result of {record.entry.get('target')}, which {path} would "
                "replace; expected the same targets to --resume (use another folder, or --overwrite)."
            )
