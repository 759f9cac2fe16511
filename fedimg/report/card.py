"""A model's privacy card: what its release record says, for people. As a page, and as Markdown for a model card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedimg.report import exposure, guarantees, origins
from fedimg.report.blocks import Column, bullets, epsilon_text, scientific, section, table
from fedimg.report.data import ReportData
from fedimg.report.markup import Markup
from fedimg.report.page import document
from fedimg.report.promises import not_promised, notices, promised

_AUDIT_HEADS = ("audit", "verdict", "found")
_NO_AUDITS = (
    "No audit results are in the record: the promise rests on the mechanism and its accounting alone."
)


@dataclass(frozen=True, slots=True)
class CardData:
    """What a card shows beside the parts that it shares with a run's report.

    Attributes:
        shared: title, run, privacy and exposure.
        tuning: sentences on how settings were chosen and what that cost.
        audits: rows of (audit, verdict, what was found).
        facts: rows of (name, value): model, digests, signers.
    """

    shared: ReportData
    tuning: tuple[str, ...]
    audits: tuple[tuple[str, str, str], ...]
    facts: tuple[tuple[str, str], ...]


def render_card(data: CardData) -> str:
    """One self-contained HTML file, under the guarantee of `report.render`."""
    shared = data.shared
    return document(
        f"{shared.title} – {shared.run_id}",
        [
            guarantees.heading(shared),
            guarantees.key_figures(shared),
            guarantees.promises(shared),
            exposure.exposed(shared),
            guarantees.privacy_table(shared),
            _audits(data),
            section("How settings were chosen", "", bullets(data.tuning)),
            origins.start(shared),
            _facts(data),
        ],
    )


def _audits(data: CardData) -> Markup:
    title, lead = "Audits beside the claim", "An audit can contradict a promise; it cannot prove one."
    if not data.audits:
        return section(title, _NO_AUDITS)
    heads = [Column(head, numeric=False) for head in _AUDIT_HEADS]
    return section(title, lead, table(heads, [list(row) for row in data.audits]))


def _facts(data: CardData) -> Markup:
    heads = [Column("", numeric=False), Column("", numeric=False)]
    lead = "fedimg verify checks all of this offline, from record.json."
    return section("What this card is about", lead, table(heads, [list(row) for row in data.facts]))


def render_card_markdown(data: CardData) -> str:
    """The same content as Markdown, every text from the record escaped; no picture."""
    shared, privacy = data.shared, data.shared.privacy
    unit = "site" if privacy.mode == "client_level" else privacy.unit
    lines = [f"# {_plain(shared.title)}", ""]
    for notice in notices(privacy, simulated=shared.simulated):
        lines += [f"> **{notice.title}.** {_plain(notice.text)}", ""]
    if privacy.protects:
        stated = (
            f"ε = {epsilon_text(privacy.federation_epsilon)} at δ = {scientific(privacy.federation_delta)}"
        )
        lines += [
            f"**{stated}** for one {unit}; neighbouring data sets differ by adding or removing one {unit}.",
            "",
        ]
    lines += _bullets(
        "Promised", promised(privacy) or ("Nothing. This model gives no guarantee to any patient.",)
    )
    lines += _bullets("Not promised", not_promised(privacy))
    if shared.exposure and privacy.protects:
        worst = max(shared.exposure, key=lambda row: row.true_positives)
        lines += [f"## {exposure.heading(unit)}", "", _plain(exposure.in_words(worst, unit)), ""]
        lines += _rows(exposure.columns(unit), [exposure.cells(row) for row in shared.exposure])
    if privacy.sites and privacy.protects:
        heads = ["site", f"ε of one {unit}", "δ", "σ", "q", "T", "C", "accountant"]
        sites = [[site.site, *guarantees.numbers_of(site)] for site in privacy.sites]
        lines += ["## Privacy by site", "", *_rows(heads, sites)]
    lines += ["## Audits beside the claim", ""]
    lines += (
        _rows(list(_AUDIT_HEADS), [list(row) for row in data.audits]) if data.audits else [_NO_AUDITS, ""]
    )
    lines += _bullets("How settings were chosen", data.tuning)
    if shared.start is not None:
        said, digest = shared.start
        lines += [f"## {origins.START}", "", _plain(origins.NOT_COVERED), "", _plain(said), ""]
        lines += [f"SHA-256 of the file: {digest}", ""]
    lines += ["## What this card is about", "", *_rows(["", ""], [list(row) for row in data.facts])]
    return "\n".join(lines).rstrip() + "\n"


def _bullets(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_plain(sentence)}" for sentence in sentences), ""]


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(map(_plain, row))} |" for row in rows),
        "",
    ]


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for markup or a link."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
