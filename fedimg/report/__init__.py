"""The report of a run: one self-contained HTML file with inline SVG figures."""

from __future__ import annotations

from fedimg.report.data import (
    ComparisonRow,
    ImagePair,
    IntakeRow,
    PrivacySummary,
    ReportData,
    RoundPoint,
    SitePrivacy,
)
from fedimg.report.page import render

__all__ = [
    "ComparisonRow",
    "ImagePair",
    "IntakeRow",
    "PrivacySummary",
    "ReportData",
    "RoundPoint",
    "SitePrivacy",
    "render",
]
