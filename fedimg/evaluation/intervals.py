"""Exact intervals of proportions, percentile intervals from resamples, and the resampling of whole patients.

Images of one patient are not independent: a resample draws patients, and each drawn
patient brings all their images (the cluster bootstrap; Efron & Tibshirani 1993, §8).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import betainccinv, betaincinv

from fedimg.errors import DataError
from fedimg.values import Interval

CONFIDENCE = 0.95
# An interval is read from the resamples in which the metric exists, if nearly all are such.
LEAST_DEFINED = 0.9
# Weights held at one time: 2²¹ float64 are 16 MiB.
_CHUNK = 1 << 21


def least_at_confidence(hits: float, missed: float, confidence: float) -> float:
    """The one-sided lower bound of Clopper and Pearson for hits ÷ (hits + missed); 0 without hits.

    Counts may be fractions: the bound falls with `missed` and rises with `hits`, so bounds of counts give a bound.
    """
    return 0.0 if hits <= 0 else float(betaincinv(hits, missed + 1, 1 - confidence))


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """hits ÷ trials with the exact two-sided interval (Clopper & Pearson 1934), which never covers less than it says.

    Raises DataError without any trial, and for hits that are not among them.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise DataError("0 ≤ hits ≤ trials, and one trial or more", f"{hits} of {trials}", "count again")
    tail = (1 - confidence) / 2
    low = least_at_confidence(hits, trials - hits, 1 - tail)
    # The upper tail by itself: 1 − (the bound of the misses) would lose the digits of a small rate.
    high = float(betainccinv(hits + 1, trials - hits, tail)) if hits < trials else 1.0
    return Interval(hits / trials, low, high)


def patient_weights(
    first_image: npt.NDArray[np.int64], resamples: int, generator: np.random.Generator
) -> Iterator[npt.NDArray[np.float64]]:
    """How often each image stands in each resample of the patients, in chunks of (b, N).

    Args:
        first_image: (U + 1,) as in `SiteDataset`.
        resamples: their number over all chunks.
    """
    lengths = np.diff(first_image)
    patients, images = len(lengths), int(first_image[-1])
    chunk = max(1, _CHUNK // max(1, images))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(patients, size=(rows, patients)) + patients * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients)
        yield np.repeat(times, lengths, axis=1).astype(np.float64)


def percentile_interval(
    value: float,
    resampled: npt.NDArray[np.float64],
    upper: float = 1.0,
    *,
    lower: float = 0.0,
    independent: int = 2,
) -> Interval:
    """The central `CONFIDENCE` of the resampled values, widened to hold `value`.

    Args:
        value: on the data as they are; finite.
        resampled: (B,), NaN where the metric did not exist in a resample.
        upper, lower: the metric's largest and least possible value.
        independent: number of independent units resampled.

    Returns:
        (lower, upper) as the interval, which claims nothing, where there are fewer than two
        units, no resamples, or the metric existed in less than `LEAST_DEFINED` of them.
    """
    defined = resampled[np.isfinite(resampled)]
    if independent < 2 or len(defined) == 0 or len(defined) < LEAST_DEFINED * len(resampled):
        return Interval(float(value), lower, upper)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
