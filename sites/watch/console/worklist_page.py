"""The worklist: who waits, how urgent, and what the models called. A study without a call is "looked at", no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Final

from fedimg.report.blocks import Column
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import card_row, card_table, chip, tiles
from sites.watch.console.drawing import (
    OPEN,
    ago,
    day,
    nothing,
    pages,
    patient_cell,
    priority_mark,
    score_text,
    state_chip,
    study_cell,
)
from sites.watch.console.values import FindingInfo, Worklist, WorkRow
from sites.watch.console.worklist_reading import MOST_ROWS, Show

LIST: Final = "list"
_TITLES: Final[Mapping[Show, str]] = {"unread": "To read", "read": "Read", "all": "All"}
_PATIENT: Final = Column("patient", numeric=False)
_COLUMNS: Final = (
    Column("priority", numeric=False),
    _PATIENT,
    Column("accession", numeric=False),
    Column("study", numeric=False),
    Column("images"),
    Column("arrived", numeric=False),
    Column("state", numeric=False),
    Column("findings", numeric=False),
)


def heading(show: Show) -> Markup:
    links = [
        element(
            "a",
            text,
            href="/" if name == "unread" else f"/?show={name}",
            class_="chip note" if name == show else "chip plain",
            aria_current="true" if name == show else None,
        )
        for name, text in _TITLES.items()
    ]
    return element(
        "div",
        element("h1", "Worklist"),
        element("nav", links, class_="chips", aria_label="Which studies"),
        class_="head",
    )


@dataclass(frozen=True)
class Drawn:
    """A list as it was drawn, the same for all who read it.

    Attributes:
        now: the part of the figures. order: which studies stand in the list, and in which order. rows: by study.
        whole: draws the part of the list.
    """

    now: Markup
    order: tuple[object, ...]
    rows: dict[str, Markup]
    whole: Callable[[], Markup]


def drawn_of(found: Worklist, show: Show, now: float) -> Drawn:
    rows = {row.study: _row(row, ago(row.first_at, now)) for row in found.rows}
    whole = cache(lambda: frame.part(LIST, _list(found, show, list(rows.values()))))
    return Drawn(frame.part("now", _tiles(found)), (found.total, *rows), rows, whole)


def parts(drawn: Drawn) -> dict[str, Markup]:
    """The page's parts, by the ids under which events replace them."""
    return {"now": drawn.now, LIST: drawn.whole()}


@dataclass
class Followed:
    """What one stream was sent, so that a list of which one row has changed is sent as that row."""

    _order: tuple[object, ...] = field(default=(), init=False)
    _rows: dict[str, Markup] = field(default_factory=dict, init=False)

    def parts(self, drawn: Drawn) -> dict[str, Markup]:
        """What has changed of what was drawn."""
        if drawn.order != self._order:
            self._order, self._rows = drawn.order, drawn.rows
            return {"now": drawn.now, LIST: drawn.whole()}
        changed = {name: row for name, row in drawn.rows.items() if self._rows.get(name) != row}
        self._rows = drawn.rows
        return {"now": drawn.now} | {f"study-{name}": _alone(row) for name, row in changed.items()}


def _alone(row: Markup) -> Markup:
    """A row by itself is no HTML."""
    return element("table", element("tbody", row))


def _tiles(found: Worklist) -> Markup:
    states = found.states
    waiting = sum(states.get(name, 0) for name in ("arriving", "queued", "running"))
    unseen = states.get("not_analysed", 0) + states.get("failed", 0)
    suppressed = f"suppressed {found.suppressed}: above the rate limit" if found.suppressed else "all pushed"
    alerts = element("a", f"{found.open_alerts:,}", href="/alerts")
    return tiles(
        [
            ("to read", f"{sum(states.values()):,}", "studies that nobody has marked as read"),
            ("open alerts", alerts, suppressed if found.open_alerts else "none waits for a person"),
            ("not yet looked at", f"{waiting:,}", "arriving, in queue, being analysed"),
            ("without an analysis", f"{unseen:,}", "not analysed or failed: read them as ever"),
        ]
    )


def _list(found: Worklist, show: Show, drawn: list[Markup]) -> Markup:
    title = element("h2", f"{_TITLES[show]}: {found.total:,} {'study' if found.total == 1 else 'studies'}")
    if not found.rows:
        return element("section", title, nothing("No study here."))
    caption = "Studies: ordered as urgent first, then those raised by a model, then by arrival"
    table = card_table(_COLUMNS, drawn, caption=caption)
    more = pages(f"/?show={show}&first=", found.first, len(found.rows), found.total, MOST_ROWS)
    return element("section", title, table, more)


@lru_cache(4 * MOST_ROWS)
def _row(row: WorkRow, arrived: Markup) -> Markup:
    """Kept as long as neither the study nor how long ago it came has changed."""
    name = row.study
    return card_row(
        _COLUMNS,
        [
            priority_mark(row.priority, stat=row.stat),
            patient_cell(row.patient, href=f"/studies/{name}"),
            element("span", row.patient.accession, element("span", day(row.patient.date), class_="under")),
            study_cell(row.patient),
            f"{row.images:,}",
            arrived,
            _state(row),
            _findings(row),
        ],
        name=f"study-{name}",
        head=_COLUMNS.index(_PATIENT),
    )


def _state(row: WorkRow) -> Markup:
    said = [state_chip(row.state)]
    if row.completeness == "partial":
        said.append(chip("images missing", "warning"))
    if row.read_at is not None:
        said.append(chip("read", "good"))
    reason = element("span", row.reason, class_="under") if row.reason else Markup("")
    return join([element("span", said, class_="chips"), reason])


def _findings(row: WorkRow) -> Markup:
    looked = (
        element("span", f"looked at: {', '.join(row.looked)}", class_="under") if row.looked else Markup("")
    )
    if not row.findings:
        return looked
    return join([element("ul", [_finding(one) for one in row.findings], class_="chips"), looked])


def _finding(one: FindingInfo) -> Markup:
    shown = chip(
        f"{one.finding} {score_text(one.score, one.threshold)}", "danger" if one.state in OPEN else "plain"
    )
    pushed = [] if one.pushed else [element("span", " suppressed", class_="faint")]
    state = [] if one.state in OPEN else [" ", element("span", one.state, class_="faint")]
    return element("li", shown, state, pushed)
