"""Intervals of proportions and of the AUROC, without resampling.

Wilson 1927 (closer on average than the exact interval, which is in `evaluation.intervals`); DeLong et al. 1988 for
the AUROC, by midranks as in Sun and Xu 2014.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

from fedimg.errors import DataError
from fedimg.values import Interval

_Floats = npt.NDArray[np.float64]


def wilson(hits: int, total: int, confidence: float = 0.95) -> Interval:
    """Two-sided. Raises DataError without any trial."""
    if not 0 <= hits <= total or total < 1:
        raise DataError("0 ≤ hits ≤ trials, and one trial or more", f"{hits} of {total}", "count again")
    z = float(ndtri((1 + confidence) / 2))
    rate, shrink = hits / total, 1 + z**2 / total
    middle = (rate + z**2 / (2 * total)) / shrink
    half = z / shrink * np.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
    return Interval(
        rate, float(max(0.0, min(middle - half, rate))), float(min(1.0, max(middle + half, rate)))
    )


def delong(positives: npt.ArrayLike, negatives: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The AUROC of two sets of scores, ties counted half.

    Raises DataError: fewer than two of either, or scores that are not finite.
    """
    high, low = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    if high.ndim != 1 or low.ndim != 1 or min(len(high), len(low)) < 2:
        raise DataError("two positives and two negatives or more", "fewer", "measure on more studies")
    both = np.concatenate([high, low])
    if not np.isfinite(both).all():
        raise DataError("finite scores", "others", "leave out studies without a score")
    ranks = rankdata(both)
    # Of each positive the share of negatives below it, and of each negative that of positives above.
    above = (ranks[: len(high)] - rankdata(high)) / len(low)
    below = 1 - (ranks[len(high) :] - rankdata(low)) / len(high)
    auroc = float(above.mean())
    error = np.sqrt(above.var(ddof=1) / len(high) + below.var(ddof=1) / len(low))
    half = float(ndtri((1 + confidence) / 2) * error)
    return Interval(auroc, max(0.0, auroc - half), min(1.0, auroc + half))
