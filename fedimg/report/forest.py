"""Sites alone, the federation and pooled data side by side: a point and an interval each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedimg.report.axes import Frame, Ticks, shortened, ticks
from fedimg.report.data import ComparisonRow, PrivacySummary
from fedimg.report.lines import Chart, Series, legend, marker, picture
from fedimg.report.markup import Markup, element

WIDTH = 1000.0
_ROW = 38.0
_LABEL = 220.0
# The most rows that are drawn; the table holds them all.
MOST_SITES = 16


def noise_names(privacy: PrivacySummary) -> tuple[str, str]:
    """What the arrangements without and with noise are called; only secret noise may be called DP."""
    if privacy.insecure:
        return "without noise", "with seeded test noise"
    # Beside a run without privacy the noised arrangements are runs of their own.
    sound = privacy.protects or privacy.mode == "none"
    return "without noise", "with differential privacy" if sound else "with noise"


def mean_of_sites(rows: Sequence[ComparisonRow], *, noised: bool) -> float | None:
    """Mean AUROC of the sites each alone; None if no site has one."""
    values = [r.auroc.value for r in rows if r.arrangement == "site" and r.noised == noised and r.auroc]
    return math.fsum(values) / len(values) if values else None


def comparison(
    rows: Sequence[ComparisonRow], privacy: PrivacySummary, key: str = "comparison"
) -> Chart | None:
    """AUROC with its interval by arrangement, without and with noise; None if there is none at all."""
    drawable = [(r, r.auroc) for r in rows if r.auroc is not None]
    if not drawable:
        return None
    names = _ordered(rows)
    lowest = min(a.low for _, a in drawable)
    axis = ticks(max(0.0, lowest), 1.0, 6, ceiling=1.0)
    height = len(names) * _ROW + 72
    frame = _frame(axis, height)
    content = _rows(frame, names)
    for noised in (False, True):
        mean = mean_of_sites(rows, noised=noised)
        if mean is not None:
            content.append(_mean_line(frame, mean, noised=noised))
    for row, area in drawable:
        if (row.arrangement, row.name) in names:
            middle = 16 + (names.index((row.arrangement, row.name)) + 0.5) * _ROW
            content.extend(
                _whisker(
                    frame, row, (area.low, area.value, area.high), middle + (7.5 if row.noised else -7.5)
                )
            )
    called = noise_names(privacy)
    shown = [Series(called[k], (), k) for k in (0, 1) if any(r.noised == bool(k) for r, _ in drawable)]
    said = "; ".join(f"{_label(r.arrangement, r.name)} {called[r.noised]} {a.value:.3f}" for r, a in drawable)
    left_out = len({(r.arrangement, r.name) for r in rows}) - len(names)
    caption = "AUROC on the public test set with 95 % intervals."
    if any(row.arrangement == "site" for row, _ in drawable):
        caption += " Dashed: mean of the sites each alone."
    if left_out:
        caption += f" {left_out} more sites stand in the table only."
    return Chart(
        picture(key, "AUROC by arrangement", f"{said}.", (WIDTH, height), content), legend(shown), caption
    )


def _ordered(rows: Sequence[ComparisonRow]) -> list[tuple[str, str]]:
    """Federation and pooled first, then the sites in the order given, each once."""
    keys: list[tuple[str, str]] = list(dict.fromkeys((r.arrangement, r.name) for r in rows))
    order = {"federation": 0, "pooled": 1, "site": 2}
    keys.sort(key=lambda key: order[key[0]])
    joint = [key for key in keys if key[0] != "site"]
    return joint + [key for key in keys if key[0] == "site"][:MOST_SITES]


def _label(arrangement: str, name: str) -> str:
    return f"{name} alone" if arrangement == "site" else name


def _frame(axis: Ticks, height: float) -> Frame:
    inner = Frame.around((WIDTH, height), axis, ticks(0, 1), ("AUROC", ""))
    x = type(inner.x)(axis.low, axis.high, _LABEL, WIDTH - 172)
    y = type(inner.y)(0.0, 1.0, height - 46, 16.0)
    return Frame(WIDTH, height, x, y, axis, Ticks((), ()), "AUROC", "")


def _rows(frame: Frame, names: Sequence[tuple[str, str]]) -> list[Markup]:
    drawn: list[Markup] = []
    for k, (arrangement, name) in enumerate(names):
        top = 16 + k * _ROW
        if k % 2 == 0:
            drawn.append(element("rect", class_="stripe", x=0, y=top, width=WIDTH, height=_ROW, rx=4))
        label = _label(arrangement, name)
        drawn.append(
            element(
                "text",
                element("title", label),
                shortened(label, _LABEL - 20),
                class_="label" if arrangement == "site" else "label strong",
                x=8,
                y=top + _ROW / 2 + 4,
            )
        )
    for value in frame.x_ticks.values:
        x = frame.x(value)
        drawn.append(element("line", class_="grid", x1=x, x2=x, y1=16, y2=frame.y.start))
    return drawn + frame.draw()


def _mean_line(frame: Frame, mean: float, *, noised: bool) -> Markup:
    x = frame.x(mean)
    label = f"mean of the sites alone, {'with' if noised else 'without'} noise: {mean:.3f}"
    style = f"mean s{int(noised)}"
    return element("line", element("title", label), class_=style, x1=x, x2=x, y1=16, y2=frame.y.start)


def _whisker(frame: Frame, row: ComparisonRow, area: tuple[float, float, float], y: float) -> list[Markup]:
    low, value, high = area
    style = int(row.noised)
    written = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    ends = frame.x(low), frame.x(high)
    drawn = [element("line", class_=f"whisker s{style}", x1=ends[0], x2=ends[1], y1=y, y2=y)]
    drawn += [element("line", class_=f"whisker s{style}", x1=x, x2=x, y1=y - 3.5, y2=y + 3.5) for x in ends]
    drawn.append(marker(style, frame.x(value), y, 4.2, f"{_label(row.arrangement, row.name)}: {written}"))
    drawn.append(element("text", written, class_=f"value s{style}", x=WIDTH - 8, y=y + 4, text_anchor="end"))
    return drawn
