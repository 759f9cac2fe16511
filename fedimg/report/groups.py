"""Performance by group: a forest of the headline figure, a table for each attribute, and what cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedimg.breakdown import Breakdown, GroupResult
from fedimg.metric_names import in_order, metric_name
from fedimg.report.axes import Frame, Ticks, shortened, ticks
from fedimg.report.blocks import Column, bullets, figure, interval_text, section, table
from fedimg.report.data import ReportData
from fedimg.report.lines import Chart, Series, legend, marker, picture
from fedimg.report.markup import Markup, element
from fedimg.report.performance import SOURCES
from fedimg.values import EvaluationReport, Interval

ATTRIBUTES = {"sex": "Sex", "age_band": "Age", "scanner": "Manufacturer of the scanner", "site": "Site"}
_HEADS = {"public": "public test set", "sites": "at the sites"}
_WIDTH, _ROW, _LABEL = 1000.0, 34.0, 220.0
_EVERYBODY = "everybody"
# A chart of more groups could not be read; the tables hold them all.
_MOST_ROWS = 60


def by_group(data: ReportData) -> Markup:
    """Every attribute that figures are broken down by; nothing where there is none."""
    found = [one for one in data.breakdowns if one.groups]
    absent = [one for one in data.breakdowns if one.absent]
    if not found:
        return Markup("")
    chart = forest(data, found)
    drawn = figure(chart, wide=True) if chart else Markup("")
    name = metric_name(data.headline, data.classes)
    tables = []
    for attribute in dict.fromkeys(one.attribute for one in found):
        own = [one for one in found if one.attribute == attribute]
        tables += [_table(own, data, name), *(_all_metrics(one, data.classes) for one in own)]
    said = [sentence for one in found for sentence in _gap(one, data)]
    said += [
        f"{ATTRIBUTES.get(one.attribute, one.attribute)}: not told, since {one.absent}." for one in absent
    ]
    return section("By group", _lead(data), drawn, *tables, bullets((*said, *_cost(data))))


def _lead(data: ReportData) -> str:
    lead = "The same model by groups of patients, with 95 % intervals. Whose group is not known stands as unknown."
    if data.privacy.mode != "none" and any(one.source == "sites" for one in data.breakdowns):
        lead += (
            " At the sites all groups come from the one noised release behind the overall figures; numbers of patients "
            "are noisy, and a group that noise hides has no figures."
        )
    return lead + " A wide interval is no sign that groups are treated alike."


def _cost(data: ReportData) -> list[str]:
    if data.noise_factors is None:
        return []
    overall, group = data.noise_factors
    said = (
        f"Telling groups apart costs no ε: at the sites the overall figures have {overall:.2f} times the noise of an "
        f"evaluation without groups, a group's {group:.2f} times. The noise's part of an interval is of its variance; "
        "the rest is that there are so few patients."
    )
    return [said]


def _gap(one: Breakdown, data: ReportData) -> list[str]:
    if one.gap is None:
        return []
    gap, name = one.gap, metric_name(one.gap.metric, data.classes)
    what = f"{ATTRIBUTES.get(one.attribute, one.attribute)}, {_HEADS[one.source]}"
    noise = "chance and noise" if one.source == "sites" and data.privacy.mode != "none" else "chance"
    found = f"{name} of {gap.least} and {gap.most} differs by {interval_text(gap.difference)}"
    if gap.told_apart:
        told = f"more than {noise} explain{'s' if noise == 'chance' else ''}"
    else:
        told = f"which {noise} may have made: it is the clearest difference, and none can be told"
    return [f"{what}: {found}, {told}. Differences up to {gap.not_excluded:.3f} are not excluded."]


def _table(own: Sequence[Breakdown], data: ReportData, name: str) -> Markup:
    """One attribute's groups, from each source."""
    columns = [Column(ATTRIBUTES.get(own[0].attribute, own[0].attribute), numeric=False)]
    order = max((one.groups for one in own), key=len)  # a source may lack some
    cells: dict[str, list[str]] = {group.name: [] for group in order}
    for one in own:
        private = one.source == "sites" and data.privacy.mode != "none"
        number = f"{data.privacy.unit}s" if one.source == "sites" else "examples"
        number += ", noisy" if private else ""
        heads = [f"{_HEADS[one.source]}: {number}", name, *(["part of noise"] if private else [])]
        columns += [Column(head) for head in heads]
        for group in one.groups:
            row = cells.setdefault(group.name, ["–"] * (len(columns) - len(heads) - 1))
            row += _cells(group, data.headline, private=private)
        cells = {group: row + ["–"] * (len(columns) - 1 - len(row)) for group, row in cells.items()}
    return table(columns, [[group, *row] for group, row in cells.items()])


def _cells(group: GroupResult, headline: str, *, private: bool) -> list[str]:
    found = group.report.metrics.get(headline)
    shown = [f"{group.report.examples:,}", interval_text(found) if found else "too few to tell"]
    if private:
        share = group.noise_share.get(headline)
        shown.append(f"{share:.0%}" if found and share is not None else "–")
    return shown


