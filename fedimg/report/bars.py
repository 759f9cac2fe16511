"""Counts as bars, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from fedimg.report.axes import shortened
from fedimg.report.lines import Chart, picture
from fedimg.report.markup import Markup, element

WIDTH = 380.0
_ROW, _LABEL, _VALUE = 26.0, 130.0, 60.0
MOST_BARS = 16


def bars(key: str, title: str, counts: Mapping[str, int]) -> Chart | None:
    """A bar for each count, the first `MOST_BARS` of them; None where nothing is counted."""
    shown = list(counts.items())[:MOST_BARS]
    most = max((count for _, count in shown), default=0)
    if not most:
        return None
    height = len(shown) * _ROW + 8
    content = [part for k, row in enumerate(shown) for part in _row(row, 4 + k * _ROW, most)]
    said = "; ".join(f"{name} {count:,}" for name, count in shown)
    left_out = f" {len(counts) - len(shown)} more are not shown." if len(counts) > len(shown) else ""
    return Chart(picture(key, title, f"{said}.", (WIDTH, height), content), Markup(""), f"{title}.{left_out}")


def _row(row: tuple[str, int], top: float, most: int) -> list[Markup]:
    name, count = row
    middle, length = top + _ROW / 2, (WIDTH - _LABEL - _VALUE) * count / most
    label = shortened(name, _LABEL - 12)
    return [
        element("text", element("title", name), label, x=_LABEL - 8, y=middle + 4, text_anchor="end"),
        element("rect", class_="bar s0", x=_LABEL, y=top + 4, width=max(length, 1), height=_ROW - 8, rx=3),
        element("text", f"{count:,}", class_="tick", x=_LABEL + max(length, 1) + 6, y=middle + 4),
    ]


def binned(values: Sequence[float], about: int = 10) -> dict[str, int]:
    """Counts of finite values between round edges, for `bars`; one bar a value where they are few."""
    finite = np.asarray([value for value in values if np.isfinite(value)], np.float64)
    if not len(finite):
        return {}
    kinds, counts = np.unique(finite, return_counts=True)
    if len(kinds) <= about:
        return {f"{kind:g}": int(count) for kind, count in zip(kinds, counts, strict=True)}
    counts, edges = np.histogram(finite, bins=about)
    return {f"{low:.3g} – {high:.3g}": int(n) for (low, high), n in zip(pairwise(edges), counts, strict=True)}
