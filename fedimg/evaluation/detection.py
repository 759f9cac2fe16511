"""Detection: which findings are hit, at how many false alarms an image (FROC), and how well boxes fit (AP).

A detection hits a finding when its centre lies in the finding's box; the likeliest one counts, further ones of the
same finding count neither way (LUNA16, Setio et al. 2017, doi 10.1016/j.media.2017.06.015, whose mean sensitivity at
⅛ … 8 false positives an image is `froc` here). Average precision takes a box that overlaps by IoU ≥ ½ or ≥ 0.1 for
hit, without interpolation, over all images together.

The release is two histograms of scores: of findings (a patient's share one count; what was not hit lies in the
first bin), and of false alarms, at most `MOST_FALSE` an image, of which a patient's mean is divided by that; what is
left of one count lies in the first bin. A row divided by √2 has norm ≤ 1. Every patient counts alike in it, where
`of_outputs` counts every finding; precision does not follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.evaluation.patient_means import (
    DEVIATIONS,
    TOO_FEW,
    Floats,
    checked_table,
    of_patients,
    redrawn,
    report,
    resampled,
    usable_only,
)
from fedimg.values import EvaluationReport

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MOST_FALSE = 8
_FARTHEST_LOGIT = 7.0
_SCALE = np.sqrt(2.0)
_HIDDEN = "the release holds each patient's share of hits, from which precision does not follow"
_OVERLAPS = {"ap50": 0.5, "ap10": 0.1}


@dataclass(frozen=True)
class _Detections:
    """All detections of all images, best first.

    Attributes:
        score, patient, image: (P,). hit: (P,) whether it is a finding's first hit. false: (P,) whether it hits none.
        boxes: by name of the metric the same as `hit` and `false`, by overlap. findings, images: (U,) numbers.
    """

    score: Floats
    patient: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    false: npt.NDArray[np.bool_]
    boxes: Mapping[str, npt.NDArray[np.bool_]]
    findings: Floats
    images: Floats
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Detection:
    """Attributes: bins: of each score histogram."""

    bins: int
    headline: str = "sensitivity_at_1"

    @property
    def shape(self) -> tuple[int, int]:
        return 2, self.bins

    def rows(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
    ) -> Floats:
        found = _matched(outputs, labels, first_image)
        rows = np.zeros((len(found.usable), 2, self.bins))
        cell = self._cell(found.score)
        np.add.at(rows[:, 0], (found.patient[found.hit], cell[found.hit]), 1.0)
        rows[:, 0] /= np.maximum(found.findings, 1)[:, None]
        rows[:, 0, 0] = np.where(found.findings > 0, np.maximum(0, 1 - rows[:, 0, 1:].sum(axis=1)), 0)
        kept = found.false & (_rank(found.image, found.false) < MOST_FALSE)
        np.add.at(rows[:, 1], (found.patient[kept], cell[kept]), 1.0 / MOST_FALSE)
        rows[:, 1] /= np.maximum(found.images, 1)[:, None]
        rows[:, 1, 0] = np.where(found.images > 0, np.maximum(0, 1 - rows[:, 1, 1:].sum(axis=1)), 0)
        rows[~found.usable] = 0.0
        sums = rows.sum(axis=2, keepdims=True)  # sums of fractions can pass 1 in the last bit
        rows /= np.where(sums > 1, sums * (1 + 1e-15), 1.0)
        return np.asarray(rows.reshape(len(rows), 2 * self.bins) / _SCALE, dtype=np.float64)

    def _cell(self, scores: Floats) -> npt.NDArray[np.int64]:
        """1 … bins − 1, equal steps of the score's logit; 0 is for what was not found."""
        p = np.clip(scores, 1e-9, 1 - 1e-9)
        inner = np.linspace(-_FARTHEST_LOGIT, _FARTHEST_LOGIT, self.bins)[1:-1]
        return 1 + np.searchsorted(inner, np.log(p / (1 - p)), side="right").astype(np.int64)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        table, std = checked_table(noised, self.shape, noise_std) * _SCALE, noise_std * _SCALE

        def metrics(tables: Floats) -> dict[str, Floats]:
            best_first = np.cumsum(tables[:, :, :0:-1], axis=2)
            total = tables.sum(axis=2)[:, :, None]
            share = np.divide(best_first, total, out=np.full(best_first.shape, np.nan), where=total > 0)
            return _between(share[:, 0], MOST_FALSE * share[:, 1])

        stands = (table.sum(axis=1) > DEVIATIONS * std * np.sqrt(self.bins)).all()
        found = redrawn(metrics, table, std, table) if stands else {}
        omitted = {name: TOO_FEW for name in metrics(table[None]) if name not in found}
        omitted |= dict.fromkeys(_OVERLAPS, _HIDDEN)
        return report("sites", max(0, round(float(table[1].sum()))), found, omitted)

    def of_outputs(
        self,
        outputs: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        first_image: npt.NDArray[Any],
        *,
        bootstrap: int,
        seed: int,
    ) -> EvaluationReport:
        found = _matched(outputs, labels, first_image)

        def metrics(weights: Floats) -> dict[str, Floats]:
            each = weights[:, found.patient]
            hits, alarms = np.cumsum(each * found.hit, axis=1), np.cumsum(each * found.false, axis=1)
            drawn, images = weights @ found.findings, weights @ found.images
            none = np.where(drawn > 0, 1.0, np.nan)[:, None]
            curve = (
                hits / np.maximum(drawn, 1e-12)[:, None] * none,
                alarms / np.maximum(images, 1e-12)[:, None],
            )
            precision = {name: _precision(each * own, each, drawn) for name, own in found.boxes.items()}
            return _at_rates(*curve) | precision

        kept, omitted = resampled(metrics, len(found.usable), bootstrap, seed)
        kept, omitted = usable_only(kept, omitted, found.usable)
        return report("public", len(labels), kept, omitted)


