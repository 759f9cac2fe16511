"""A report with every section filled, of scores drawn from known laws."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from fedimg.evaluation import evaluate_scores, report_from_histograms, score_histograms
from fedimg.report import (
    ComparisonRow,
    ImagePair,
    IntakeRow,
    PrivacySummary,
    ReportData,
    RoundPoint,
    SitePrivacy,
)
from fedimg.values import Interval, Quarantine

SITES = ("alder", "birch", "cedar", "dogwood")


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def evaluations(seed=0):
    generator = np.random.default_rng(seed)
    positive = np.concatenate([generator.beta(5, 2, 240), generator.beta(2, 4, 384)])
    labels = np.repeat([1, 0], [240, 384])
    columns = np.stack([1 - positive, positive], axis=1)
    noised = score_histograms(columns, labels, np.arange(625), 20).sum(axis=0).reshape(2, 20)
    noised = noised + generator.normal(0, 3, (2, 20))
    return evaluate_scores(columns, labels, bootstrap=200), report_from_histograms(noised, 3.0, bootstrap=200)


def comparison_rows(sites=SITES):
    rows = []
    for noised in (False, True):
        cost = 0.05 if noised else 0.0
        for k, site in enumerate(sites):
            value = 0.86 - 0.02 * (k % 5) - 1.6 * cost
            rows.append(ComparisonRow("site", site, noised, Interval(value, value - 0.05, value + 0.04)))
        value = 0.94 - cost
        rows.append(
            ComparisonRow("federation", "federation", noised, Interval(value, value - 0.02, value + 0.018))
        )
        value = 0.955 - 0.5 * cost
        rows.append(
            ComparisonRow("pooled", "pooled data", noised, Interval(value, value - 0.018, value + 0.015))
        )
    return tuple(rows)


def complete_report(sites=SITES, rounds=20, **changes):
    generator = np.random.default_rng(3)
    privacy = PrivacySummary(
        "per_site",
        tuple(
            SitePrivacy(
                s,
                7.9962 - 0.4 * (k % 2),
                2e-5,
                1.137 + 0.05 * (k % 2),
                0.2,
                200,
                0.1,
                "PLD (dp-accounting 0.6)",
                "PRV",
                7.991 - 0.4 * (k % 2),
            )
            for k, s in enumerate(sites)
        ),
        scratch_ledger=True,
    )
    public, at_sites = evaluations()
    course = tuple(
        RoundPoint(
            r,
            0.7 * np.exp(-r / 7) + 0.3 + 0.01 * float(generator.normal()),
            0.92 - 0.35 * float(np.exp(-r / 5)) + 0.005 * float(generator.normal()),
            {s: (8 - 0.4 * (k % 2)) * float(np.sqrt(r / rounds)) for k, s in enumerate(sites)},
        )
        for r in range(1, rounds + 1)
    )
    before = generator.integers(0, 200, (64, 64), dtype=np.uint8)
    after = before.copy()
    before[4:12, 4:40] = 255
    after[4:12, 4:40] = 0
    intake = tuple(
        IntakeRow(
            s,
            160 + 7 * k,
            155 + 7 * k,
            {Quarantine.UNREADABLE: 2, Quarantine.NO_LABEL: 1, Quarantine.PIXELS_BLANK: 2},
            6_400_000 + 80_000 * k,
            3_100_000 + 40_000 * k,
        )
        for k, s in enumerate(sites)
    )
    data = ReportData(
        title="Lesion or not, four hospitals",
        run_id="2025-01-31_12-00-00_7f3a",
        privacy=privacy,
        simulated=True,
        classes=("no lesion", "lesion"),
        config=(
            ("data", "cohort"),
            ("model.name", "cnn"),
            ("privacy.mode", "per_site"),
            ("privacy.epsilon", "8.0"),
            ("seed", "0"),
        ),
        rounds=course,
        evaluation=public,
        site_evaluation=at_sites,
        comparison=comparison_rows(sites),
        intake=intake,
        compression=(("released files (JPEG-LS)", 2.06), ("tensor cache (zstd)", 1.74)),
        data_card="Generated hospitals: real DICOM files of CT, MR, CR and US with planted lesions and identifiers.",
        data_generated=True,
        images=(
            ImagePair("US frame of site alder", png(before), png(after)),
            ImagePair("CR image of site birch", png(before[::-1].copy()), png(after[::-1].copy())),
        ),
    )
    return dataclasses.replace(data, **changes)


@pytest.fixture(name="complete")
def _complete():
    return complete_report


@pytest.fixture(name="rows")
def _rows():
    return comparison_rows
