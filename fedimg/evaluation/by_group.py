"""What a release, or scores at hand, say of each group; how much of it is noise; and which gaps are more than chance.

Everything of a release is post-processing. A group that noise hides has no figures but a reason, like any table that
cannot be told from nothing.

*Cost of privacy.* An interval's variance is that of the noise plus that of a sample of so many patients. The second is
the interval that the same table has with no noise stated; 1 − (its width ÷ the whole width)² is the noise's share, by
the side of the interval that nothing cuts off. It is
read off noisy counts, which are too large where cells are empty (only positive ones count), so that the share is rather
too small.

*Gaps.* Every group's figure is redrawn from its own interval (normal, with the width of its longer side), R times. Of all
pairs' differences less what was found, each divided by its own deviation, the largest is below c in 95 % of the draws
(Tukey's range, studentised by pair as Kramer's): d ± c · deviation holds for all pairs at once, and so for one that is
chosen after looking. Shown is the pair with the highest lower end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.breakdown import Breakdown, Gap, GroupResult
from fedimg.evaluation.intervals import CONFIDENCE
from fedimg.evaluation.measure import Array, Measure
from fedimg.evaluation.patient_means import of_patients
from fedimg.evaluation.subgroups import Subgroups
from fedimg.values import Interval

SITE = "site"
NO_SITES = (
    "the sites' evaluations are added up before anybody sees them (secagg, privacy=distributed or client_level), so that "
    "no site's own is known"
)
_UNKNOWN = "unknown"
_DRAWS = 4000
_HALF_WIDTH = 1.959963984540054  # of a central interval of 95 %, in standard deviations
_Floats = npt.NDArray[np.float64]


def of_release(measure: Measure, noised: _Floats, noise_std: float) -> tuple[Breakdown, ...]:
    """By each attribute of the run's groups; none without groups."""
    if not isinstance(measure, Subgroups):
        return ()
    _, _, tables, std = measure.split(noised, noise_std)
    names = measure.grouping.attributes
    return tuple(
        _compared(
            "sites", name, measure.headline, _released(measure.own, measure.grouping.groups(name), own, std)
        )
        for name, own in zip(names, tables, strict=True)
    )


def of_sites(measure: Measure, by_site: Mapping[str, _Floats], noise_std: float) -> Breakdown | None:
    """By site, where each site's release is known; None where there is one site or none.

    Args: noise_std: of the noise in a cell of one site's release.
    """
    if len(by_site) < 2:
        return None
    names, tables = list(by_site), list(by_site.values())
    return _compared("sites", SITE, measure.headline, _released(measure, names, tables, noise_std))


def _released(
    measure: Measure, names: Sequence[str], tables: Sequence[_Floats] | _Floats, std: float
) -> tuple[GroupResult, ...]:
    found = []
    for name, table in zip(names, tables, strict=True):
        whole = measure.of_release(table, std)
        sampling = measure.of_release(table, 0.0).metrics if std > 0 else {}
        shares = {
            metric: share
            for metric, interval in whole.metrics.items()
            if metric in sampling and (share := _share(interval, sampling[metric])) is not None
        }
        found.append(GroupResult(name, whole, shares))
    return tuple(found)


def _share(whole: Interval, without: Interval) -> float | None:
    """By the longer side, since the other may be cut off; None where the figure itself is at an end."""
    sides, own = _sides(whole), _sides(without)
    if not sides.min() > 0:
        return None
    longer = int(np.argmax(sides))
    return float(np.clip(1 - (own[longer] / sides[longer]) ** 2, 0, 1))


def _sides(found: Interval) -> _Floats:
    return np.array([found.value - found.low, found.high - found.value])


def of_outputs(
    measure: Measure,
    outputs: Array,
    labels: Array,
    first_image: Array,
    codes: npt.NDArray[Any] | None,
    *,
    bootstrap: int,
    seed: int,
) -> tuple[Breakdown, ...]:
    """The same of scores that the evaluating side holds itself: a patient's images count in their own groups.

    Groups of which there is no image are left out, and an attribute of which nothing is known.
    """
    if not isinstance(measure, Subgroups) or codes is None or not len(codes):
        return ()
    found = []
    groups = measure.grouping.indices(np.asarray(codes))
    for name, of_image in zip(measure.grouping.attributes, groups.T, strict=True):
        results = []
        names = measure.grouping.groups(name)
        for place in np.unique(of_image):
            images = np.flatnonzero(of_image == place)
            first = _first_of(of_patients(np.asarray(first_image))[images])
            report = measure.own.of_outputs(
                outputs[images], labels[images], first, bootstrap=bootstrap, seed=seed
            )
            results.append(GroupResult(names[place], report))
        if [one.name for one in results] != [_UNKNOWN]:
            found.append(_compared("public", name, measure.headline, tuple(results)))
    return tuple(found)


def _first_of(whose: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) patients in order → where each one's images begin, closed by N."""
    return np.concatenate([[0], np.flatnonzero(np.diff(whose)) + 1, [len(whose)]]).astype(np.int64)


def _compared(source: Any, attribute: str, metric: str, groups: tuple[GroupResult, ...]) -> Breakdown:
    return Breakdown(source, attribute, groups, clearest_gap(groups, metric))


def clearest_gap(groups: Sequence[GroupResult], metric: str) -> Gap | None:
    """None where fewer than two groups can be compared.

    Left aside are patients of unknown group, and a figure at the end of its own interval: five patients who are all told
    right, or an AUROC that noise has carried beyond 1. What is cut off there does not say how certain it is.
    """
    shown = {
        one.name: own
        for one in groups
        if (own := one.report.metrics.get(metric)) and _sides(own).min() > 0 and one.name != _UNKNOWN
    }
    if len(shown) < 2:
        return None
    names, found = list(shown), np.array([[i.value, i.low, i.high] for i in shown.values()])
    drawn = np.random.default_rng(0).standard_normal((_DRAWS, len(names)))  # protects nothing
    moved = drawn * np.max([_sides(own) for own in shown.values()], axis=1) / _HALF_WIDTH
    first, second = np.triu_indices(len(names), 1)
    between = moved[:, first] - moved[:, second]
    deviation = np.sqrt((between**2).mean(axis=0))
    by_chance = float(np.quantile(np.abs(between / deviation).max(axis=1), CONFIDENCE)) * deviation
    difference = np.abs(found[first, 0] - found[second, 0])
    widest = float(found[:, 2].max() - found[:, 1].min())
    most = np.minimum(difference + by_chance, widest)
    pair = int(np.argmax(difference - by_chance))
    ends = sorted((first[pair], second[pair]), key=lambda k: float(found[k, 0]))
    low = max(0.0, float(difference[pair] - by_chance[pair]))
    interval = Interval(float(difference[pair]), low, float(max(difference[pair], most[pair])))
    return Gap(metric, names[ends[0]], names[ends[1]], interval, float(by_chance[pair]), float(most.max()))
