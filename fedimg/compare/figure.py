"""The figure: a band for each learner, a line in it for each ε, a panel for each number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fedimg.compare.rows import NAMES, Row, Score, bytes_written, epsilon_written, metrics_of
from fedimg.metric_names import UNBOUNDED
from fedimg.report.axes import Scale, Ticks, shortened, text_width, ticks
from fedimg.report.lines import COLOURS, Chart, marker, picture
from fedimg.report.markup import Markup, element
from fedimg.report.style import CSS

WIDTH = 1280.0
_LABEL, _GAP, _LINE, _TOP = 150.0, 36.0, 17.0, 58.0
_KEY = "learners"
_COSTS = {"seconds": "seconds of training", "sent": "bytes a site sent"}


@dataclass(frozen=True)
class _Panel:
    """A column of the figure: the number of a row that it shows, and where."""

    key: str
    x: Scale
    axis: Ticks

    @property
    def title(self) -> str:
        return _COSTS.get(self.key) or NAMES[self.key]

    @property
    def logarithmic(self) -> bool:
        return self.key in _COSTS

    def at(self, value: float) -> float:
        return self.x(math.log10(value) if self.logarithmic else value)

    def shown(self, row: Row) -> Score | None:
        """The number, with its interval if it has one; None where the row has none that can be drawn."""
        if self.logarithmic:
            cost = row.seconds if self.key == "seconds" else row.sent
            return Score(float(cost)) if cost else None
        return row.scores.get(self.key)

    def written(self, value: float) -> str:
        if self.key == "sent":
            return bytes_written(int(value))
        return f"{value:.3g} s" if self.key == "seconds" else f"{value:.3f}"


def figure(rows: Sequence[Row]) -> Chart | None:
    """All rows that have something to be drawn; None where none has."""
    if not any(row.scores or row.seconds or row.sent for row in rows):
        return None
    learners, epsilons = list(dict.fromkeys(row.learner for row in rows)), _epsilons(rows)
    band = len(epsilons) * _LINE + 10
    bottom = _TOP + len(learners) * band
    panels = _panels(rows)
    content = [*_legend(epsilons), *_bands(learners, band), *_axes(panels, bottom)]
    seen: dict[tuple[str, float], int] = {}
    for row in rows:
        again = seen[row.learner, row.epsilon_asked] = seen.get((row.learner, row.epsilon_asked), -1) + 1
        line = epsilons.index(row.epsilon_asked)
        # Past runs may hold a learner twice at one ε: the second stands a little lower.
        y = _TOP + learners.index(row.learner) * band + 5 + (line + 0.5) * _LINE + min(again, 2) * 4
        content += _drawn(row, panels, y, line)
    said = "; ".join(_said(row) for row in rows)
    size = (WIDTH, bottom + 44)
    return Chart(
        picture(_KEY, "Learners compared", f"{said}.", size, content),
        Markup(""),
        "Points with 95 % intervals where the run has them. Time is that of the rounds, sites one after the other in one "
        "process; bytes are what the site sent that sent most, in all rounds. Both on logarithmic axes.",
    )


def standalone(chart: Chart) -> str:
    """The picture as an SVG file of its own, light and dark, on its own ground."""
    opening, _, rest = chart.svg.partition(">")
    width, height = opening.split('viewBox="0 0 ')[1].split('"')[0].split()
    attributes = f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="system-ui, sans-serif"'
    ground = element("rect", width=float(width), height=float(height), style="fill:var(--panel)")
    return f"{opening}{attributes}>{element('style', Markup(CSS))}{ground}{rest}\n"


def _epsilons(rows: Sequence[Row]) -> list[float]:
    """Without privacy first, then from much to little."""
    return sorted({row.epsilon_asked for row in rows}, reverse=True)


def _panels(rows: Sequence[Row]) -> list[_Panel]:
    """Metrics, each over its own range; then what a row cost."""
    names = [name for name in metrics_of(rows) if any(name in row.scores for row in rows)]
    seconds = [row.seconds for row in rows if row.seconds]
    sent = [float(row.sent) for row in rows if row.sent]
    found: list[tuple[str, Ticks]] = []
    for name in names:
        scores = [row.scores[name] for row in rows if name in row.scores]
        lowest = min(score.value if score.low is None else score.low for score in scores)
        if name in UNBOUNDED:
            highest = max(score.value if score.high is None else score.high for score in scores)
            found.append((name, ticks(lowest, max(highest, lowest + 1e-6), 5)))
        else:
            found.append((name, ticks(max(0.0, lowest), 1.0, 5, ceiling=1.0)))
    if seconds:
        found.append(("seconds", _powers(seconds, _plain)))
    if sent:
        found.append(("sent", _powers(sent, bytes_written)))
    wide = (WIDTH - _LABEL - 24 - _GAP * (len(found) - 1)) / len(found)
    starts = [_LABEL + k * (wide + _GAP) for k in range(len(found))]
    return [
        _Panel(key, Scale(axis.low, axis.high, start, start + wide), axis)
        for start, (key, axis) in zip(starts, found, strict=True)
    ]


def _powers(values: Sequence[float], written: Callable[[float], str]) -> Ticks:
    """Whole powers of ten around positive values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    powers = range(low, max(high, low + 1) + 1)
    return Ticks(tuple(float(k) for k in powers), tuple(written(10.0**k) for k in powers))


