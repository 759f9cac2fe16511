"""The threshold above which a study is called, for a sensitivity that is promised and not only seen.

With scores of n positives in order, the threshold at the (k + 1)-th smallest misses k of them, and the sensitivity on
new studies is Beta(n − k, k + 1) whatever the scores' distribution (Wilks 1941): it is at least `target` with
`confidence` for every k up to which the lower bound of Clopper and Pearson reaches `target`. The empirical quantile
promises nothing: it lands below its target about every second time. Of noised histograms the counts are first bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from fedimg.errors import ConfigError, DataError
from fedimg.evaluation.cells import Cells
from fedimg.evaluation.intervals import clopper_pearson, least_at_confidence
from fedimg.values import Interval

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A study is called where its score is ≥ `threshold`.

    Attributes:
        target, confidence: what is promised of the sensitivity on studies like those that it was set on.
        positives, negatives: how many of those there were (noisy where they come from a release).
        sensitivity, specificity: seen, with intervals of 95 %.
    """

    threshold: float
    target: float
    confidence: float
    positives: int
    negatives: int
    sensitivity: Interval
    specificity: Interval


class Rates(Protocol):
    """An `OperatingPoint`, or what a bundle says of one."""

    @property
    def sensitivity(self) -> Interval: ...
    @property
    def specificity(self) -> Interval: ...


@dataclass(frozen=True, slots=True)
class Expected:
    """At a site's own prevalence: predictive values with intervals, and how many of 100 studies are called."""

    prevalence: float
    ppv: Interval
    npv: Interval
    alerts_per_100: Interval


def least_positives(target: float, confidence: float) -> int:
    """So many positives, none missed, does the promise need: 59 for 95 % with 95 %."""
    _check(target, confidence)
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def of_scores(
    positives: npt.ArrayLike, negatives: npt.ArrayLike, *, target: float = 0.95, confidence: float = 0.95
) -> OperatingPoint:
    """The highest threshold that keeps the promise.

    Args:
        positives, negatives: (n,) and (m,) scores of studies with and without the finding, one of each patient.

    Raises DataError: too few positives for the promise (it says how many it needs), no negatives, or scores that are not finite.
    """
    high, low = (np.sort(np.asarray(scores, dtype=np.float64)) for scores in (positives, negatives))
    if high.ndim != 1 or low.ndim != 1 or not (np.isfinite(high).all() and np.isfinite(low).all()):
        raise DataError("finite scores (n,) and (m,)", "others", "leave out studies without a score")
    needed = least_positives(target, confidence)
    if len(high) < needed or not len(low):
        raise _too_few(needed, len(high), len(low))
    missed = 0
    while least_at_confidence(len(high) - missed - 1, missed + 1, confidence) >= target:
        missed += 1
    threshold = float(high[missed])
    # Of equal scores none is missed: the threshold is one of them.
    missed, false = int((high < threshold).sum()), int((low >= threshold).sum())
    return OperatingPoint(
        threshold,
        target,
        confidence,
        len(high),
        len(low),
        clopper_pearson(len(high) - missed, len(high)),
        clopper_pearson(len(low) - false, len(low)),
    )


