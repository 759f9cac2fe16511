"""The whole page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fedimg.report import exposure, groups, guarantees, ledger, origins, results
from fedimg.report.data import ReportData
from fedimg.report.markup import Markup, element
from fedimg.report.style import CSS, content_security_policy

SECTIONS: Final[tuple[Callable[[ReportData], Markup], ...]] = (
    guarantees.heading,
    guarantees.key_figures,
    guarantees.promises,
    exposure.exposed,
    results.comparison,
    results.training,
    results.performance_of_model,
    groups.by_group,
    guarantees.privacy_table,
    ledger.ledgers,
    guarantees.measured,
    origins.start,
    origins.intake,
    origins.images,
    origins.settings,
)


def render(data: ReportData) -> str:
    """The report as one self-contained HTML file.

    Guarantee: no script, nothing loaded from anywhere, every text escaped, well-formed as
    XML too; the same data give the same bytes.
    """
    return document(f"{data.title} – {data.run_id}", [section(data) for section in SECTIONS])


def document(title: str, sections: Sequence[Markup]) -> str:
    """A page of sections, under the guarantee of `render`."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=content_security_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(CSS)),
    )
    footer = element("footer", "Written by fedimg. Nothing on this page was loaded from elsewhere.")
    body = element("body", element("main", sections, footer))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"
