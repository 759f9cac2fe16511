"""What a page is put together of beside the report's own blocks: chips, dots, tables that become cards, meters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from fedimg.report.blocks import Column
from fedimg.report.markup import Markup, element

Kind = Literal["plain", "note", "good", "warning", "danger"]


def chip(text: str, kind: Kind = "plain") -> Markup:
    return element("span", text, class_=f"chip {kind}")


def dot(text: str, *, on: bool) -> Markup:
    """A text behind a filled or an empty dot."""
    return element("span", text, class_=f"dot {'on' if on else 'off'}")


def of(value: str, whole: str) -> Markup:
    """A value of a whole, the second part faint."""
    return element("span", value, element("span", f" of {whole}", class_="of"))


def meter(done: float, whole: float, label: str) -> Markup:
    """A bar that is filled as far as something is done."""
    share = min(1.0, max(0.0, done / whole)) if whole > 0 else 0.0
    return element(
        "svg",
        element("title", label),
        element("rect", class_="track", x=0.5, y=0.5, width=99, height=6, rx=3),
        element("rect", class_="done", x=0.5, y=0.5, width=99 * share, height=6, rx=3),
        class_="meter",
        viewBox="0 0 100 7",
        preserveAspectRatio="none",
        role="img",
    )


def cards(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, caption: str = "") -> Markup:
    """A table; on a narrow screen each row is a card whose cells say their column."""
    return card_table(columns, [card_row(columns, row) for row in rows], caption=caption)


def card_row(
    columns: Sequence[Column], row: Sequence[str], *, name: str | None = None, head: int = 0
) -> Markup:
    """One row of `cards`.

    Args:
        name: its id, under which events may replace it. head: the column whose cell heads the row.
    """
    cells = [
        element("th", cell, scope="row")
        if number == head
        else element("td", cell, class_=_class(column, cell), data_head=column.head)
        for number, (column, cell) in enumerate(zip(columns, row, strict=True))
    ]
    return element("tr", cells, id=name)


def card_table(columns: Sequence[Column], rows: Sequence[Markup], *, caption: str = "") -> Markup:
    """The table of rows that were drawn by `card_row`."""
    head = [element("th", c.head, scope="col", class_="number" if c.numeric else None) for c in columns]
    parts = [element("caption", caption)] if caption else []
    parts += [element("thead", element("tr", head)), element("tbody", rows)]
    return element("div", element("table", parts, class_="cards"), class_="scroll")


def _class(column: Column, cell: str) -> str:
    return ("number" if column.numeric else "text") + ("" if cell else " empty")


def moment(text: str) -> Markup:
    """A time in ISO 8601 as people read it, in UTC; other text as it is."""
    try:
        at = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return element("span", text)
    return element("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=f"{at:%Y-%m-%dT%H:%M:%SZ}")


def tiles(rows: Sequence[tuple[str, str | Markup, str]]) -> Markup:
    """Key figures: (name, value, what stands below)."""
    drawn = [
        element(
            "dl",
            element("dt", name),
            element("dd", value),
            element("dd", under, class_="small"),
            class_="tile",
        )
        for name, value, under in rows
    ]
    return element("div", drawn, class_="tiles")