def of_histograms(
    noised: npt.ArrayLike, noise_std: float, *, target: float = 0.95, confidence: float = 0.95
) -> OperatingPoint:
    """The same of a released table of two classes: post-processing, which costs no privacy.

    Half of 1 − confidence goes to the noise, if there is any, for all edges of the bins together, half to the patients.

    Args:
        noised: (2, bins) with normal noise of `noise_std` in each cell.

    Raises DataError: no edge keeps the promise through the noise. ConfigError: more than two classes.
    """
    h = np.asarray(noised, dtype=np.float64)
    if h.ndim != 2 or h.shape[0] != 2 or not np.isfinite(h).all():
        raise ConfigError("a finite table of two classes", f"shape {h.shape}", "call findings one by one")
    _check(target, confidence)
    cells, bins = Cells(*h.shape), h.shape[1]
    side = (1 + confidence) / 2 if noise_std > 0 else confidence
    edges = np.concatenate([[0.0], cells.edges])  # a study in bin b or above is called at edges[b]
    sure = float(ndtri(1 - (1 - side) / (2 * bins))) * noise_std
    missed = np.concatenate([[0.0], np.cumsum(h[1, :-1])])
    hits = h[1].sum() - missed
    most_missed = np.maximum(missed + sure * np.sqrt(np.arange(bins)), 0)
    least_hits = hits - sure * np.sqrt(bins - np.arange(bins))
    kept = [
        b
        for b in range(bins)
        if least_at_confidence(float(least_hits[b]), float(most_missed[b]), side) >= target
    ]
    count, others = round(float(h[1].sum())), round(float(h[0].sum()))
    if not kept or others < 1:
        raise _too_few(least_positives(target, side), max(count, 0), max(others, 0))
    b = max(kept)
    return OperatingPoint(
        float(edges[b]),
        target,
        confidence,
        count,
        others,
        _through_noise(hits[b], missed[b], (bins - b, b), noise_std),
        _through_noise(h[0, :b].sum(), h[0, b:].sum(), (b, bins - b), noise_std),
    )


def expected(point: Rates, prevalence: float) -> Expected:
    """What its alerts are worth where a share `prevalence` of the studies have the finding.

    The intervals hold together with 90 %: those of sensitivity and specificity, carried over.
    """
    if not 0 < prevalence < 1:
        raise ConfigError("a prevalence between 0 and 1", str(prevalence), "state that of the site's studies")
    sensitivity, specificity = point.sensitivity, point.specificity

    def ppv(right: float, spared: float) -> float:
        true, false = prevalence * right, (1 - prevalence) * (1 - spared)
        return true / (true + false) if true + false > 0 else 0.0

    def npv(right: float, spared: float) -> float:
        clear, lost = (1 - prevalence) * spared, prevalence * (1 - right)
        return clear / (clear + lost) if clear + lost > 0 else 1.0

    def called(right: float, spared: float) -> float:
        return 100 * (prevalence * right + (1 - prevalence) * (1 - spared))

    seen = sensitivity.value, specificity.value
    worst, best = (sensitivity.low, specificity.low), (sensitivity.high, specificity.high)
    few, many = (sensitivity.low, specificity.high), (sensitivity.high, specificity.low)
    return Expected(
        prevalence,
        Interval(ppv(*seen), ppv(*worst), ppv(*best)),
        Interval(npv(*seen), npv(*worst), npv(*best)),
        Interval(called(*seen), called(*few), called(*many)),
    )


def _through_noise(hits: float, others: float, cells: tuple[int, int], noise_std: float) -> Interval:
    """A share of noisy counts of so many cells, and 95 % of what it may be: half for the noise, half for the patients."""
    sure = float(ndtri(1 - 0.0125 / 2)) * noise_std
    slack = sure * np.sqrt(cells)
    high, low = (max(hits + slack[0], 0.0), max(others + slack[1], 0.0)), (hits - slack[0], others - slack[1])
    share = min(1.0, max(0.0, hits / (hits + others))) if hits + others > 0 else 0.0
    least = least_at_confidence(low[0], high[1], 0.9875)
    most = 1 - least_at_confidence(low[1], high[0], 0.9875)
    return Interval(share, min(least, share), max(most, share))


def _check(target: float, confidence: float) -> None:
    if not (0 < target < 1 and 0 < confidence < 1):
        found = f"{target} and {confidence}"
        raise ConfigError("a target and a confidence between 0 and 1", found, "choose, say, 0.95 and 0.95")


def _too_few(needed: int, positives: int, negatives: int) -> DataError:
    return DataError(
        f"{needed} positives or more for this sensitivity with this confidence, and negatives",
        f"{positives} positives, {negatives} negatives",
        "calibrate on more studies, or promise less",
    )