def _all_metrics(one: Breakdown, classes: Sequence[str]) -> Markup:
    """Every metric of every group, folded away."""
    names = in_order({name for group in one.groups for name in group.report.metrics})
    if len(names) < 2:
        return Markup("")
    rows = [
        [
            metric_name(name, classes),
            *(interval_text(g.report.metrics[name]) if name in g.report.metrics else "–" for g in one.groups),
        ]
        for name in names
    ]
    columns = [Column("metric", numeric=False), *(Column(group.name) for group in one.groups)]
    title = f"{ATTRIBUTES.get(one.attribute, one.attribute)}, {_HEADS[one.source]}: all metrics"
    return element("details", element("summary", title), table(columns, rows))


def forest(data: ReportData, found: Sequence[Breakdown], key: str = "by-group") -> Chart | None:
    """The headline figure with its interval by group, below everybody's; None where no group has one."""
    reports = {r.source: r for r in (data.evaluation, data.site_evaluation) if r is not None}
    drawable = _lines(found, reports, data.headline)
    intervals = [interval for line in drawable for interval in line[2].values()]
    if not any(line[2] for line in drawable if line[1] not in ("", _EVERYBODY)):
        return None
    drawable, left_out = drawable[:_MOST_ROWS], len(drawable) - _MOST_ROWS
    least, most = min(i.low for i in intervals), max(i.high for i in intervals)
    axis = ticks(least, most, 6, ceiling=1.0 if most <= 1 else math.inf)
    frame = _frame(axis, len(drawable) * _ROW + 72, metric_name(data.headline, data.classes))
    content = _background(frame, drawable)
    sources = [s for s in SOURCES if any(s in line[2] for line in drawable)]
    for k, (_, label, own) in enumerate(drawable):
        middle = 16 + (k + 0.5) * _ROW
        for place, source in enumerate(s for s in sources if s in own):
            at = middle + (place - (len(own) - 1) / 2) * 13
            content += _whisker(frame, list(SOURCES).index(source), label, own[source], at)
        if label and not own:
            content.append(
                element("text", "too few to tell", class_="tick", x=frame.x(axis.low) + 6, y=middle + 4)
            )
    said = "; ".join(f"{label} {interval_text(i)}" for _, label, own in drawable for i in own.values())
    names = [Series(SOURCES[source], (), list(SOURCES).index(source)) for source in sources]
    caption = f"{metric_name(data.headline, data.classes)} by group, with 95 % intervals."
    if left_out > 0:
        caption += f" {left_out} more rows stand in the tables only."
    drawn = picture(key, "Performance by group", f"{said}.", (_WIDTH, frame.height), content)
    return Chart(drawn, legend(names), caption)


def _lines(
    found: Sequence[Breakdown], reports: Mapping[Any, EvaluationReport], headline: str
) -> list[tuple[str, str, dict[str, Interval]]]:
    """(heading, group, interval by source): of a heading's row there is no group."""
    whole = {s: r.metrics[headline] for s, r in reports.items() if headline in r.metrics}
    lines: list[tuple[str, str, dict[str, Interval]]] = [("", _EVERYBODY, dict(whole))]
    for attribute in dict.fromkeys(one.attribute for one in found):
        lines.append((ATTRIBUTES.get(attribute, attribute), "", {}))
        groups: dict[str, dict[str, Interval]] = {}
        for one in (one for one in found if one.attribute == attribute):
            for group in one.groups:
                own = groups.setdefault(group.name, {})
                if headline in group.report.metrics:
                    own[one.source] = group.report.metrics[headline]
        lines += [("", name, own) for name, own in groups.items()]
    return lines


def _frame(axis: Ticks, height: float, title: str) -> Frame:
    inner = Frame.around((_WIDTH, height), axis, ticks(0, 1), (title, ""))
    x = type(inner.x)(axis.low, axis.high, _LABEL, _WIDTH - 172)
    y = type(inner.y)(0.0, 1.0, height - 46, 16.0)
    return Frame(_WIDTH, height, x, y, axis, Ticks((), ()), title, "")


def _background(frame: Frame, lines: Sequence[tuple[str, str, dict[str, Interval]]]) -> list[Markup]:
    drawn: list[Markup] = []
    for k, (heading, label, _) in enumerate(lines):
        top = 16 + k * _ROW
        if heading:
            drawn.append(element("rect", class_="stripe", x=0, y=top, width=_WIDTH, height=_ROW, rx=4))
        strong = bool(heading) or label == _EVERYBODY
        name = heading or label
        drawn.append(
            element(
                "text",
                element("title", name),
                shortened(name, _LABEL + 80 if heading else _LABEL - 40),
                class_="label strong" if strong else "label",
                x=8 if strong else 24,
                y=top + _ROW / 2 + 4,
            )
        )
    for value in frame.x_ticks.values:
        x = frame.x(value)
        drawn.append(element("line", class_="grid", x1=x, x2=x, y1=16, y2=frame.y.start))
    return drawn + frame.draw()


def _whisker(frame: Frame, style: int, label: str, found: Interval, y: float) -> list[Markup]:
    written = interval_text(found)
    ends = frame.x(found.low), frame.x(found.high)
    drawn = [element("line", class_=f"whisker s{style}", x1=ends[0], x2=ends[1], y1=y, y2=y)]
    drawn += [element("line", class_=f"whisker s{style}", x1=x, x2=x, y1=y - 3.5, y2=y + 3.5) for x in ends]
    drawn.append(marker(style, frame.x(found.value), y, 4.2, f"{label}: {written}"))
    drawn.append(element("text", written, class_=f"value s{style}", x=_WIDTH - 8, y=y + 4, text_anchor="end"))
    return drawn
