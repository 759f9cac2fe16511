"""Segmentation: overlap of what is drawn and what is found, patient by patient.

Dice and IoU of a class are taken over all of a patient's images together (a lesion's first and last slice hold
few voxels, and would count as much as its middle), in patients who have the class; HD95 is the larger of the two
95th percentiles of distances between the surfaces (Maier-Hein et al. 2024, arXiv 2206.01653), the mean over a
patient's images that have both. Of patients without any finding, specificity is the share in whom none was found;
recall of those with one the share in whom some of it was.

The release: a patient is one count in the histogram of Dice of each class that they have, or, having none, one in
row 0, whose first bin says that nothing was found. At most classes − 1 counts a patient, so that a row divided by
its root has norm ≤ 1. IoU = Dice ÷ (2 − Dice) follows from it; distances do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

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
    weighted_mean,
)
from fedimg.values import EvaluationReport

_HIDDEN = "the release holds overlaps, not distances"
Maps = npt.NDArray[Any]


@dataclass(frozen=True)
class Overlap:
    """By patient: dice (U, classes − 1), NaN without the class; `false` (U,) share of voxels found in patients
    without any finding, NaN in others; `usable` (U,).
    """

    dice: Floats
    false: Floats
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Segmentation:
    """Attributes: voxel_mm: size of a voxel where it is public; None gives distances in voxels."""

    classes: int
    bins: int
    voxel_mm: tuple[float, ...] | None = None
    headline: str = "dice"

    @property
    def shape(self) -> tuple[int, int]:
        return self.classes, self.bins

    def rows(self, outputs: Maps, labels: Maps, first_image: Maps) -> Floats:
        found = _overlap(outputs, labels, first_image, self.classes)
        rows = np.zeros((len(found.usable), *self.shape))
        for k in range(1, self.classes):
            has = np.flatnonzero(found.usable & np.isfinite(found.dice[:, k - 1]))
            rows[has, k, self._bin(found.dice[has, k - 1])] = 1.0
        without = np.flatnonzero(found.usable & np.isfinite(found.false))
        rows[without, 0, self._bin(found.false[without])] = 1.0
        return np.asarray(
            rows.reshape(len(rows), self.classes * self.bins) / np.sqrt(self.classes - 1), dtype=np.float64
        )

    def _bin(self, shares: Floats) -> npt.NDArray[np.int64]:
        """0 for nothing at all, then equal parts of (0, 1]."""
        inner = np.minimum((shares * (self.bins - 1)).astype(np.int64), self.bins - 2)
        return np.where(shares > 0, 1 + inner, 0)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        scale = np.sqrt(self.classes - 1)
        table, std = checked_table(noised, self.shape, noise_std) * scale, noise_std * scale
        middle = np.concatenate([[0.0], (np.arange(self.bins - 1) + 0.5) / (self.bins - 1)])

        def metrics(tables: Floats) -> dict[str, Floats]:
            drawn, total = tables[:, 1:], tables[:, 1:].sum(axis=2)
            each = {
                "dice": drawn @ middle,
                "iou": drawn @ (middle / (2 - middle)),
                "recall": drawn[..., 1:].sum(2),
            }
            found = {name: np.clip(quotient(sums, total), 0, 1) for name, sums in each.items()}
            whole = {name: values.mean(axis=1) for name, values in found.items()}
            free = np.clip(quotient(tables[:, 0, 0], tables[:, 0].sum(axis=1)), 0, 1)
            return whole | self._by_class(found["dice"].T) | {"specificity": free}

        least = DEVIATIONS * std * np.sqrt(self.bins)
        stands = table.sum(axis=1) > least
        found = redrawn(metrics, table, std, table)
        kept = {
            name: value
            for name, value in found.items()
            if (stands[0] if name == "specificity" else self._stands(name, stands))
        }
        omitted = {name: TOO_FEW for name in metrics(table[None]) if name not in kept} | {self._hd95: _HIDDEN}
        # of several classes a patient may stand in several rows
        patients = float(table.sum() if self.classes == 2 else table[0].sum() + table[1:].sum(axis=1).max())
        return report("sites", max(0, round(patients)), kept, omitted, self.classes)

    def _stands(self, name: str, stands: npt.NDArray[np.bool_]) -> bool:
        number = name.rpartition("_")[2]
        return bool(stands[int(number)] if number.isdigit() else stands[1:].all())

    def of_outputs(
        self, outputs: Maps, labels: Maps, first_image: Maps, *, bootstrap: int, seed: int
    ) -> EvaluationReport:
        found = _overlap(outputs, labels, first_image, self.classes)
        distance = (
            self._distances(outputs, labels, first_image) if bootstrap else np.full_like(found.dice, np.nan)
        )
        hit = np.where(np.isfinite(found.dice), found.dice > 0, np.nan)
        free = np.where(np.isfinite(found.false), found.false == 0, np.nan)

        def metrics(weights: Floats) -> dict[str, Floats]:
            def mean(values: Floats) -> Floats:
                return np.stack([weighted_mean(column, weights) for column in values.T])

            dice, iou = mean(found.dice), mean(found.dice / (2 - found.dice))
            means: dict[str, Floats] = {"dice": dice.mean(axis=0), "iou": iou.mean(axis=0)}
            means |= self._by_class(dice)
            means |= {"recall": mean(hit).mean(axis=0), "specificity": weighted_mean(free, weights)}
            return means | {self._hd95: mean(distance).mean(axis=0)}

        longest = float(np.linalg.norm(np.array(labels.shape[1:]) * np.array(self.voxel_mm or (1.0,))))
        kept, omitted = resampled(metrics, len(found.dice), bootstrap, seed, {self._hd95: (0.0, longest)})
        kept, omitted = usable_only(kept, omitted, found.usable)
        if not bootstrap:
            omitted.pop(self._hd95, None)
        return report("public", len(labels), kept, omitted, self.classes)

    def _by_class(self, dice: Floats) -> dict[str, Floats]:
        """Of several classes each one's own, (classes − 1, B)."""
        return {f"dice_{k}": own for k, own in enumerate(dice, start=1)} if self.classes > 2 else {}

    @property
    def _hd95(self) -> str:
        return "hd95_mm" if self.voxel_mm else "hd95_voxels"

    def _distances(self, outputs: Maps, labels: Maps, first_image: Maps) -> Floats:
        """(U, classes − 1): the mean HD95 over a patient's images that have the class and where it was found."""
        step = self.voxel_mm or (1.0,) * (labels.ndim - 1)
        found = np.full((len(first_image) - 1, self.classes - 1), np.nan)
        for patient in range(len(found)):
            own = range(int(first_image[patient]), int(first_image[patient + 1]))
            for k in range(1, self.classes):
                each = [hd95(outputs[i] == k, labels[i] == k, step) for i in own]
                there = [one for one in each if one is not None]
                found[patient, k - 1] = np.mean(there) if there else np.nan
        return found


