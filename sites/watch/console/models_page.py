"""The registry: which released models work here, which only watch, which have worked, and the site's own ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedimg.report.blocks import Column, bullets, epsilon_text, figure, scientific, section
from fedimg.report.ledger import ledger_chart
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip, tiles
from sites.watch.console.drawing import nothing, when
from sites.watch.console.models_reading import ModelInfo


def model_parts(found: list[ModelInfo]) -> dict[str, Markup]:
    return {"models": frame.part("models", _models(found))}


def _models(found: list[ModelInfo]) -> Markup:
    lead = (
        "An active model's calls become alerts. A shadow model looks at the same studies and nobody is told. "
        "The digest is of the whole bundle, whose signature was verified before it was loaded."
    )
    if not found:
        return section("Registry", lead, nothing("No model was ever loaded."))
    heads = ("model", "role", "looks for", "at", "threshold", "since (UTC)", "digest")
    columns = [Column(head, numeric=head == "threshold") for head in heads]
    return section(
        "Registry", lead, cards(columns, [_model(one) for one in found], caption="Released models")
    )


def _model(one: ModelInfo) -> list[str]:
    role = {"active": chip("active", "good"), "shadow": chip("shadow", "note")}.get(one.role, chip(one.role))
    names = ", ".join(meaning or name for name, meaning in one.findings) or ", ".join(one.classes)
    at = " ".join(part for part in (", ".join(one.modalities), ", ".join(one.body_parts)) if part)
    return [
        join([one.title, element("span", f"{one.kind} {one.task}".strip(), class_="under")]),
        role,
        names,
        at or "any",
        "none" if one.threshold is None else f"{one.threshold:.3g}",
        when(one.since),
        element("span", one.digest, class_="uid"),
    ]


@dataclass(frozen=True, slots=True)
class LedgerInfo:
    """The site's ledger. `course`: (entry, ε spent, ε spent or reserved)."""

    epsilon_spent: float
    epsilon_left: float
    epsilon_max: float
    delta: float
    runs: int
    closed: int
    course: tuple[tuple[int, float, float], ...]


def ledger_parts(found: LedgerInfo | None, why: str) -> dict[str, Markup]:
    """`why`: where there is none, the reason in words."""
    return {"ledger": frame.part("ledger", _ledger(found, why))}


def _ledger(found: LedgerInfo | None, why: str) -> Markup:
    if found is None:
        return element("section", nothing(why))
    figures = tiles(
        [
            ("ε spent or reserved", epsilon_text(found.epsilon_spent), f"at δ = {scientific(found.delta)}"),
            (
                "ε left",
                f"{math.floor(1000 * found.epsilon_left) / 1000:.3f}",
                f"of {found.epsilon_max:g} that the ledger promises",
            ),
            ("runs", f"{found.runs:,}", f"{found.closed:,} of them closed"),
        ]
    )
    chart = ledger_chart("ledger-course", found.course, found.epsilon_max, found.delta)
    said = bullets(
        [
            "The ledger counts what training has cost a patient who has been there since it was opened, over all runs.",
            "Watching costs nothing: studies are looked at by a model that is released already, and nothing leaves.",
        ]
    )
    drawn = [figure(chart)] if chart is not None else []
    return join([figures, section("This site's ledger", "", *drawn, said)])
