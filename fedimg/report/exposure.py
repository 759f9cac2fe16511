"""What a patient is exposed to at most, in figures that can be pictured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from fedimg.report.axes import Frame, Ticks
from fedimg.report.blocks import Column, epsilon_text, figure, scientific, section, table
from fedimg.report.data import ExposureRow, ReportData
from fedimg.report.lines import COLOURS, Chart, Series, legend, path, picture
from fedimg.report.markup import Markup, element

_SIZE = (520.0, 340.0)
_LEAST = -4.0  # of the axes, as a power of ten
_DECADES: Final = Ticks((-4.0, -3.0, -2.0, -1.0, 0.0), ("0.01 %", "0.1 %", "1 %", "10 %", "100 %"))


def exposed(data: ReportData) -> Markup:
    """The section; empty where nothing is promised, since then nothing bounds anything."""
    if not data.exposure or not data.privacy.protects:
        return Markup("")
    unit = "site" if data.privacy.mode == "client_level" else data.privacy.unit
    worst = max(data.exposure, key=lambda row: row.true_positives)
    lead = (
        f"Upper bounds for one {unit}, whatever else an attacker knows, computed from the trade-off curve of all "
        f"declared releases; neighbouring data sets differ by adding or removing one {unit}."
    )
    said = element("p", in_words(worst, unit))
    return section(heading(unit), lead, said, _table(data.exposure, unit), _figure(data.exposure))


def heading(unit: str) -> str:
    return f"What {'an' if unit == 'image' else 'a'} {unit} is exposed to"


def in_words(row: ExposureRow, unit: str) -> str:
    """The worst case for a reader who knows no statistics."""
    who = "people" if unit == "patient" else f"{unit}s"
    return (
        f"Someone who tests whether a given {unit} was in the data, and wrongly accuses 1 in 1,000 {who} who were "
        f"not, finds at most {percent(row.true_positives)} of those who were; without the model it would be 0.1 %. "
        f"Someone whose guess at a whole record is right with a chance of 1 % is right with a chance of at most "
        f"{percent(row.reconstruction)} after seeing everything that was released."
    )


def percent(value: float) -> str:
    """A probability to two digits, rounded up."""
    if value >= 0.9995:
        return "100 %"
    digits = max(0, 1 - math.floor(math.log10(max(100 * value, 1e-9))))
    scale = 10.0**digits
    return f"{math.ceil(100 * value * scale - 1e-9) / scale:.{digits}f} %"


def columns(unit: str) -> list[str]:
    """Heads of the table, for a page and for plain text."""
    return [
        "site",
        f"ε of one {unit}",
        "δ",
        "found at 0.1 % false alarms",
        "largest advantage",
        "record rebuilt from a guess of 1 %",
    ]


def cells(row: ExposureRow) -> list[str]:
    return [
        row.name,
        epsilon_text(row.epsilon),
        scientific(row.delta),
        percent(row.true_positives),
        percent(row.advantage),
        percent(row.reconstruction),
    ]


def _table(rows: Sequence[ExposureRow], unit: str) -> Markup:
    heads = [Column(head, numeric=k > 0) for k, head in enumerate(columns(unit))]
    return table(heads, [cells(row) for row in rows])


def _figure(rows: Sequence[ExposureRow]) -> Markup:
    frame = Frame.around(_SIZE, _DECADES, _DECADES, ("false alarms", "members found"))
    shown = [
        Series(row.name, tuple((_log(a), _log(b)) for a, b in row.curve), k)
        for k, row in enumerate(rows[:COLOURS])
    ]
    ends = [(frame.x(_LEAST), frame.y(_LEAST)), (frame.x(0.0), frame.y(0.0))]
    drawn = [*frame.draw(), element("path", class_="reference", d=path(ends), fill="none")]
    for one in shown:
        points = [(frame.x(x), frame.y(y)) for x, y in one.points]
        drawn.append(
            element("path", element("title", one.name), class_=f"line s{one.style or 0}", d=path(points))
        )
    x = frame.x(-3.0)
    drawn.append(element("line", class_="reference", x1=x, x2=x, y1=frame.y(_LEAST), y2=frame.y(0.0)))
    told = "; ".join(
        f"{row.name}: at most {percent(row.true_positives)} at 0.1 % false alarms" for row in rows
    )
    title = "Most members that any test can find, by its rate of false alarms (dashed: guessing, and 0.1 %)"
    chart = Chart(picture("exposure", title, f"{title}. {told}.", _SIZE, drawn), legend(shown), title)
    return element("div", figure(chart), class_="figures")


def _log(rate: float) -> float:
    return max(_LEAST, math.log10(max(rate, 1e-12)))
