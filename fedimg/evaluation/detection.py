"""Detection: which findings are hit, at how many false alarms an image (FROC), and how well boxes fit (AP, mAP).

A detection hits a finding of its class when its centre lies in the finding's box, the nearest one that is free; the
likeliest one counts, further ones of the same finding count neither way (LUNA16, Setio et al. 2017, doi
10.1016/j.media.2017.06.015, whose mean sensitivity at ⅛ … 8 false positives an image is `froc` here). Average precision
takes a box that overlaps by IoU ≥ ½ or ≥ 0.1 for hit, each that it overlaps most among those that are free (Lin et al.
2014, arXiv 1405.0312), without interpolation, over all images together. Of several classes each is measured by itself;
sensitivities, FROC and `map50`, `map10` are means over the classes that have findings.

The release is two histograms of scores a class: of findings (a patient's share one count; what was not hit lies in
the first bin), and of false alarms, at most `MOST_FALSE` an image, of which a patient's mean is divided by that; what is
left of one count lies in the first bin. A row of K classes divided by √(2K) has norm ≤ 1. Every patient counts alike in
it, where `of_outputs` counts every finding; precision does not follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    quotient,
    redrawn,
    report,
    resampled,
    usable_only,
)
from fedimg.values import EvaluationReport

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MOST_FALSE = 8
_FARTHEST_LOGIT = 7.0
_HIDDEN = "the release holds each patient's share of hits, from which precision does not follow"
_OVERLAPS = {"ap50": 0.5, "ap10": 0.1}
_EACH = ("sensitivity_at_1", "froc", *_OVERLAPS)  # of which every class has its own


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
    """Attributes: bins: of each score histogram. kinds: classes of findings, K."""

    bins: int
    kinds: int = 1
    headline: str = "sensitivity_at_1"

    @property
    def shape(self) -> tuple[int, int]:
        return 2 * self.kinds, self.bins

    @property
    def _scale(self) -> float:
        return float(np.sqrt(2.0 * self.kinds))

    def rows(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
    ) -> Floats:
        pairs = [self._pair(found) for found in self._matched(outputs, labels, first_image)]
        return np.asarray(np.concatenate(pairs, axis=1) / self._scale, dtype=np.float64)

    def _pair(self, found: _Detections) -> Floats:
        """(U, 2 · bins) of one class, each half adding up to at most 1."""
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
        return rows.reshape(len(rows), 2 * self.bins)

    def _cell(self, scores: Floats) -> npt.NDArray[np.int64]:
        """1 … bins − 1, equal steps of the score's logit; 0 is for what was not found."""
        p = np.clip(scores, 1e-9, 1 - 1e-9)
        inner = np.linspace(-_FARTHEST_LOGIT, _FARTHEST_LOGIT, self.bins)[1:-1]
        return 1 + np.searchsorted(inner, np.log(p / (1 - p)), side="right").astype(np.int64)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        table, std = checked_table(noised, self.shape, noise_std) * self._scale, noise_std * self._scale
        stands = (table.sum(axis=1) > DEVIATIONS * std * np.sqrt(self.bins)).reshape(-1, 2).all(axis=1)

        def metrics(tables: Floats) -> dict[str, Floats]:
            best_first = np.cumsum(tables[:, :, :0:-1], axis=2)
            total = tables.sum(axis=2)[:, :, None]
            share = np.divide(best_first, total, out=np.full(best_first.shape, np.nan), where=total > 0)
            share[:, np.repeat(~stands, 2)] = np.nan
            curves = [
                _between(share[:, k], MOST_FALSE * share[:, k + 1]) for k in range(0, 2 * self.kinds, 2)
            ]
            return self._together(curves, all_of_them=True)

        found = redrawn(metrics, table, std, table)
        omitted = {name: TOO_FEW for name in metrics(table[None]) if name not in found}
        omitted |= dict.fromkeys(self._precisions, _HIDDEN)
        examples = float(table[1::2].sum(axis=1).max())
        return report("sites", max(0, round(examples)), found, omitted)

    @property
    def _precisions(self) -> tuple[str, ...]:
        """Of one class average precisions, of several their means and each one's own."""
        if self.kinds == 1:
            return tuple(_OVERLAPS)
        each = (f"{name}_{k}" for name in _OVERLAPS for k in range(1, self.kinds + 1))
        return (*(f"m{name}" for name in _OVERLAPS), *each)

    def of_outputs(
        self,
        outputs: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        first_image: npt.NDArray[Any],
        *,
        bootstrap: int,
        seed: int,
    ) -> EvaluationReport:
        matched = self._matched(outputs, labels, first_image)

        def metrics(weights: Floats) -> dict[str, Floats]:
            return self._together([_measured(found, weights) for found in matched], all_of_them=False)

        usable = matched[0].usable
        kept, omitted = resampled(metrics, len(usable), bootstrap, seed)
        kept, omitted = usable_only(kept, omitted, usable)
        return report("public", len(labels), kept, omitted)

    def _together(self, each: Sequence[Mapping[str, Floats]], *, all_of_them: bool) -> dict[str, Floats]:
        """Of one class its own, of several each one's and the mean: of `all_of_them`, or of those that have findings."""
        if self.kinds == 1:
            return dict(each[0])
        found: dict[str, Floats] = {}
        for name in each[0]:
            values = np.stack([own[name] for own in each])
            there = np.isfinite(values) | all_of_them
            mean = quotient(np.where(there, values, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))
            found[f"m{name}" if name in _OVERLAPS else name] = mean
            found |= {f"{name}_{k}": own for k, own in enumerate(values, start=1) if name in _EACH}
        return found

    def _matched(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
    ) -> list[_Detections]:
        return [_matched(outputs, labels, first_image, kind, self.kinds) for kind in range(1, self.kinds + 1)]