def _plain(value: float) -> str:
    return f"{value:g}"


def _legend(epsilons: Sequence[float]) -> list[Markup]:
    drawn, x = [], 8.0
    for k, epsilon in enumerate(epsilons):
        name = "without privacy (ε = ∞)" if math.isinf(epsilon) else f"ε = {epsilon_written(epsilon)}"
        name = name if epsilon else "nothing learnt (ε = 0)"
        drawn.append(marker(k, x + 6, 14, 4.6))
        drawn.append(element("text", name, class_="label", x=x + 18, y=18))
        x += 40 + text_width(name)
    return drawn


def _bands(learners: Sequence[str], band: float) -> list[Markup]:
    drawn = []
    for k, learner in enumerate(learners):
        top = _TOP + k * band
        if k % 2 == 0:
            drawn.append(element("rect", class_="stripe", x=0, y=top, width=WIDTH, height=band, rx=4))
        name = shortened(learner, _LABEL - 20)
        drawn.append(
            element("text", element("title", learner), name, class_="label strong", x=8, y=top + band / 2 + 4)
        )
    return drawn


def _axes(panels: Sequence[_Panel], bottom: float) -> list[Markup]:
    drawn = []
    for panel in panels:
        left, right = panel.x.start, panel.x.end
        middle = (left + right) / 2
        drawn.append(
            element("text", panel.title, class_="label strong", x=middle, y=46, text_anchor="middle")
        )
        for value in panel.axis.values:
            x = panel.x(value)
            drawn.append(element("line", class_="grid", x1=x, x2=x, y1=_TOP, y2=bottom))
        for x, label in _labels(panel):
            drawn.append(element("text", label, class_="tick", x=x, y=bottom + 18, text_anchor="middle"))
        drawn.append(element("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom))
    return drawn


def _labels(panel: _Panel) -> list[tuple[float, str]]:
    """Every tick's label, or every second, third, … one: the first that leaves some room between them."""
    found = list(zip(map(panel.x, panel.axis.values), panel.axis.labels, strict=True))
    for step in range(1, len(found)):
        kept = found[::step]
        if all(
            right - left >= (text_width(before) + text_width(after)) / 2 + 5
            for (left, before), (right, after) in pairwise(kept)
        ):
            return kept
    return found[:1]


def _drawn(row: Row, panels: Sequence[_Panel], y: float, line: int) -> list[Markup]:
    if row.state == "failed":
        said = f"ε = {epsilon_written(row.epsilon_asked)}: failed, see the table"
        return [
            element(
                "text", element("title", row.reason), said, class_="tick bad", x=panels[0].x.start, y=y + 4
            )
        ]
    drawn = []
    for panel in panels:
        score = panel.shown(row)
        if score is None:
            continue
        at, style = panel.at(score.value), line % COLOURS
        ends = (panel.x.start, at) if panel.logarithmic else None
        if score.low is not None and score.high is not None:
            ends = panel.at(score.low), panel.at(score.high)
        if ends is not None:
            drawn.append(element("line", class_=f"whisker s{style}", x1=ends[0], x2=ends[1], y1=y, y2=y))
        label = f"{row.name}, {panel.title}: {panel.written(score.value)}"
        drawn.append(marker(line, at, y, 4.2, label))
    return drawn


def _said(row: Row) -> str:
    if row.state != "finished":
        return f"{row.name} {row.state}"
    score, name = row.scores.get(row.headline), NAMES[row.headline]
    return f"{row.name} {name} {score.value:.3f}" if score else f"{row.name} without {name}"
