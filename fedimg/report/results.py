"""The sections on the model: alone, together and pooled; by round; the final performance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedimg.metric_names import in_order, metric_name
from fedimg.report import forest, lines, performance
from fedimg.report.blocks import Column, bullets, figure, interval_text, section, table
from fedimg.report.data import ReportData
from fedimg.report.lines import Series
from fedimg.report.markup import Markup, element
from fedimg.values import EvaluationReport, Interval

_UNIT = Interval(1.0, 0.0, 1.0)


def comparison(data: ReportData) -> Markup:
    """Each site alone, the federation and pooled data, without and with noise."""
    if not data.comparison:
        return Markup("")
    chart = forest.comparison(data.comparison, data.privacy)
    cells: dict[tuple[str, str], list[str]] = {}
    for row in data.comparison:
        pair = cells.setdefault((row.arrangement, row.name), ["–", "–"])
        pair[row.noised] = interval_text(row.auroc) if row.auroc else row.note or "not computed"
    order = {"federation": 0, "pooled": 1, "site": 2}
    keys = sorted(cells, key=lambda key: order[key[0]])
    rows = [[f"{name} alone" if kind == "site" else name, *cells[kind, name]] for kind, name in keys]
    means = [forest.mean_of_sites(data.comparison, noised=noised) for noised in (False, True)]
    if any(mean is not None for mean in means):
        rows.append(["mean of the sites alone", *("–" if mean is None else f"{mean:.3f}" for mean in means)])
    strong = [k for k, key in enumerate(keys) if key[0] == "federation"]
    # A column without a single row of its kind says nothing.
    kept = [k for k in (0, 1) if any(row.noised == bool(k) for row in data.comparison)]
    columns = [
        Column("arrangement", numeric=False),
        *(Column(forest.noise_names(data.privacy)[k]) for k in kept),
    ]
    rows = [[row[0], *(row[1 + k] for k in kept)] for row in rows]
    lead = (
        "What working together is worth, and what the noise costs. Pooled data would need every image in one "
        "place; it is the yardstick, not an option."
    )
    drawn = figure(chart, wide=True) if chart else Markup("")
    return section("Alone, together, pooled", lead, drawn, table(columns, rows, strong=strong))


def training(data: ReportData) -> Markup:
    """Loss, headline figure and ε by round."""
    loss = Series("loss", tuple((float(p.round), p.loss) for p in data.rounds if p.loss is not None), 0)
    name = metric_name(data.headline, data.classes)
    points = tuple((float(p.round), p.headline) for p in data.rounds if p.headline is not None)
    shares = data.evaluation is None or data.evaluation.metrics.get(data.headline, _UNIT).high <= 1
    charts = [
        lines.by_round("loss", "Loss on the public test set, by round", [loss], "loss"),
        lines.by_round(
            data.headline,
            f"{name} on the public test set, by round",
            [Series(name, points, 2)],
            name,
            ceiling=1.0 if shares else math.inf,
        ),
    ]
    if data.privacy.mode != "none":
        unit = "site" if data.privacy.mode == "client_level" else data.privacy.unit
        epsilon = "nominal ε (void)" if data.privacy.insecure else "ε spent"
        title = (
            f"{epsilon} by round and site".capitalize()
            if data.privacy.insecure
            else f"ε spent, by round and site (add or remove one {unit})"
        )
        charts.append(lines.by_round("epsilon", title, lines.epsilon_series(data.rounds), epsilon, zero=True))
    drawn = [figure(chart) for chart in charts if chart]
    return section("Training", "", element("div", drawn, class_="figures three")) if drawn else Markup("")


def performance_of_model(data: ReportData) -> Markup:
    """Metrics with intervals, curves and confusion matrices of the global model."""
    reports = [r for r in (data.evaluation, data.site_evaluation) if r is not None]
    absent = (
        [element("p", f"No measurement on a public test set: {data.test_absent}.")]
        if data.test_absent
        else []
    )
    if not reports:
        return section("Performance", "", *absent) if absent else Markup("")
    unit = data.privacy.unit
    heads = {"public": "public test set", "sites": "at the sites"}
    columns = [Column("metric", numeric=False), *(Column(heads[r.source]) for r in reports)]
    rows = [
        [
            metric_name(name, data.classes),
            *(interval_text(r.metrics[name]) if name in r.metrics else "–" for r in reports),
        ]
        for name in in_order({name for r in reports for name in r.metrics})
    ]
    noisy = " (a noisy count)" if data.privacy.mode != "none" else ""
    units = {"public": "examples", "sites": f"{unit}s{noisy}"}
    rows.append(["number", *(f"{r.examples:,} {units[r.source]}" for r in reports)])
    charts = [performance.roc(reports), performance.reliability(reports)]
    charts += [
        performance.confusion(r, data.classes, f"confusion-{r.source}", f"{units[r.source]}")
        for r in reports
        if r.confusion.any()
    ]
    resampled = "example" if unit == "client" else unit
    lead = f"The global model, with 95 % intervals from resampling {resampled}s."
    if unit == "client" and data.site_evaluation is not None:
        lead += " At the sites every client counts once, with the mean over the patients it held out."
    if unit == "patient" and len(reports) > 1:
        lead += " On the public set every example counts, at the sites every patient counts once."
    if data.site_evaluation is not None:
        lead += (
            " At the sites everything derives from one release of noised histograms; its intervals "
            "account for the noise."
            if data.privacy.protects
            else " At the sites everything derives from histograms."
        )
    drawn = element("div", [figure(chart) for chart in charts if chart], class_="figures")
    return section(
        "Performance", lead, *absent, table(columns, rows), *_omissions(reports, data.classes), drawn
    )


def _omissions(reports: Sequence[EvaluationReport], classes: Sequence[str]) -> list[Markup]:
    said = [
        f"{metric_name(name, classes)}, {performance.SOURCES[r.source]}: {reason}."
        for r in reports
        for name, reason in r.omitted.items()
    ]
    if not said:
        return []
    return [
        element("details", element("summary", "metrics that are left out, and why"), bullets(tuple(said)))
    ]
