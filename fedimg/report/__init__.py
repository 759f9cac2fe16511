"""The report of a run, and of a site's own intake: each one self-contained HTML file with inline SVG figures."""

from __future__ import annotations

from fedimg.report.card import CardData, render_card, render_card_markdown
from fedimg.report.data import (
    ComparisonRow,
    ExposureRow,
    ImagePair,
    IntakeRow,
    LedgerRow,
    Mode,
    PrivacySummary,
    ReportData,
    RoundPoint,
    SitePrivacy,
    Unit,
)
from fedimg.report.page import render
from fedimg.report.site import SitePair, SiteReportData, render_site

__all__ = [
    "CardData",
    "ComparisonRow",
    "ExposureRow",
    "ImagePair",
    "IntakeRow",
    "LedgerRow",
    "Mode",
    "PrivacySummary",
    "ReportData",
    "RoundPoint",
    "SitePair",
    "SitePrivacy",
    "SiteReportData",
    "Unit",
    "render",
    "render_card",
    "render_card_markdown",
    "render_site",
]
