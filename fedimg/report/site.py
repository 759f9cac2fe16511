"""A site's own report: exact counts and original images, for its own people. It never leaves the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fedimg.report.blocks import Column, before_and_after, bytes_text, figure, section, table, tiles
from fedimg.report.ledger import ledger_chart
from fedimg.report.markup import Markup, element
from fedimg.report.origins import REASONS
from fedimg.report.page import document
from fedimg.values import Quarantine

# PS3.15 table E.1-1a, in the words of its section E.1.1.
ACTIONS: Final[Mapping[str, str]] = {
    "X": "removed",
    "D": "replaced by a dummy value",
    "Z": "emptied or replaced by a dummy value",
    "U": "UIDs replaced, consistently within the project",
    "C": "cleaned",
    "K": "kept",
}
LAYERS: Final[Mapping[str, str]] = {
    "L0": "structure: overlays, icons, curves, unused bits and comments of codestreams removed",
    "L1": "sent the way of its kind of object",
    "L2": "known regions: all outside of an ultrasound's own, and boxes of devices, filled",
    "L3": "graphics that stay the same over a series or a cine filled",
    "L4": "lines of text found and filled",
    "L5": "what was written read back and looked through again",
}


@dataclass(frozen=True, slots=True)
class SitePair:
    """One image: `before_png` is the original, None where it could not be found again."""

    caption: str
    before_png: bytes | None
    after_png: bytes


@dataclass(frozen=True, slots=True)
class SiteReportData:
    """What a site's own report shows.

    Attributes:
        name: the site's, or the folder's. profile, project: of the releases.
        held: reason → (count, run positions as text). before: the same without positions, for what was
            held back when the source was divided among sites. remedies: by reason.
        actions: attributes by action over all released files. private: private attributes removed.
        layers: files by pixel layer. masked: files with filled areas.
        bytes_in: of the inputs that are released, None where it is not known.
        ledger: (entry, ε spent, ε spent or reserved) over its life; empty where there is none.
        ledger_terms: the ε and δ that it promises.
    """

    name: str
    simulated: bool
    profile: str
    project: str
    inputs: int
    released: int
    bytes_released: int
    bytes_in: int | None = None
    held: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)
    actions: Mapping[str, int] = field(default_factory=dict)
    private: int = 0
    layers: Mapping[str, int] = field(default_factory=dict)
    masked: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)
    pairs: Sequence[SitePair] = ()
    ledger: Sequence[tuple[int, float, float]] = ()
    ledger_terms: tuple[float, float] = (0.0, 0.0)
    created: str = ""


def render_site(data: SiteReportData) -> str:
    """The report as one self-contained HTML file, under the same guarantee as `render`."""
    return document(
        f"De-identification at {data.name}",
        [_heading(data), _figures(data), _held(data), _released(data), _ledger(data), _images(data)],
    )


def _ledger(data: SiteReportData) -> Markup:
    chart = ledger_chart("ledger", data.ledger, *data.ledger_terms)
    if chart is None:
        return Markup("")
    return section("Privacy ledger", "Of a patient who has been here since it was opened.", figure(chart))


def _heading(data: SiteReportData) -> Markup:
    chips = [element("span", f"profile {data.profile}", class_="chip")] if data.profile else []
    if data.project:
        chips.append(element("span", f"project {data.project}", class_="chip"))
    if data.created:
        chips.append(element("span", data.created, class_="chip"))
    chips.append(element("span", "confidential", class_="chip danger"))
    if data.simulated:
        chips.append(element("span", "simulated", class_="chip note"))
    text = (
        "It holds exact counts, which depend on the patients, and may hold original images, which show them. "
        "It is for those who may see the originals anyway; nothing of it is sent anywhere."
    )
    notice = element(
        "div",
        element("strong", "This report never leaves the site"),
        element("p", text),
        class_="notice warning",
        role="note",
    )
    title = element("h1", f"De-identification at {data.name}")
    return element("header", title, element("div", chips, class_="meta"), notice)


def _figures(data: SiteReportData) -> Markup:
    held = data.inputs - data.released
    return tiles(
        [
            ("Inputs decided", f"{data.inputs:,}", "each with a receipt", False),
            ("Released", f"{data.released:,}", bytes_text(data.bytes_released), False),
            ("Held back", f"{held:,}", "kept at their source, with a reason", False),
            (
                "Released with filled areas",
                f"{data.masked:,}",
                "text, marks, graphics or device boxes",
                False,
            ),
        ]
    )


def _held(data: SiteReportData) -> Markup:
    rows = [
        [reason, _words(reason), f"{count:,}", positions, data.remedies.get(reason, "")]
        for reason, (count, positions) in sorted(
            data.held.items(), key=lambda found: (-found[1][0], found[0])
        )
    ]
    rows += [
        [reason, _words(reason), f"{count:,}", "before the intake", data.remedies.get(reason, "")]
        for reason, count in sorted(data.before.items())
        if count
    ]
    if not rows:
        return Markup("")
    columns = [
        Column("reason", numeric=False),
        Column("the input …", numeric=False),
        Column("held back"),
        Column("run positions, from 0", numeric=False),
        Column("what to do", numeric=False),
    ]
    return section(
        "Held back", "Why each was held back, and what would let it through.", table(columns, rows)
    )


def _words(reason: str) -> str:
    return REASONS[Quarantine(reason)] if reason in set(Quarantine) else ""


def _released(data: SiteReportData) -> Markup:
    if not data.released:
        return Markup("")
    kinds = [[modality, f"{count:,}"] for modality, count in sorted(data.modalities.items())]
    if data.bytes_in and data.bytes_released:
        kinds.append(["lossless compression", f"{data.bytes_in / data.bytes_released:.2f} : 1"])
    done = [
        [ACTIONS.get(action, action), action, f"{count:,}"]
        for action, count in sorted(data.actions.items(), key=lambda found: (-found[1], found[0]))
    ]
    done.append(["removed: private attributes", "X", f"{data.private:,}"])
    layers = [[LAYERS.get(layer, layer), layer, f"{count:,}"] for layer, count in sorted(data.layers.items())]
    attributes = table(
        [
            Column("attributes (all released files)", numeric=False),
            Column("action", numeric=False),
            Column("count"),
        ],
        done,
    )
    pixels = table([Column("pixels", numeric=False), Column("layer", numeric=False), Column("files")], layers)
    modalities = table([Column("released files", numeric=False), Column("")], kinds)
    lead = (
        "Counted over the signed receipts; fedimg deidentify verify checks them against every released byte."
    )
    side = element("div", [element("div", attributes), element("div", pixels, modalities)], class_="columns")
    return section("Released", lead, side)


def _images(data: SiteReportData) -> Markup:
    if not data.pairs:
        return Markup("")
    lead = (
        "Of each kind of image the one with the most filled areas and the first without any. "
        "Both pictures are shown in the grey values of the released one."
    )
    absent = "the original is not where the intake found it, or was changed"
    drawn = [before_and_after(pair.caption, pair.before_png, pair.after_png, absent) for pair in data.pairs]
    return section("Before and after de-identification", lead, element("div", drawn, class_="pairs large"))
