"""What is written about results: one record for each finished target, and one file for the run.

A record tells how its target was made, so that a later run knows whether it may stay. Floats are
rounded, keys have a fixed order, and nothing but the entries called ``timings`` depends on the clock
or the machine.
"""

from __future__ import annotations

import importlib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import PIL

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.cli.config import SegmentConfig
from softmatch_jax.cli.layout import TargetFiles
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.pipeline import Pipeline, prosam_settings
from softmatch_jax.cli.references import AnnotatedImage, LoadedReference
from softmatch_jax.evaluation.run_file import first_difference
from softmatch_jax.imaging import atomic_write_text, class_palette
from softmatch_jax.pipelines import ClassSegmentation, Segmentation, Softmatcher

_DIGITS = 6
_NUMBERS = re.compile(r"\[\n\s+([-+.\de,\s]+?)\n\s*\]")


@dataclass(frozen=True)
class Record:
    """What is kept of one finished target.

    Attributes:
        made_with: What decides the result besides the target: see :func:`fingerprint`.
        entry: The target's entry in the results.
        points: For each class the points sampled from its map, as ``[x, y, cluster]``.
    """

    made_with: dict[str, Any]
    entry: dict[str, Any]
    points: list[list[list[float]]]

    def files(self) -> tuple[str, ...]:
        """Names of the pictures that the record stands for, those that are texts."""
        names = [self.entry.get("mask"), self.entry.get("overlay")]
        maps = ("map", "confidence_map", "uncertainty_map")
        names += [found.get(key) for found in self.entry["classes"] for key in maps]
        return tuple(name for name in names if isinstance(name, str))


def settings(config: SegmentConfig, texts: Mapping[str, str]) -> dict[str, Any]:
    """The pipeline's settings; those of the models are in their names, save how the cache rounds."""
    made: dict[str, Any] = {"backend": config.backend}
    if config.method == "prosam":
        made |= {"method": config.method, "prosam": asdict(prosam_settings(config))}
        del made["prosam"]["together"]  # leaves the results as they are
        return made | ({"cache_half": config.models.cache_half} if config.backend == "foundation" else {})
    for name in ("matching", "prompting", "decision", "completion"):
        made[name] = asdict(getattr(config, name))
    if config.backend == "foundation":
        made |= {"texts": dict(texts), "cache_half": config.models.cache_half}
    return made


def models(matcher: Pipeline) -> dict[str, str]:
    """Names of the models, which hold their revisions and settings."""
    names = {"features": matcher.features.name, "masks": matcher.masks.name}
    if not isinstance(matcher, Softmatcher):
        return {**names, "encoder": matcher.encoder}
    return names if matcher.text is None else {**names, "text": matcher.text.name}


def fingerprint(
    config: SegmentConfig,
    matcher: Pipeline,
    references: Sequence[AnnotatedImage],
    texts: Mapping[str, str],
) -> dict[str, Any]:
    """All that decides a target's result, the target itself aside."""
    return {
        "softmatch": __version__,
        "seed": config.seed,
        "settings": settings(config, texts),
        "models": models(matcher),
        "references": [{"classes": list(image.annotations), "sha256": image.sha256} for image in references],
    }


