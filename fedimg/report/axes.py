"""Scales, ticks and the frame of a chart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedimg.report.markup import Markup, element

FONT_SIZE = 12.0
# Widest usual sans-serif face, so that an estimate errs on the safe side.
_CHARACTER = 0.62


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """A safe estimate of a text's width in user units; no font is at hand to ask."""
    return _CHARACTER * size * len(text)


def shortened(text: str, width: float, size: float = FONT_SIZE) -> str:
    """The text, with an ellipsis in its middle if it would be wider than `width`.

    Both ends stay, since names in a list often differ at the end only.
    """
    longest = max(3, int(width / (_CHARACTER * size)))
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear map of data [low, high] onto user units [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Round values (1, 2, 2.5 or 5 · 10ᵏ apart) and their labels; `low` and `high` enclose the data."""

    values: tuple[float, ...]
    labels: tuple[str, ...]

    @property
    def low(self) -> float:
        return self.values[0]

    @property
    def high(self) -> float:
        return self.values[-1]


def ticks(
    low: float, high: float, about: int = 5, *, whole: bool = False, ceiling: float = math.inf
) -> Ticks:
    """Ticks around [low, high].

    Args:
        low, high: finite; values that are all but equal are spread.
        about: the number of intervals to aim at.
        whole: steps of whole numbers only, for counts and rounds.
        ceiling: a value that the axis may not pass, such as 1 for a rate.
    """
    size = max(abs(low), abs(high), 1e-3)
    if high - low <= 1e-6 * size:
        # One value only, as far as can be seen: some room around it, inside the ceiling.
        room = 0.5 if whole else 0.1 * size
        low, high = low - room, min(high + room, max(ceiling, low))
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = tuple(round(step * k, 12) for k in range(first, last + 1) if step * k <= ceiling + 1e-9)
    decimals = next((d for d in range(12) if all(abs(v - round(v, d)) < step * 1e-6 for v in values)), 12)
    return Ticks(values, tuple(f"{value:,.{decimals}f}" for value in values))


@dataclass(frozen=True, slots=True)
class Frame:
    """The plotting area of a chart with its two axes.

    Attributes:
        width, height: of the whole picture; x, y: scales in user units.
    """

    width: float
    height: float
    x: Scale
    y: Scale
    x_ticks: Ticks
    y_ticks: Ticks
    x_title: str
    y_title: str

    @classmethod
    def around(
        cls,
        size: tuple[float, float],
        x: Ticks,
        y: Ticks,
        titles: tuple[str, str],
        *,
        below: float = 0.0,
    ) -> Frame:
        """Margins just wide enough for the labels; `below` leaves room under the axis title."""
        width, height = size
        left = 30 + max(text_width(label) for label in y.labels)
        right = max(14.0, text_width(x.labels[-1]) / 2 + 4)
        bottom = height - 46 - below
        return cls(
            width,
            height,
            Scale(x.low, x.high, left, width - right),
            Scale(y.low, y.high, bottom, 12.0),
            x,
            y,
            *titles,
        )

    def draw(self) -> list[Markup]:
        """Grid, tick labels and titles; the data go on top of it."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        drawn = []
        for value, label in zip(self.y_ticks.values, self.y_ticks.labels, strict=True):
            y = self.y(value)
            drawn.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
            drawn.append(element("text", label, class_="tick", x=left - 8, y=y + 4, text_anchor="end"))
        for value, label in self._x_labels():
            x = self.x(value)
            drawn.append(element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4))
            drawn.append(element("text", label, class_="tick", x=x, y=bottom + 18, text_anchor="middle"))
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        drawn.append(element("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom))
        drawn.append(
            element("text", self.x_title, class_="title", x=middle_x, y=bottom + 38, text_anchor="middle")
        )
        if self.y_title:
            turned = f"rotate(-90 13 {middle_y:.2f})"
            drawn.append(
                element(
                    "text",
                    self.y_title,
                    class_="title",
                    x=13,
                    y=middle_y,
                    text_anchor="middle",
                    transform=turned,
                )
            )
        return drawn

    def _x_labels(self) -> list[tuple[float, str]]:
        """The ticks whose labels do not touch, from the left."""
        kept: list[tuple[float, str]] = []
        free_from = -math.inf
        for value, label in zip(self.x_ticks.values, self.x_ticks.labels, strict=True):
            half = text_width(label) / 2
            if self.x(value) - half >= free_from:
                kept.append((value, label))
                free_from = self.x(value) + half + 6
        return kept
