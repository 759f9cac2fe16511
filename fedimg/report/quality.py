"""A site's own page on the quality of its data. It holds exact counts and pictures, and never leaves the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedimg.report.bars import bars, binned
from fedimg.report.blocks import Column, figure, image, section, table, tiles
from fedimg.report.markup import Markup, element
from fedimg.report.page import document

_CLASSES = {"serious": "danger", "warning": "warning", "note": "note"}


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One finding: how bad, what, how often, and what it means."""

    severity: str
    kind: str
    count: int
    text: str
    places: str = ""


@dataclass(frozen=True, slots=True)
class AlikePair:
    """Two images that are, or nearly are, one: their thumbnails as PNG files."""

    caption: str
    left_png: bytes
    right_png: bytes


@dataclass(frozen=True, slots=True)
class QualityReportData:
    """What the page shows.

    Attributes:
        name: of the source, in words of this program. unit: "patient", or "image".
        classes: name → images. weights: to consider, or "". per_patient: images of each patient.
        charts: title → values, drawn as histograms.
    """

    name: str
    unit: str
    inputs: int
    usable: int
    patients: int
    findings: Sequence[QualityRow]
    parts: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    effective: Mapping[str, float] = field(default_factory=dict)
    weights: str = ""
    per_patient: Sequence[int] = ()
    charts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pairs: Sequence[AlikePair] = ()
    created: str = ""


def render_quality(data: QualityReportData) -> str:
    """The page as one self-contained HTML file, under the guarantee of `page.render`."""
    parts = (_heading, _tiles, _findings, _pairs, _labels, _charts)
    return document(f"Quality of {data.name}", [part(data) for part in parts])


def _heading(data: QualityReportData) -> Markup:
    chips = [element("span", data.created, class_="chip")] if data.created else []
    chips.append(element("span", "confidential", class_="chip danger"))
    text = (
        "It holds exact counts, names and pictures, which depend on the patients and show them. It is for those "
        "who may see the originals anyway; nothing of it is sent anywhere, and no number of it belongs into a "
        "configuration that a coordinator sees."
    )
    notice = element(
        "div",
        element("strong", "This report never leaves the site"),
        element("p", text),
        class_="notice warning",
        role="note",
    )
    return element(
        "header", element("h1", f"Quality of {data.name}"), element("div", chips, class_="meta"), notice
    )


def _tiles(data: QualityReportData) -> Markup:
    serious = sum(row.severity == "serious" for row in data.findings)
    warnings = sum(row.severity == "warning" for row in data.findings)
    under = "privacy units" if data.unit == "patient" else "privacy units: nothing is known of patients"
    return tiles(
        [
            ("Inputs", f"{data.inputs:,}", f"{data.usable:,} can be used", False),
            ("Patients" if data.unit == "patient" else "Units", f"{data.patients:,}", under, False),
            ("Serious findings", f"{serious:,}", "a promise or a result would be wrong", False),
            ("Warnings", f"{warnings:,}", "to mend where they are not meant so", False),
        ]
    )


def _findings(data: QualityReportData) -> Markup:
    if not data.findings:
        return section("Findings", "Nothing was found.")
    columns = [
        Column("severity", numeric=False),
        Column("finding", numeric=False),
        Column("count"),
        Column("what it means", numeric=False),
        Column("where", numeric=False),
    ]
    rows = [[r.severity, r.kind.replace("_", " "), f"{r.count:,}", r.text, r.places] for r in data.findings]
    strong = [k for k, row in enumerate(data.findings) if row.severity == "serious"]
    lead = "The first few of each are named; --json names up to a thousand."
    return section("Findings", lead, table(columns, rows, strong=strong))


def _pairs(data: QualityReportData) -> Markup:
    if not data.pairs:
        return Markup("")
    drawn = [
        element(
            "figure",
            element(
                "div",
                element("div", image(pair.left_png, f"{pair.caption}, the first")),
                element("div", image(pair.right_png, f"{pair.caption}, the second")),
                class_="pair",
            ),
            element("figcaption", pair.caption),
        )
        for pair in data.pairs
    ]
    lead = "As they were compared, 32 pixels a side. Look at the originals before anything is changed."
    return section("Alike", lead, element("div", drawn, class_="pairs"))


def _labels(data: QualityReportData) -> Markup:
    chart = bars("classes", "Training images by class", data.classes)
    if chart is None:
        return Markup("")
    columns = [Column("class", numeric=False), Column("images"), Column("effective number")]
    rows = [
        [name, f"{count:,}", f"{data.effective.get(name, 0):,.0f}"] for name, count in data.classes.items()
    ]
    content = [figure(chart), table(columns, rows)]
    if data.weights:
        text = (
            f"training.class_weights={data.weights} would weigh the classes about alike. Weights are public "
            "constants: every site and the coordinator know them. Set them only if they also follow from "
            "something public, such as a published prevalence, and never from these counts, which are patient data."
        )
        content.append(element("div", element("p", text), class_=f"notice {_CLASSES['note']}", role="note"))
    return section("Labels", "", *content)


def _charts(data: QualityReportData) -> Markup:
    drawn = [bars("parts", "Inputs by part of the data", data.parts)]
    drawn.append(bars("people", "Patients by number of images", binned(data.per_patient)))
    drawn += [
        bars(f"chart-{k}", title, binned(values)) for k, (title, values) in enumerate(data.charts.items())
    ]
    figures = [figure(chart) for chart in drawn if chart is not None]
    return section("Distributions", "", element("div", figures, class_="figures")) if figures else Markup("")
