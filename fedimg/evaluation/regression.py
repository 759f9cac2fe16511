"""A number an image: mean absolute error, root mean squared error, bias and R² (−1 where it is less).

The release is six sums over patients: how many, and of the means over each one's images the absolute error, the
squared error, the half of 1 + error (which carries its sign), the true number and its square, all as shares of the
public range. An error beyond the range counts as the whole of it. A row's six entries are in [0, 1], so that divided
by √6 it has norm ≤ 1.
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
    quotient,
    redrawn,
    report,
    resampled,
    usable_only,
)
from fedimg.values import EvaluationReport

# Of a patient: one, |error|, error² , the half of 1 + error, truth, truth².
_ENTRIES = 6
_SCALE = np.sqrt(_ENTRIES)


@dataclass(frozen=True)
class Regression:
    """Attributes: target_range: public, as `ModelConfig.target_range`; outputs and labels are shares of it."""

    target_range: tuple[float, float]
    headline: str = "mae"

    @property
    def shape(self) -> tuple[int, int]:
        return 1, _ENTRIES

    @property
    def _width(self) -> float:
        return self.target_range[1] - self.target_range[0]

    def rows(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
    ) -> Floats:
        return np.asarray(_moments(outputs, labels, first_image) / _SCALE, dtype=np.float64)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        table, std = checked_table(noised, self.shape, noise_std) * _SCALE, noise_std * _SCALE
        patients = float(table[0, 0])
        # each entry of a patient is in [0, 1]: a sum of so many varies by at most a quarter of their number
        variance = np.full(self.shape, max(0.0, patients) / 4)
        variance[0, 0] = 0.0
        found = redrawn(self._of_sums, table, std, variance, self._ends)
        if not patients > DEVIATIONS * std:
            found = {}
        omitted = {name: TOO_FEW for name in self._of_sums(table[None]) if name not in found}
        return report("sites", max(0, round(patients)), found, omitted, 1)

    def of_outputs(
        self,
        outputs: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        first_image: npt.NDArray[Any],
        *,
        bootstrap: int,
        seed: int,
    ) -> EvaluationReport:
        moments = _moments(outputs, labels, first_image)

        def metrics(weights: Floats) -> Mapping[str, Floats]:
            return self._of_sums((weights @ moments)[:, None])

        found, omitted = resampled(metrics, len(moments), bootstrap, seed, self._ends)
        found, omitted = usable_only(found, omitted, moments[:, 0] != 0)
        return report("public", len(labels), found, omitted, 1)

    @property
    def _ends(self) -> dict[str, tuple[float, float]]:
        errors = dict.fromkeys(("mae", "rmse"), (0.0, self._width))
        return errors | {"bias": (-self._width, self._width), "r2": (-1.0, 1.0)}

    def _of_sums(self, tables: Floats) -> dict[str, Floats]:
        count, absolute, squared, half, truth, square = np.moveaxis(tables[:, 0], 1, 0)
        mean = quotient(truth, count)
        spread = quotient(square, count) - mean**2
        error = np.maximum(quotient(squared, count), 0)
        return {
            "mae": np.maximum(quotient(absolute, count), 0) * self._width,
            "rmse": np.sqrt(error) * self._width,
            "bias": (2 * quotient(half, count) - 1) * self._width,
            "r2": np.clip(1 - quotient(error, np.where(spread > 1e-12, spread, 0.0)), -1, 1),
        }


def _moments(outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]) -> Floats:
    """(U, entries); zeros for a patient without images, or with a number that is not finite."""
    predicted, truth = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    whose, patients = of_patients(first_image), len(first_image) - 1
    fine = np.isfinite(predicted) & np.isfinite(truth)
    error = np.clip(np.where(fine, predicted - truth, 0.0), -1, 1)
    truth = np.clip(np.where(fine, truth, 0.0), 0, 1)
    each = np.stack([np.ones(len(error)), abs(error), error**2, (1 + error) / 2, truth, truth**2], axis=1)
    usable = np.diff(first_image) > 0
    usable[whose[~fine]] = False
    rows = np.zeros((patients, _ENTRIES))
    np.add.at(rows, whose, each)
    rows /= np.maximum(np.diff(first_image), 1)[:, None]
    rows[~usable] = 0.0
    return np.minimum(rows, 1.0)
