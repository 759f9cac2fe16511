"""One run's page: where it stands, ε of each site against what was declared, metrics by round, who was missing."""

from __future__ import annotations

import math

from fedimg.metric_names import UNBOUNDED, metric_name
from fedimg.operator_log import ranges
from fedimg.report import RoundPoint
from fedimg.report.blocks import Column, epsilon_text, figure, scientific, section, table
from fedimg.report.lines import Chart, Series, by_round, epsilon_series
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip, dot, moment, of
from server.page.models import RoundInfo, RunDetail, RunSite
from server.page.overview import buttons, run_path, stage_chip

_LATEST = 30
_NO_ROUND = "No round is finished yet."


def parts(found: RunDetail, csrf: str) -> dict[str, Markup]:
    """The page's parts, by the ids under which events replace them."""
    drawn = {
        "run": _head(found, csrf),
        "course": _course(found),
        "run-sites": _sites(found),
        "rounds": _rounds(found),
    }
    return {name: frame.part(name, content) for name, content in drawn.items()}


def _head(found: RunDetail, csrf: str) -> Markup:
    run = found.info
    download = element(
        "a", "Download report", href=f"{run_path(run.run)}/report.html", class_="button", download=""
    )
    actions = [download if found.has_report else Markup(""), buttons(run, csrf)]
    head = element(
        "div",
        element("h1", run.run),
        stage_chip(run),
        element("div", actions, class_="actions"),
        class_="head",
    )
    chips = [chip(f"round {run.round} of {run.rounds}"), _promise(found)]
    chips += [chip(f"{name}: {value}") for name, value in found.settings]
    lines = [element("p", run.reason, class_="reason")] if run.reason else []
    lines += [element("p", f"Damaged: {problem}.", class_="bad") for problem in found.problems]
    times = element(
        "p",
        "asked for ",
        moment(run.submitted),
        ", changed ",
        moment(run.changed),
        " (UTC)",
        class_="faint reason",
    )
    crumb = element("p", element("a", "← Federation", href="/"), class_="crumb")
    return join(
        [
            crumb,
            head,
            element("div", chips, class_="meta"),
            element("section", element("h2", "State"), lines, times),
        ]
    )


def _promise(found: RunDetail) -> Markup:
    run = found.info
    if run.epsilon_declared is None:
        return chip(f"privacy: {run.privacy.replace('_', ' ') or 'unknown'}, no guarantee", "danger")
    delta = f", δ = {scientific(found.delta)}" if found.delta else ""
    return chip(f"{run.privacy.replace('_', ' ')}: ε ≤ {run.epsilon_declared:g}{delta}", "note")


def _course(found: RunDetail) -> Markup:
    rounds = found.rounds
    loss = tuple((float(one.round), one.loss) for one in rounds if one.loss is not None)
    score = tuple((float(one.round), one.score) for one in rounds if one.score is not None)
    epsilon = epsilon_series([RoundPoint(one.round, one.loss, one.score, one.epsilon) for one in rounds])
    declared = found.info.epsilon_declared
    charts = [
        by_round("loss", "Loss on the public test set", [Series("loss", loss)], "loss", zero=True),
        _score_chart(found.info.figure, score),
        _epsilon_chart(epsilon, declared) if declared is not None else None,
    ]
    drawn = [figure(chart) for chart in charts if chart is not None]
    if not drawn:
        why = "Nothing was measured: the coordinator has no public test set." if rounds else _NO_ROUND
        return section("Course", "", element("p", why, class_="nothing"))
    three = " three" if len(drawn) == 3 else ""
    return section("Course", "", element("div", drawn, class_=f"figures{three}"))


def _score_chart(metric: str, score: tuple[tuple[float, float], ...]) -> Chart | None:
    name = metric_name(metric)
    ceiling = math.inf if metric.rpartition("/")[2] in UNBOUNDED else 1.0
    return by_round(
        "score", f"{name} on the public test set", [Series(name, score, 2)], name, ceiling=ceiling
    )


def _epsilon_chart(series: tuple[Series, ...], declared: float) -> Chart | None:
    title = f"ε by round, of the {declared:g} that the run declares (dashed)"
    return by_round("epsilon", title, series, "ε", zero=True, reference=declared)


def _sites(found: RunDetail) -> Markup:
    columns = (
        Column("site", numeric=False),
        Column("in this run", numeric=False),
        Column("answered"),
        Column("missing in rounds", numeric=False),
        Column("ε so far"),
        Column("σ"),
    )
    rows = [_site_row(site) for site in found.sites]
    if not rows:
        return section("Sites", "", element("p", "None has been asked yet.", class_="nothing"))
    lead = "ε as if every round was answered once, of what the plan may cost with retries after crashes."
    private = any(site.epsilon is not None for site in found.sites)
    return section("Sites", lead if private else "", cards(columns, rows))


def _site_row(site: RunSite) -> tuple[str, ...]:
    spent: str = "–"
    if site.epsilon is not None:
        planned = epsilon_text(site.epsilon_planned) if site.epsilon_planned is not None else "?"
        spent = of(epsilon_text(site.epsilon), planned)
    return (
        site.name,
        dot("joined" if site.joined else "not joined", on=site.joined),
        of(str(site.answered), str(site.asked)),
        ranges(site.missing_rounds),
        spent,
        "–" if site.noise_multiplier is None else f"{site.noise_multiplier:.3g}",
    )


def _rounds(found: RunDetail) -> Markup:
    if not found.rounds:
        return section("Rounds", "", element("p", _NO_ROUND, class_="nothing"))
    columns = (
        Column("round", numeric=False),
        Column("loss"),
        Column(metric_name(found.info.figure) or "test"),
        Column("largest ε"),
        Column("answers"),
        Column("missing", numeric=False),
    )
    latest = found.rounds[::-1][:_LATEST]
    lead = f"The latest {_LATEST} of {len(found.rounds)}." if len(found.rounds) > _LATEST else ""
    return section("Rounds", lead, table(columns, [_round_row(one) for one in latest]))


def _round_row(one: RoundInfo) -> tuple[str, ...]:
    missing: str = ", ".join(one.missing)
    if one.void:
        missing = element("span", chip("void", "danger"), " ", one.void)
    return (
        str(one.round),
        "–" if one.loss is None else f"{one.loss:.4f}",
        "–" if one.score is None else f"{one.score:.3f}",
        epsilon_text(max(one.epsilon.values())) if one.epsilon else "–",
        str(len(one.sites)),
        missing,
    )
