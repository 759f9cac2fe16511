"""A run's performance by group, for its summary and its report."""

from __future__ import annotations

from typing import Any

from fedimg.breakdown import Breakdown, GroupResult
from fedimg.coordination.rounds import History
from fedimg.evaluation import Measure, Subgroups


def breakdowns(history: History, measure: Measure) -> tuple[Breakdown, ...]:
    """Of the public set, then of the sites' last evaluation."""
    at_sites = history.at_sites.breakdowns(measure) if history.at_sites is not None else ()
    return (*history.public_groups, *at_sites)


def noise_factors(measure: Measure, *, private: bool) -> tuple[float, float] | None:
    """Times the noise of an evaluation without groups: of the overall figures, of a group's; None without either."""
    if not (private and isinstance(measure, Subgroups)):
        return None
    return measure.overall_factor, measure.group_factor


def content(history: History, measure: Measure, *, private: bool) -> dict[str, Any]:
    """As JSON values, by source and attribute; empty where nothing is told apart."""
    found: dict[str, Any] = {}
    for one in breakdowns(history, measure):
        found.setdefault(one.source, {})[one.attribute] = _attribute(one)
    factors = noise_factors(measure, private=private)
    if found and factors is not None:
        found["noise_factors"] = {"overall": factors[0], "group": factors[1]}
    return found


def _attribute(one: Breakdown) -> dict[str, Any]:
    if one.absent:
        return {"absent": one.absent}
    gap = one.gap
    return {
        "groups": {group.name: _group(group) for group in one.groups},
        "clearest_gap": None
        if gap is None
        else {
            "metric": gap.metric,
            "least": gap.least,
            "most": gap.most,
            "difference": gap.difference.value,
            "interval": [gap.difference.low, gap.difference.high],
            "by_chance": gap.by_chance,
            "not_excluded": gap.not_excluded,
        },
    }


def _group(group: GroupResult) -> dict[str, Any]:
    report = group.report
    return {
        "examples": report.examples,
        "metrics": {name: interval.value for name, interval in report.metrics.items()},
        "intervals": {name: [i.low, i.high] for name, i in report.metrics.items()},
        "noise_share": dict(group.noise_share),
        "omitted": dict(report.omitted),
    }
