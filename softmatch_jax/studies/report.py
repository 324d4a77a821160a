"""What all studies hand back: a document, a figure, and what came out in one sentence."""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import atomic_write_bytes
from softmatch_jax.studies.config import IntervalSettings
from softmatch_jax.studies.question import Contender
from softmatch_jax.studies.resampling import Estimate, Resampling

_DOTS = 150  # of the figure per inch


class StudyResult(Protocol):
    """What a study found."""

    @property
    def about(self) -> About:
        """What was asked, and of whom."""

    @property
    def conclusion(self) -> str:
        """What came out, in one sentence."""

    def to_json(self) -> dict[str, Any]:
        """All of it as a document of JSON."""

    def figure(self, path: Path) -> None:
        """Draws it as a PNG."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What was asked, and of whom.

    Attributes:
        study: Name of the study.
        source: Where in the paper it is from.
        settings: Of the study.
        contenders: Names; the others are compared with the first.
        features: Name of the features.
        sam: Name of the SAM.
        episodes: Index, class and target of each question.
    """

    study: str
    source: str
    settings: Any
    contenders: tuple[str, ...]
    features: str
    sam: str
    episodes: tuple[tuple[int, str, str], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class of each question."""
        return tuple(name for _, name, _ in self.episodes)

    def resampling(self, settings: IntervalSettings, key: jax.Array) -> Resampling:
        """Draws of the target pictures for intervals."""
        seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
        return Resampling(self.classes, [target for *_, target in self.episodes], settings, seed=seed)


def about(
    study: str,
    source: str,
    settings: Any,
    contenders: Sequence[Contender],
    episodes: Sequence[tuple[int, str, str]],
) -> About:
    """Notes down what was asked."""
    predictor = contenders[0].predictor
    return About(
        study=study,
        source=source,
        settings=settings,
        contenders=tuple(contender.name for contender in contenders),
        features=predictor.features.name,
        sam=predictor.sam.name,
        episodes=tuple(episodes),
    )


def document(result: StudyResult) -> dict[str, Any]:
    """A result as JSON; numbers that are not finite become null."""
    plain: dict[str, Any] = _plain(result)
    return {"conclusion": result.conclusion, **plain}


def draw(path: Path, paint: Callable[[Any], None], *, size: tuple[float, float] = (6.0, 4.0)) -> None:
    """Draws a figure and writes it in one step.

    Args:
        path: Of the PNG.
        paint: Gets an empty Matplotlib ``Figure``.
        size: Width and height in inches.

    Raises:
        InputError: Matplotlib is not installed, the name is not one of a PNG, or it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} ends in {path.suffix!r}; expected .png.")
    try:
        drawing = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise InputError(
            "The package matplotlib is not installed, which the figures of studies need; install it with "
            "pip install 'softmatch-jax[notebooks]'."
        ) from None
    figure = drawing.Figure(figsize=size, layout="constrained")
    paint(figure)
    buffer = io.BytesIO()
    # Without a date and a version the same numbers make the same file.
    figure.savefig(buffer, format="png", dpi=_DOTS, metadata={"Software": None})
    atomic_write_bytes(path, buffer.getvalue())


def bars(
    axes: Any,
    names: Sequence[str],
    estimates: Sequence[Estimate],
    *,
    label: str,
    series: str | None = None,
    shift: float = 0.0,
) -> None:
    """Values with their intervals, one below the other.

    Args:
        axes: Of Matplotlib; who calls turns the axis over, so that the first is on top.
        names: Of the values.
        estimates: The values.
        label: Of the axis.
        series: For the legend, where there are several.
        shift: By how much of a row to move a further series down.
    """
    places = np.arange(len(names))
    values = np.array([estimate.value for estimate in estimates])
    ends = np.nan_to_num(np.array([_reach(estimate) for estimate in estimates])).T
    axes.errorbar(values, places + shift, xerr=ends, fmt="o", capsize=3, label=series)
    axes.set_yticks(places, names)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)


def _reach(estimate: Estimate) -> tuple[float, float]:
    return max(estimate.value - estimate.low, 0.0), max(estimate.high - estimate.value, 0.0)


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {name: _plain(number) for name, number in value._asdict().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
