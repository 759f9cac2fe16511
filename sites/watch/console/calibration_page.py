"""Calibration: what each model promises, what that means at this site's prevalence, and what labels have shown so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedimg.monitoring.operating_point import OperatingPoint, expected
from fedimg.monitoring.proportions import wilson
from fedimg.monitoring.worklist import alerts_per_day
from fedimg.report.blocks import Column, figure, interval_text, table
from fedimg.report.markup import Markup, element, join
from fedimg.values import Interval
from fedimg.web import frame
from fedimg.web.parts import chip
from sites.watch.console.charts import bins, reliability
from sites.watch.console.drawing import facts, nothing
from sites.watch.console.models_reading import ModelInfo
from sites.watch.console.seen_reading import Evaluated, SeenHere

_HEADS = ("at this site's prevalence", "expected", "interval")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model, what was seen of it here, and the prevalence that the settings state for it."""

    model: ModelInfo
    seen: SeenHere
    prevalence: float | None


def prevalence_of(model: ModelInfo, stated: Mapping[str, float]) -> float | None:
    """That of the model's name, or of its first finding that the settings name by class or meaning."""
    known = {name.casefold(): value for name, value in stated.items()}
    names = [model.name, *(word for finding in model.findings for word in finding), *model.classes]
    return next((known[name.casefold()] for name in names if name and name.casefold() in known), None)


def parts(found: list[Calibrated]) -> dict[str, Markup]:
    drawn = [_model(number, one) for number, one in enumerate(found)]
    content = drawn or [element("section", nothing("No model is active."))]
    return {"calibration": frame.part("calibration", *content)}


def _model(number: int, one: Calibrated) -> Markup:
    model = one.model
    head = element("div", element("h2", model.title), chip(model.role), class_="head")
    threshold = "none: nothing is called" if model.threshold is None else f"{model.threshold:.4g}"
    about = facts([("threshold", threshold), *_promised(model.point)])
    return element("section", head, about, _expected(one), _seen(number, one))


def _promised(point: OperatingPoint | None) -> list[tuple[str, str]]:
    if point is None:
        return [("promised", "no sensitivity: the release held too few positives for one")]
    return [
        ("promised", f"sensitivity of {point.target:.0%} or more, with confidence {point.confidence:.0%}"),
        ("sensitivity seen", interval_text(point.sensitivity)),
        ("specificity seen", interval_text(point.specificity)),
        ("set on", f"{point.positives:,} studies with the finding, {point.negatives:,} without"),
    ]


def _expected(one: Calibrated) -> Markup:
    if one.model.point is None:
        return Markup("")
    if one.prevalence is None or not 0 < one.prevalence < 1:
        return element(
            "p",
            "No prevalence is stated for it: name one in the settings, prevalence, to see what an alert is worth.",
            class_="nothing",
        )
    found = expected(one.model.point, one.prevalence)
    rows = [
        ["of 100 alerts, so many with the finding (PPV)", *_percent(found.ppv)],
        ["of 100 studies without an alert, so many without the finding", *_percent(found.npv)],
        ["alerts in 100 studies", *_numbers(found.alerts_per_100, 1.0)],
    ]
    if (per_day := one.seen.per_day) is not None:
        alerts = alerts_per_day(found, per_day)
        rows.append([f"alerts a day, of {per_day:.3g} studies", *_numbers(alerts, 1.0)])
    columns = [Column(head, numeric=number > 0) for number, head in enumerate(_HEADS)]
    caption = (
        f"Prevalence {one.prevalence:.3g} as the settings state it; the intervals hold together with 90 %"
    )
    return join([element("h3", "What an alert is worth here"), table(columns, rows, caption=caption)])


def _evaluated(told: Evaluated) -> str:
    of = f"Of {told.positives:,} labelled studies with the finding {told.hits:,} were called"
    of += f", of {told.negatives:,} without it {told.false_alarms:,}."
    if told.target is None:
        return of
    kept = "agrees with" if told.kept else "⚠ contradicts"
    return f"{of} That {kept} the promised sensitivity of {told.target:.0%}."


def _percent(found: Interval) -> tuple[str, str]:
    return _numbers(found, 100.0)


def _numbers(found: Interval, scale: float) -> tuple[str, str]:
    return f"{scale * found.value:.1f}", f"{scale * found.low:.1f} to {scale * found.high:.1f}"


def _seen(number: int, one: Calibrated) -> Markup:
    """Confirmed against dismissed, and reliability, of what people said."""
    title, outcomes = element("h3", "What this site has seen"), one.seen.outcomes
    confirmed, dismissed = outcomes.get("confirmed", 0), outcomes.get("dismissed", 0)
    said = []
    if confirmed + dismissed:
        share = wilson(confirmed, confirmed + dismissed)
        said.append(
            f"Of {confirmed + dismissed:,} alerts that a person settled, {confirmed:,} were confirmed and {dismissed:,} "
            f"dismissed: {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] confirmed."
        )
    if (told := one.seen.evaluated) is not None:
        said.append(_evaluated(told))
    charts = [
        figure(reliability(f"reliability-{number}-{k}", f"Reliability for {name}", bins(labels)))
        for k, (name, labels) in enumerate(sorted(one.seen.labels.items()))
        if labels
    ]
    if not said and not charts:
        return join(
            [title, nothing("No label yet: confirm or dismiss alerts, or say on a study what was found.")]
        )
    if charts:
        said.append(
            "People label what was called more often than what was not: low scores are known from fewer studies."
        )
    drawn = element("div", charts, class_="figures") if charts else Markup("")
    return join([title, *(element("p", text) for text in said), drawn])