def _at_rates(sensitivity: Floats, alarms: Floats) -> dict[str, Floats]:
    """(B, P) curves, best first → (B,) by name: the highest sensitivity that keeps to each of `RATES`."""
    at = [np.where(alarms <= rate, sensitivity, 0).max(axis=1, initial=0.0) for rate in RATES]
    return _named(np.stack(at, axis=1), np.isfinite(sensitivity).all(axis=1))


def _between(sensitivity: Floats, alarms: Floats) -> dict[str, Floats]:
    """The same of curves whose points are a bin of scores apart: in a straight line from one to the next."""
    exists = np.isfinite(sensitivity).all(axis=1) & np.isfinite(alarms).all(axis=1)
    at = np.full((len(sensitivity), len(RATES)), np.nan)
    for row in np.flatnonzero(exists):  # noise makes steps downwards, which the running maximum takes back
        x, y = (np.maximum.accumulate(np.concatenate([[0.0], c[row]])) for c in (alarms, sensitivity))
        at[row] = np.clip(np.interp(RATES, x, y), 0, 1)
    return _named(at, exists)


def _named(at: Floats, exists: Any) -> dict[str, Floats]:
    found = {
        "sensitivity_at_1": at[:, RATES.index(1.0)],
        "sensitivity_at_quarter": at[:, RATES.index(0.25)],
        "froc": at.mean(axis=1),
    }
    return {name: np.where(exists, values, np.nan) for name, values in found.items()}


def _precision(hits: Floats, each: Floats, drawn: Floats) -> Floats:
    """Average precision: Σ (R_k − R_{k−1}) P_k over detections, best first; NaN without findings."""
    precision = np.cumsum(hits, axis=1) / np.maximum(np.cumsum(each, axis=1), 1e-12)
    found: Floats = np.where(drawn > 0, (hits * precision).sum(axis=1) / np.maximum(drawn, 1e-12), np.nan)
    return found


def _matched(
    outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
) -> _Detections:
    """Every detection, judged within its image; a patient with an output that is not finite has none."""
    whose, patients = of_patients(first_image), len(first_image) - 1
    images, most = outputs.shape[:2]
    axes = labels.ndim - 2
    fine = np.isfinite(outputs).all(axis=(1, 2)) & np.isfinite(labels).all(axis=tuple(range(1, labels.ndim)))
    usable = np.ones(patients, bool)
    usable[whose[~fine]] = False
    findings = np.bincount(whose, (labels[:, 0] == 1).sum(axis=tuple(range(1, axes + 1))), patients)
    judged = {name: np.zeros((images, most), bool) for name in ("hit", "false", *_OVERLAPS)}
    for i in np.flatnonzero(usable[whose]):
        places = np.argwhere(labels[i, 0] == 1)
        sizes = labels[i, 1:][(slice(None), *places.T)].T
        found, span = outputs[i, :, 1 : 1 + axes], outputs[i, :, 1 + axes :]
        apart: Floats = np.abs(found[:, None] - places)
        within = np.asarray((apart <= sizes / 2).all(axis=2), dtype=np.bool_)
        judged["hit"][i] = _first_hits(within)
        judged["false"][i] = ~within.any(axis=1)
        overlap = _overlaps(found, span, places, sizes)
        for name, least in _OVERLAPS.items():
            judged[name][i] = _first_hits(overlap >= least)
    order = np.argsort(-np.where(fine[:, None], outputs[:, :, 0], -1.0).ravel(), kind="stable")
    order = order[usable[whose].repeat(most)[order]]
    flat = {name: own.ravel()[order] for name, own in judged.items()}
    image = order // max(1, most)
    return _Detections(
        outputs[:, :, 0].ravel()[order],
        whose[image],
        image,
        flat["hit"],
        flat["false"],
        {name: flat[name] for name in _OVERLAPS},
        np.asarray(findings, dtype=np.float64),
        np.diff(first_image).astype(np.float64),
        usable,
    )


def _first_hits(matches: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(detections, findings), best first → (detections,): each finding goes to the first that hits it."""
    taken, first = np.zeros(matches.shape[1], bool), np.zeros(len(matches), bool)
    for k, row in enumerate(matches):
        free = np.flatnonzero(row & ~taken)
        if len(free):
            taken[free[0]] = first[k] = True
    return first


def _overlaps(found: Floats, span: Floats, places: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> Floats:
    """IoU (detections, findings) of boxes about their centres."""
    low = np.maximum((found - span / 2)[:, None], places - sizes / 2)
    high = np.minimum((found + span / 2)[:, None], places + sizes / 2)
    both = np.maximum(high - low, 0).prod(axis=2)
    either = span.prod(axis=1)[:, None] + sizes.prod(axis=1) - both
    iou: Floats = both / np.maximum(either, 1e-12)
    return iou


def _rank(image: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Of each counted entry, how many counted ones of its image come before it."""
    rank, seen = np.zeros(len(image), np.int64), dict[int, int]()
    for k in np.flatnonzero(counted):
        rank[k] = seen.get(int(image[k]), 0)
        seen[int(image[k])] = int(rank[k]) + 1
    return rank
