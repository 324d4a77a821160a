"""The four kinds of pixels of a confusion matrix, as rates and as shares.

The two are easily confused. A *rate* is out of the pixels that truly are object, or background: the true
positive and the false negative rate make 1, as do the true negative and the false positive rate. A *share* is
out of all pixels: the four make 1, and depend on how large the objects are.

Table 8 of the ProSAM paper is headed as rates, but its four rows add up to 100 %, so they are shares. The row
headed TPR (64 to 78 %) can only be the background left alone, and the one headed TNR (11 to 20 %) the object
found: these two rows are swapped. To compare with that table read its first row against
``true_negative_share`` and its second against ``true_positive_share``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from softmatch_jax.evaluation.counting import Counts


@dataclass(frozen=True)
class Confusion:
    """Rates and shares of the pixels of one or many episodes, void left out.

    Attributes:
        counts: The sums over the episodes.
    """

    counts: Counts

    @property
    def true_positive_rate(self) -> float:
        """Of the pixels of the object, those that were found; NaN without any."""
        return _part(self.counts.tp, self.counts.tp + self.counts.fn)

    @property
    def false_negative_rate(self) -> float:
        """Of the pixels of the object, those that were missed; NaN without any."""
        return _part(self.counts.fn, self.counts.tp + self.counts.fn)

    @property
    def true_negative_rate(self) -> float:
        """Of the pixels of the background, those that were left alone; NaN without any."""
        return _part(self.counts.tn, self.counts.tn + self.counts.fp)

    @property
    def false_positive_rate(self) -> float:
        """Of the pixels of the background, those that were taken for the object; NaN without any."""
        return _part(self.counts.fp, self.counts.tn + self.counts.fp)

    @property
    def true_positive_share(self) -> float:
        """Of all pixels, those of the object that were found; NaN without any."""
        return _part(self.counts.tp, sum(self.counts))

    @property
    def false_negative_share(self) -> float:
        """Of all pixels, those of the object that were missed; NaN without any."""
        return _part(self.counts.fn, sum(self.counts))

    @property
    def true_negative_share(self) -> float:
        """Of all pixels, those of the background that were left alone; NaN without any."""
        return _part(self.counts.tn, sum(self.counts))

    @property
    def false_positive_share(self) -> float:
        """Of all pixels, those of the background that were taken for the object; NaN without any."""
        return _part(self.counts.fp, sum(self.counts))


def _part(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
