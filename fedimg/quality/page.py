"""What was found → the page that shows it."""

from __future__ import annotations

import numpy as np

from fedimg.quality.examining import Examined
from fedimg.quality.finding import Finding
from fedimg.report.png import png_of
from fedimg.report.quality import AlikePair, QualityReportData, QualityRow, render_quality

_MOST_PAIRS, _MOST_PLACES = 12, 6


def page_of(examined: Examined, created: str = "") -> str:
    """One self-contained HTML file, for the site alone."""
    measured = examined.measured
    counts = examined.counts()
    charts = {
        "Rows": measured.numbers("height").tolist(),
        "Columns": measured.numbers("width").tolist(),
        "Spacing between rows, mm": measured.numbers("spacing_h").tolist(),
        "Brightness, mean value": measured.numbers("brightness").tolist(),
        "Contrast, standard deviation": measured.numbers("contrast").tolist(),
    }
    weights = examined.classes.weights
    data = QualityReportData(
        name=measured.source.title,
        unit=measured.source.unit,
        inputs=counts["inputs"],
        usable=counts["usable"],
        patients=counts["patients"],
        findings=[_row(examined, finding) for finding in examined.findings],
        parts=dict(sorted(examined.parts().items())),
        classes=examined.classes.counts if measured.source.labelled else {},
        effective=examined.classes.effective,
        weights="" if weights is None else f"[{','.join(map(str, weights))}]",
        per_patient=examined.per_patient,
        charts=charts,
        pairs=_pairs(examined),
        created=created,
    )
    return render_quality(data)


def _row(examined: Examined, finding: Finding) -> QualityRow:
    names = [sample.name for sample in examined.measured.samples]
    places = ["  =  ".join(names[i] for i in place) for place in finding.where[:_MOST_PLACES]]
    if len(finding.where) > _MOST_PLACES:
        places.append("…")
    return QualityRow(
        str(finding.severity), str(finding.kind), finding.count, finding.text, "; ".join(places)
    )


def _pairs(examined: Examined) -> list[AlikePair]:
    """Pairs of different patients first."""
    measured = examined.measured

    def one_patient(pair: tuple[int, int, bool]) -> bool:
        return measured.patient(pair[0]) == measured.patient(pair[1])

    shown = []
    for i, j, exact in sorted(examined.pairs, key=one_patient)[:_MOST_PAIRS]:
        whose = "of one patient" if one_patient((i, j, exact)) else "of two patients"
        left, right = (png_of(measured.thumbnails[k].astype(np.float32)) for k in (i, j))
        shown.append(AlikePair(f"{'equal' if exact else 'nearly equal'}, {whose}", left, right))
    return shown
