"""The sections on where everything came from: first weights, intake, images, settings."""

from __future__ import annotations

from typing import Final

from fedimg.report.blocks import Column, before_and_after, bytes_text, section, table
from fedimg.report.data import ReportData
from fedimg.report.markup import Markup, element
from fedimg.values import Quarantine

START: Final = "Where the weights began"
NOT_COVERED: Final = (
    "Training began with weights from a file. What is promised here covers the patients of this federation, and nobody "
    "whose images that file may have been made of."
)
REASONS: Final = {
    Quarantine.UNREADABLE: "cannot be read as an image file",
    Quarantine.NOT_AN_IMAGE: "holds no image",
    Quarantine.LINK: "is a link to another place",
    Quarantine.NO_PATIENT_ID: "names no patient",
    Quarantine.NO_LABEL: "has no label",
    Quarantine.PATIENT_AT_TWO_SITES: "its patient is declared at two sites",
    Quarantine.OBJECT_TYPE: "is of a kind that is not admitted",
    Quarantine.UNSAFE_STRUCTURE: "its structure is unsafe to parse",
    Quarantine.RESIDUAL_IDENTIFIER: "an identifier was left after de-identification",
    Quarantine.PIXELS_UNDECODABLE: "its pixels cannot be decoded",
    Quarantine.PIXELS_NOT_FINITE: "its pixels are not finite numbers",
    Quarantine.PIXELS_BLANK: "its frame is blank",
    Quarantine.PIXELS_CLIPPED: "its frame is clipped",
    Quarantine.DUPLICATE: "is a duplicate",
    Quarantine.WRONG_SHAPE: "its shape does not fit",
    Quarantine.BURNED_IN_TEXT: "text may be burnt into its pixels",
    Quarantine.PIXELS_UNPROVEN: "its written pixels failed their recheck",
    Quarantine.RECOGNISABLE_FACE: "it may show a face",
    Quarantine.RECEIPT_INVALID: "its receipt is invalid",
    Quarantine.DISK_FULL: "the disk was full",
}


def start(data: ReportData) -> Markup:
    """Which file the first weights came from, and that no promise covers it."""
    if data.start is None:
        return Markup("")
    said, digest = data.start
    rows = [["what the file says of itself", said], ["SHA-256 of the file", digest]]
    columns = [Column("", numeric=False), Column("", numeric=False)]
    return section(START, NOT_COVERED, table(columns, rows))


def intake(data: ReportData) -> Markup:
    """What came in, what was released and what was held back."""
    if not data.intake and not data.kept_intake and not data.data_card:
        return Markup("")
    content = []
    if data.intake:
        columns = [
            Column("site", numeric=False),
            Column("inputs"),
            Column("released"),
            Column("quarantined"),
            Column("size in"),
            Column("size released"),
        ]
        rows = [
            [
                r.site,
                f"{r.inputs:,}",
                f"{r.released:,}",
                f"{sum(r.quarantined.values()):,}",
                bytes_text(r.bytes_in),
                bytes_text(r.bytes_released),
            ]
            for r in data.intake
        ]
        content.append(table(columns, rows))
    if data.kept_intake:
        columns = [
            Column("site", numeric=False),
            Column("declared patients"),
            Column("what was released and held back, and why", numeric=False),
        ]
        caption = "How many files a site accepted depends on its patients, so the counts stay in its home."
        kept = [[site, f"{declared:,}", command] for site, declared, command in data.kept_intake]
        content.append(table(columns, kept, caption=caption))
    side = [box for box in (_quarantine(data), _compression(data)) if box]
    if side:
        content.append(element("div", side, class_="columns"))
    return section("Intake and de-identification", data.data_card, *content)


def _quarantine(data: ReportData) -> Markup:
    totals: dict[str, int] = {}
    for row in data.intake:
        for reason, count in row.quarantined.items():
            totals[str(reason)] = totals.get(str(reason), 0) + count
    rows = [
        [reason, REASONS[Quarantine(reason)] if reason in set(Quarantine) else "", f"{count:,}"]
        for reason, count in sorted(totals.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]
    columns = [Column("reason", numeric=False), Column("the input …", numeric=False), Column("held back")]
    return (
        element("div", element("h3", "Quarantined, by reason"), table(columns, rows)) if rows else Markup("")
    )


def _compression(data: ReportData) -> Markup:
    rows = [[what, f"{ratio:.2f} : 1"] for what, ratio in data.compression]
    columns = [Column("lossless compression", numeric=False), Column("ratio")]
    return element("div", element("h3", "Compression"), table(columns, rows)) if rows else Markup("")


def images(data: ReportData) -> Markup:
    """Generated images before and after de-identification."""
    if not data.images:
        return Markup("")

    pairs = [before_and_after(pair.caption, pair.before_png, pair.after_png) for pair in data.images]
    lead = "Generated images: the names burnt into them belong to nobody."
    return section("Before and after de-identification", lead, element("div", pairs, class_="pairs"))


def settings(data: ReportData) -> Markup:
    """The composed configuration."""
    if not data.config:
        return Markup("")
    rows = [[key, value] for key, value in data.config]
    columns = [Column("key", numeric=False), Column("value", numeric=False)]
    return section("Settings", "", table(columns, rows))