def finished_entry(
    path: Path,
    sha256: str,
    files: TargetFiles,
    segmentation: Segmentation,
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """The entry of a target that was segmented."""
    height, width = segmentation.image_size
    return {
        "target": printable(path),
        "status": "ok",
        "size": [width, height],
        "sha256": sha256,
        "mask": files.mask,
        "overlay": files.overlay,
        "classes": [
            _class(found, file, sure, unsure)
            for found, file, sure, unsure in zip(
                segmentation.classes,
                files.maps,
                files.confidence or (None,) * len(files.maps),
                files.uncertainty or (None,) * len(files.maps),
                strict=True,
            )
        ],
        "timings": _rounded(dict(timings)),
    }


def failed_entry(path: Path, error: InputError) -> dict[str, Any]:
    """The entry of a target that could not be segmented."""
    return {"target": printable(path), "status": "failed", "error": printable(str(error))}


def _class(found: ClassSegmentation, file: str, sure: str | None, unsure: str | None) -> dict[str, Any]:
    return _rounded(
        {
            "name": found.name,
            "absent": found.absent,
            "reason": found.reason,
            "score": found.score,
            "confidence": float(found.confidence[found.mask].mean()) if found.mask.any() else 0.0,
            "resemblance": found.resemblance,
            "log_evidence": found.log_evidence,
            **({} if found.disagreement is None else {"disagreement": found.disagreement}),
            "kept": len(found.kept),
            "area": int(found.mask.sum()),
            "map": file,
            **({} if sure is None else {"confidence_map": sure}),
            **({} if unsure is None else {"uncertainty_map": unsure}),
            "instances": [
                {"score": one.score, "area": one.area, "box": list(one.box), "centroid": list(one.centroid)}
                for one in found.instances
            ],
        }
    )


def sampled_points(segmentation: Segmentation) -> list[list[list[float]]]:
    """The points of each class, as ``[x, y, cluster]``."""
    return [
        [
            _rounded([float(x), float(y), int(c)])
            for (x, y), c in zip(found.points, found.clusters, strict=True)
        ]
        for found in segmentation.classes
    ]


def write_record(path: Path, record: Record) -> None:
    """Writes a record; from then on its target is finished."""
    atomic_write_text(path, to_json(asdict(record)))


def read_record(path: Path) -> Record | None:
    """Reads a record; what is no record of ours is None."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**fields)
        if not isinstance(record.made_with, dict) or record.entry["status"] != "ok":
            return None
        record.files()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record


def read_records(root: Path) -> dict[str, Record]:
    """All records in an output folder, by their relative name."""
    found = {f"records/{path.name}": read_record(path) for path in sorted(root.glob("records/*.json"))}
    return {name: record for name, record in found.items() if record is not None}


def check_same_making(made_with: dict[str, Any], records: Mapping[str, Record], root: Path) -> None:
    """Checks that earlier results were made as this run would make them.

    Raises:
        InputError: One was not; the message names what differs.
    """
    for name, record in records.items():
        difference = difference_in_making(record.made_with, made_with)
        if difference is not None:
            raise InputError(
                f"The results in {root} were made differently: {difference} ({name}); expected the same to "
                "--resume (use --overwrite to replace them, or another folder)."
            )


def difference_in_making(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first difference between two fingerprints, in words; digests of references would say nothing."""
    made = json.loads(json.dumps([before, now]))  # tuples as lists, as records hold them
    references = [one.pop("references", None) for one in made]
    found = first_difference(*made)
    return found if references[0] == references[1] else found or "the references are not the same"


def _versions(backend: str) -> dict[str, str]:
    """Versions of what computes the results."""
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }
    if backend == "foundation":
        versions |= {
            name: str(importlib.import_module(name).__version__) for name in ("flax", "torch", "transformers")
        }
    return versions


def results(
    made_with: Mapping[str, Any],
    references: Sequence[LoadedReference],
    entries: Sequence[dict[str, Any]],
    timings: Mapping[str, Any],
) -> dict[str, Any]:
    """The document about the whole run; its entries are those of the records.

    Args:
        made_with: See :func:`fingerprint`.
        references: All of them.
        entries: One for each target.
        timings: What depends on the clock, or on what earlier runs have done.
    """
    names = class_names(references)
    colours = class_palette(len(names))
    return {
        **{name: made_with[name] for name in ("softmatch", "seed", "settings", "models")},
        "versions": _versions(made_with["settings"]["backend"]),
        "references": [
            {
                "image": printable(loaded.origin.path),
                "class": loaded.reference.class_name,
                "annotation": loaded.origin.kind,
                "sha256": loaded.origin.sha256,
                "area": int(loaded.reference.mask.sum()),
            }
            for loaded in references
        ],
        "classes": [
            {"index": index, "name": name, "colour": [int(level) for level in colours[index]]}
            for index, name in enumerate(names, start=1)
        ],
        "targets": list(entries),
        "timings": _rounded(dict(timings)),
        "summary": count_entries(entries),
    }


def count_entries(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many targets there are of each kind."""
    return {
        "done": sum(entry["status"] == "ok" for entry in entries),
        "failed": sum(entry["status"] == "failed" for entry in entries),
        "absent": sum(is_absent(entry) for entry in entries),
    }


def class_names(references: Sequence[LoadedReference]) -> tuple[str, ...]:
    """Classes in the order of their index."""
    return tuple(dict.fromkeys(loaded.reference.class_name for loaded in references))


def is_absent(entry: Mapping[str, Any]) -> bool:
    """Whether a target was segmented and no class was found in it."""
    return entry["status"] == "ok" and all(found["absent"] for found in entry["classes"])


def to_json(document: Mapping[str, Any]) -> str:
    """The document as text, the same for equal documents; lists of numbers take one line."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    # A text in JSON holds no line end, so this meets none.
    return _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def _rounded(value: Any) -> Any:
    """All floats in a document to six significant digits; what is not finite is None."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