def _measured(found: _Detections, weights: Floats) -> dict[str, Floats]:
    """Of one class, for each row of weights of patients."""
    each = weights[:, found.patient]
    hits, alarms = np.cumsum(each * found.hit, axis=1), np.cumsum(each * found.false, axis=1)
    drawn, images = weights @ found.findings, weights @ found.images
    none = np.where(drawn > 0, 1.0, np.nan)[:, None]
    curve = (
        hits / np.maximum(drawn, 1e-12)[:, None] * none,
        alarms / np.maximum(images, 1e-12)[:, None],
    )
    precision = {name: _precision(each * own, each, drawn) for name, own in found.boxes.items()}
    return _at_rates(*curve, drawn > 0) | precision


def _at_rates(sensitivity: Floats, alarms: Floats, exists: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """(B, P) curves, best first → (B,) by name: the highest sensitivity that keeps to each of `RATES`."""
    at = [np.where(alarms <= rate, sensitivity, 0).max(axis=1, initial=0.0) for rate in RATES]
    return _named(np.stack(at, axis=1), exists)


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
    outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any], kind: int, kinds: int
) -> _Detections:
    """Every detection of a class, judged within its image; a patient with an output that is not finite has none."""
    whose, patients = of_patients(first_image), len(first_image) - 1
    images, most = outputs.shape[:2]
    axes, centres = labels.ndim - 2, labels[:, kind - 1] == 1
    fine = np.isfinite(outputs).all(axis=(1, 2)) & np.isfinite(labels).all(axis=tuple(range(1, labels.ndim)))
    usable = np.ones(patients, bool)
    usable[whose[~fine]] = False
    findings = np.bincount(whose, centres.sum(axis=tuple(range(1, axes + 1))), patients)
    own = (outputs[:, :, -1] == kind) & usable[whose][:, None]
    judged = {name: np.zeros((images, most), bool) for name in ("hit", "false", *_OVERLAPS)}
    for i in np.flatnonzero(own.any(axis=1)):
        places = np.argwhere(centres[i])
        sizes = labels[i, kinds:][(slice(None), *places.T)].T
        mine = own[i]
        found, span = outputs[i, mine, 1 : 1 + axes], outputs[i, mine, 1 + axes : 1 + 2 * axes]
        apart: Floats = (np.abs(found[:, None] - places) / np.maximum(sizes, 1e-12)).max(axis=2, initial=0)
        judged["hit"][i, mine] = _first_hits(-apart, -0.5)
        judged["false"][i, mine] = ~(apart <= 0.5).any(axis=1)
        overlap = _overlaps(found, span, places, sizes)
        for name, least in _OVERLAPS.items():
            judged[name][i, mine] = _first_hits(overlap, least)
    order = np.argsort(-np.where(own, outputs[:, :, 0], -np.inf).ravel(), kind="stable")[: own.sum()]
    flat = {name: one.ravel()[order] for name, one in judged.items()}
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


def _first_hits(fit: Floats, least: float) -> npt.NDArray[np.bool_]:
    """(detections, findings), best first → (detections,): each takes the finding that it fits best among the free ones."""
    free, first = np.ones(fit.shape[1], bool), np.zeros(len(fit), bool)
    for k, row in enumerate(fit):
        able = np.flatnonzero(free & (row >= least))
        if len(able):
            free[able[row[able].argmax()]] = False
            first[k] = True
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