def _overlap(outputs: Maps, labels: Maps, first_image: Maps, classes: int) -> Overlap:
    """Counts of voxels by patient; a patient with an output or label that is no class counts nothing."""
    patients, whose = len(first_image) - 1, of_patients(first_image)
    axes = tuple(range(1, labels.ndim))
    fine = (outputs >= 0).all(axis=axes) & ((labels >= 0) & (labels < classes)).all(axis=axes)
    usable = np.ones(patients, bool)
    usable[whose[~fine]] = False

    def by_patient(maps: Maps) -> Floats:
        return np.bincount(whose, maps.sum(axis=axes), patients).astype(np.float64)

    dice = np.full((patients, classes - 1), np.nan)
    for k in range(1, classes):
        drawn, found = by_patient(labels == k), by_patient(outputs == k)
        both = by_patient((labels == k) & (outputs == k))
        np.divide(2 * both, drawn + found, out=dice[:, k - 1], where=usable & (drawn > 0))
    voxels = np.diff(first_image) * np.prod(labels.shape[1:])
    without = usable & (by_patient(labels > 0) == 0) & (voxels > 0)
    false = np.full(patients, np.nan)
    np.divide(by_patient(outputs > 0), voxels, out=false, where=without)
    return Overlap(dice, false, usable)


def hd95(found: Maps, drawn: Maps, step: tuple[float, ...]) -> float | None:
    """The larger 95th percentile of surface distances, in units of `step`; None where either is empty."""
    if not found.any() or not drawn.any():
        return None
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (found, drawn)]
    far = [ndimage.distance_transform_edt(~surface, sampling=step) for surface in surfaces]
    return float(max(np.percentile(far[1][surfaces[0]], 95), np.percentile(far[0][surfaces[1]], 95)))
