"""Alerts: the open ones first, with what a person may do about each; on their own page and on their study's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import urlencode

from fedimg.report.blocks import Column, section
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip, meter
from sites.watch.console.actions import REASONS
from sites.watch.console.drawing import (
    OPEN,
    SETTLED,
    ago,
    facts,
    nothing,
    pages,
    patient_cell,
    score_text,
    state_chip,
    when,
)
from sites.watch.console.values import AlertInfo, Alerts
from sites.watch.console.worklist_reading import MOST_ROWS, AlertState

_STATES: Final[Mapping[str, str]] = {"open": "open", "all": "all"}


def path(state: AlertState, finding: str, *, events: bool = False, first: int | None = None) -> str:
    """Where alerts so chosen are."""
    asked = {"state": state, "finding": finding} | ({} if first is None else {"first": str(first)})
    return f"/alerts{'/events' if events else ''}?{urlencode(asked)}"


def parts(found: Alerts, state: AlertState, finding: str, now: float) -> dict[str, Markup]:
    return {"alerts": frame.part("alerts", _list(found, state, finding, now))}


def filters(found: Alerts, state: AlertState, finding: str) -> Markup:
    """A form that works without scripts."""
    states = [_option(name, _STATES.get(name, name), name == state) for name in get_args(AlertState)]
    names = [_option(name, name or "all", name == finding) for name in sorted({"", *found.findings, finding})]
    return element(
        "form",
        element("label", "State", element("select", states, name="state")),
        element("label", "Finding", element("select", names, name="finding")),
        element("button", "Show", type="submit"),
        method="get",
        action="/alerts",
        class_="filters",
    )


def card(alert: AlertInfo, csrf: str) -> Markup:
    """An alert on its study's page, with its buttons."""
    about = facts(
        [
            ("score", score_text(alert.score, alert.threshold) + ", calibrated probability and threshold"),
            ("where", alert.where),
            ("size", "" if alert.size_mm is None else f"{alert.size_mm:.0f} mm across"),
            ("coded", " ".join(part for part in (alert.code[1], alert.code[0], alert.code[2]) if part)),
            ("model", join([f"{alert.model} ", element("span", f"{alert.digest[:16]}…", class_="uid")])),
            ("raised", when(alert.raised_at)),
            ("escalated", "nobody had acknowledged it in time" if alert.escalated else ""),
            ("dismissed as", reason(alert.reason) if alert.state == "dismissed" else ""),
        ]
    )
    suppressed = [] if alert.pushed else [chip("suppressed: above the rate limit, not pushed", "warning")]
    head = [element("h3", alert.code[2] or alert.finding), state_chip(alert.state), *suppressed]
    opened = " open" if alert.state in OPEN else ""
    bar = meter(alert.score, 1.0, f"score {alert.score:.2f} of 1")
    return element(
        "div",
        element("div", head, class_="chips"),
        bar,
        about,
        actions(alert, csrf),
        class_=f"finding{opened}",
    )


def actions(alert: AlertInfo, csrf: str) -> Markup:
    """What may be done with an alert in its state; empty once it is settled."""
    if alert.state in SETTLED:
        return Markup("")
    where, drawn = f"/alerts/{alert.alert}", []
    if alert.state in OPEN:
        drawn.append(frame.button(f"{where}/acknowledge", "Acknowledge", csrf))
    drawn.append(frame.button(f"{where}/confirm", "Confirm finding", csrf))
    reasons = element("select", [_option(one, reason(one), chosen=False) for one in REASONS], name="reason")
    drawn.append(
        element(
            "form",
            element("input", type="hidden", name="csrf", value=csrf),
            element("label", "Reason", reasons),
            element("button", "Dismiss", type="submit", class_="danger"),
            method="post",
            action=f"{where}/dismiss",
            class_="together",
        )
    )
    return element("div", drawn, class_="act")


def _list(found: Alerts, state: AlertState, finding: str, now: float) -> Markup:
    count = f"{found.total:,} {'alert' if found.total == 1 else 'alerts'}"
    if not found.rows:
        return section(count, "", nothing("No alert here. That says nothing of the studies without one."))
    heads = ("patient", "accession", "finding", "score", "where", "state", "raised", "model")
    columns = [Column(head, numeric=False) for head in heads]
    rows = [_row(one, now) for one in found.rows]
    more = pages(
        path(state, finding, first=0).removesuffix("0"), found.first, len(rows), found.total, MOST_ROWS
    )
    return section(count, "", cards(columns, rows, caption="Alerts, the open ones first"), more)


def _row(one: AlertInfo, now: float) -> list[str]:
    where = join([one.where, element("span", f"{one.size_mm:.0f} mm" if one.size_mm else "", class_="under")])
    suppressed = "" if one.pushed else element("span", "suppressed", class_="under")
    why = element("span", reason(one.reason), class_="under") if one.reason else ""
    return [
        patient_cell(one.patient, href=f"/studies/{one.study}"),
        one.patient.accession,
        join([one.code[2] or one.finding]),
        element("span", score_text(one.score, one.threshold), class_="nowrap"),
        where if one.where or one.size_mm else "",
        join([state_chip(one.state), why, suppressed]),
        ago(one.raised_at, now),
        one.model,
    ]


def reason(code: str) -> str:
    """A dismissal's code for people."""
    return code.replace("-", " ")


def _option(value: str, text: str, chosen: bool) -> Markup:
    return element("option", text, value=value, selected="" if chosen else None)
