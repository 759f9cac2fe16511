"""What sections are built of: tables, figures, and numbers as text."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedimg.report.lines import Chart
from fedimg.report.markup import Markup, element
from fedimg.values import Interval

# Longer tables are folded away behind their first rows' summary.
MOST_ROWS = 40


def section(title: str, lead: str, *content: Markup) -> Markup:
    """A section with its heading and, if `lead` is not empty, a sentence below it."""
    opening = [element("h2", title), element("p", lead, class_="lead") if lead else Markup("")]
    return element("section", opening, content)


def bullets(sentences: Sequence[str]) -> Markup:
    """A list of sentences; e^ε is set as a power."""
    power = Markup(f"e{element('sup', 'ε')}")
    return element("ul", [element("li", _with(power, sentence.split("e^ε"))) for sentence in sentences])


def _with(between: Markup, parts: Sequence[str]) -> list[str]:
    return [piece for part in parts for piece in (between, part)][1:]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head; numbers are set flush right."""

    head: str
    numeric: bool = True


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    strong: Sequence[int] = (),
) -> Markup:
    """A table whose first column heads its rows; `strong` names the rows set in bold."""
    head = [element("th", c.head, scope="col", class_="number" if c.numeric else None) for c in columns]
    body = []
    for k, row in enumerate(rows):
        first, *rest = row
        cells = [
            element("td", cell, class_="number" if column.numeric else "text")
            for column, cell in zip(columns[1:], rest, strict=True)
        ]
        body.append(
            element("tr", element("th", first, scope="row"), cells, class_="strong" if k in strong else None)
        )
    parts = [element("caption", caption)] if caption else []
    parts += [element("thead", element("tr", head)), element("tbody", body)]
    drawn = element("div", element("table", parts), class_="scroll")
    if len(rows) <= MOST_ROWS:
        return drawn
    return element("details", element("summary", f"all {len(rows):,} rows"), drawn)


def tiles(rows: Sequence[tuple[str, str, str, bool]]) -> Markup:
    """Key figures: (name, value, what stands below, whether the value is void)."""
    drawn = [
        element(
            "dl",
            element("dt", name),
            element("dd", value, class_="void" if void else None),
            element("dd", under, class_="small"),
            class_="tile",
        )
        for name, value, under, void in rows
    ]
    return element("div", drawn, class_="tiles") if drawn else Markup("")


def image(png: bytes, alt: str) -> Markup:
    """A picture that lies in the page itself."""
    return element("img", src="data:image/png;base64," + base64.b64encode(png).decode(), alt=alt)


def before_and_after(caption: str, before_png: bytes | None, after_png: bytes, absent: str = "") -> Markup:
    """Two pictures side by side; `absent` stands where there is none from before."""
    before = element("p", absent) if before_png is None else image(before_png, f"{caption}, before")
    return element(
        "figure",
        element(
            "div",
            element("div", before, element("span", "before")),
            element("div", image(after_png, f"{caption}, after"), element("span", "after")),
            class_="pair",
        ),
        element("figcaption", caption),
    )


def figure(chart: Chart, *, wide: bool = False) -> Markup:
    """A chart with its legend above and its caption below."""
    svg = Markup(chart.svg.replace('class="chart"', 'class="chart wide"', 1)) if wide else chart.svg
    return element(
        "figure",
        chart.legend or element("div"),
        element("div", svg, class_="scroll"),
        element("figcaption", chart.caption),
    )


def epsilon_text(value: float) -> str:
    """ε to three significant digits, rounded up: a guarantee may not be overstated by rounding."""
    if not math.isfinite(value):
        return "∞"
    if value <= 0:
        return "0"
    digits = 2 - math.floor(math.log10(value))
    scale = 10.0**digits
    # What is exact but for its last bits, such as 8.0, stays.
    rounded = math.ceil(value * scale - 1e-6) / scale
    return f"{rounded:.{max(0, digits)}f}"


def scientific(value: float) -> str:
    """A small number such as δ as 2e-5 or 1.25e-4, rounded up to three digits like ε."""
    if value <= 0:
        return "0"
    exponent = math.floor(math.log10(value))
    hundredths = math.ceil(value / 10.0**exponent * 100 - 1e-6)
    if hundredths >= 1000:
        hundredths, exponent = 100, exponent + 1
    return f"{hundredths / 100:g}e{exponent}"


def interval_text(interval: Interval) -> str:
    """Value and interval to three decimals."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def bytes_text(count: int) -> str:
    """A size in binary units."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
