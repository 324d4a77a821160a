"""Grids of evaluations over folders of real pictures: what ``ablation.py`` and ``embedded_models.py`` share.

The folders lie beside the project (``../shared/data``) or where ``SOFTMATCH_DATA`` points.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.folder import open_folder
from softmatch_jax.evaluation.pairing import compare
from softmatch_jax.evaluation.records import finished
from softmatch_jax.evaluation.report import collect, scores
from softmatch_jax.evaluation.run_file import start_run
from softmatch_jax.evaluation.running import EvaluationProtocol, choose_places, made_with, run_episodes
from softmatch_jax.evaluation.segmenter import Segmenter
from softmatch_jax.evaluation.table import EpisodeTable

NO_BAR = -1000.0  # a find always counts: whether the object is there at all is not asked here
CAMVID_NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence"),
    *("car", "pedestrian", "bicyclist"),
)


def folders(data: Path) -> dict[str, dict[str, object]]:
    """The real folders, each with what is needed to read it."""
    return {
        "perseg": {"root": data / "perseg"},
        "mt_defects": {"root": data / "mt_defects", "threshold": 1},
        "crackforest": {"root": data / "crackforest"},
        "camvid": {
            "root": data / "camvid",
            "void": (11,),
            "min_area": 400,
            "labels": dict(enumerate(CAMVID_NAMES)),
        },
        "fss1000_sample": {"root": data / "fss1000_sample"},
    }


def table_of(root: Path) -> EpisodeTable:
    """The episodes of one cell on one folder."""
    return EpisodeTable.of(scores(collect(root).done))


def gap(base: Mapping[str, EpisodeTable], tables: Mapping[str, EpisodeTable]) -> str:
    """Two columns: the mean over the folders of the paired differences of mIoU, and its interval."""
    gaps = [compare(base[name], table).differences["mean_iou"] for name, table in tables.items()]
    mean = np.mean([one.value for one in gaps])
    low, high = (
        np.sqrt(np.sum([(one.value - getattr(one, end)) ** 2 for one in gaps])) / len(gaps)
        for end in ("low", "high")
    )
    return f"{mean:+.3f} | [{mean - low:+.3f}, {mean + high:+.3f}]"


def opened(data: Path, own: Sequence[str] = ()) -> dict[str, ClassLists]:
    """The real folders below ``data``, or the user's own as ``name=folder``."""
    known = folders(data) if not own else {}
    known |= {name: {"root": Path(root)} for name, _, root in (text.partition("=") for text in own)}
    return {name: open_folder(**options) for name, options in known.items()}


def run_left(
    root: Path, protocol: EvaluationProtocol, method: Segmenter, seeds: Iterable[int], episodes: int
) -> tuple[int, float]:
    """Runs what is left of a cell on a folder; how many episodes that was, and the seconds it took."""
    start_run(root, made_with(protocol, method), resume=True, overwrite=False, join=True)
    done = finished(root)
    places = choose_places(len(protocol.episodes), seeds=seeds, episodes=episodes)
    left = [place for place in places if place not in done]
    started = time.perf_counter()
    run_episodes(protocol, method, left, root)
    return len(left), time.perf_counter() - started
