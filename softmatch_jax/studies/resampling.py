"""How far a number of a study might move with other target pictures.

Target pictures are drawn anew within each class, all episodes of one together, and every contender is
measured on the same draws: what makes an episode hard for all of them drops out of their difference. Of ``n``
pictures ``n - 1`` are drawn with repetition, each with weight ``n / (n - 1)`` (Rao and Wu 1988), and the
draws are moved so that their mean is the value. Where a class has one picture only, pictures are drawn
without regard to class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from softmatch_jax.studies.config import IntervalSettings


class Estimate(NamedTuple):
    """A number and where it might have been.

    Attributes:
        value: Of the episodes themselves.
        low: Lower end of the interval; NaN where the episodes do not say.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval is all above or all below 0, else 0: it cannot be told."""
        return int(self.low > 0) - int(self.high < 0)


class Resampling:
    """Draws of target pictures, the same for all that is measured with them.

    Attributes:
        weights: Weight of each episode in each draw; all 1 in the first row.
    """

    def __init__(
        self, classes: Sequence[str], targets: Sequence[str], settings: IntervalSettings, *, seed: int
    ) -> None:
        """Draws.

        Args:
            classes: Class of each episode.
            targets: Name of its target picture.
            settings: How many draws.
            seed: Of the draws.
        """
        self._level = settings.level
        units, members = np.unique(
            np.array([f"{c}\0{t}" for c, t in zip(classes, targets, strict=True)]), return_inverse=True
        )
        self._alone = len(units) < 2
        strata = np.unique([unit.split("\0")[0] for unit in units], return_inverse=True)[1]
        if np.bincount(strata).min() < 2:
            strata = np.zeros_like(strata)
        drawn = _draw(strata, settings.replicates, np.random.default_rng(seed))
        self.weights: Float[np.ndarray, "R E"] = np.concatenate([np.ones((1, len(units))), drawn])[:, members]

    def estimate(
        self, values: Float[np.ndarray, " R"], *, least: float = -math.inf, most: float = math.inf
    ) -> Estimate:
        """A number with its interval, from what it is under each row of the weights.

        Differences and ratios of such numbers are numbers of that kind, too, and are paired.

        Args:
            values: The number under each row.
            least: It cannot be below; nor does the interval reach there.
            most: Likewise above.
        """
        value, draws = float(values[0]), values[1:]
        if self._alone or not np.isfinite(values).all():
            return Estimate(value, math.nan, math.nan)
        low, high = np.quantile(draws - draws.mean(), [(1 - self._level) / 2, (1 + self._level) / 2])
        return Estimate(value, max(float(value + low), least), min(float(value + high), most))

    def share(self, values: Float[np.ndarray, " R"]) -> Estimate:
        """The same of a number in 0..1, such as a mIoU."""
        return self.estimate(values, least=0, most=1)

    def mean(self, values: Float[np.ndarray, " E"]) -> Estimate:
        """The mean of a number of each episode."""
        return self.estimate(weighted_mean(self.weights, values))

    def mean_share(self, values: Float[np.ndarray, " E"]) -> Estimate:
        """The same of a number in 0..1, such as an IoU."""
        return self.share(weighted_mean(self.weights, values))

    def correlation(self, x: Float[np.ndarray, " E"], y: Float[np.ndarray, " E"]) -> Estimate:
        """Pearson's correlation of two numbers of each episode; NaN where either does not vary."""
        return self.estimate(correlation(self.weights, x, y), least=-1, most=1)


def weighted_mean(weights: Float[np.ndarray, "R E"], values: Float[np.ndarray, " E"]) -> np.ndarray:
    """The mean over the episodes for each row of weights."""
    return weights @ values / weights.sum(axis=1)


def correlation(
    weights: Float[np.ndarray, "R E"], x: Float[np.ndarray, " E"], y: Float[np.ndarray, " E"]
) -> np.ndarray:
    """Pearson's correlation for each row of weights; NaN where either does not vary."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    x_off = x - (shares @ x)[:, None]
    y_off = y - (shares @ y)[:, None]
    covariance, *variances = (
        np.sum(shares * a * b, axis=1) for a, b in ((x_off, y_off), (x_off, x_off), (y_off, y_off))
    )
    spread = np.sqrt(variances[0] * variances[1])
    # Means of equal numbers differ from them in the last digit.
    varies = spread > 1e-12 * (np.abs(x).max() * np.abs(y).max() + 1e-300)
    return np.where(varies, covariance / np.where(varies, spread, 1), np.nan)


def _draw(strata: Int[np.ndarray, " U"], replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Weights ``[replicates, U]``; all 1 in a stratum of one unit."""
    weights = np.ones((replicates, len(strata)))
    for stratum in np.unique(strata):
        units = np.flatnonzero(strata == stratum)
        count = len(units)
        if count > 1:
            shares = np.full(count, 1 / count)
            weights[:, units] = rng.multinomial(count - 1, shares, replicates) * (count / (count - 1))
    return weights
