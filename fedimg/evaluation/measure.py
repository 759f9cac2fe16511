"""How each task is measured: by scores that are at hand, or by one released histogram of sites.

A measure is two halves that stand together: a patient's row of norm ≤ 1 at a site, and what their noised sum
says. Whatever the task, a release is one table of `shape`, so that charge, noise and secure sum know no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.evaluation.detection import Detection
from fedimg.evaluation.histograms import report_from_histograms, score_histograms
from fedimg.evaluation.multilabel import Multilabel
from fedimg.evaluation.patient_means import checked_table
from fedimg.evaluation.regression import Regression
from fedimg.evaluation.scores import evaluate_scores
from fedimg.evaluation.segmentation import Segmentation
from fedimg.values import EvaluationReport

Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]


class Measure(Protocol):
    """Of one task.

    Attributes:
        shape: (rows, bins) of a release. headline: the one figure that is followed by round.
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def headline(self) -> str: ...

    def rows(self, outputs: Array, labels: Array, first_image: Array) -> _Floats:
        """(U, rows · bins): each patient's, ≥ 0 and of L2 norm ≤ 1; zeros for one who cannot be scored."""
        ...

    def of_release(self, noised: _Floats, noise_std: float) -> EvaluationReport:
        """Of a noised sum of rows, (rows, bins); everything in it is post-processing."""
        ...

    def of_outputs(
        self, outputs: Array, labels: Array, first_image: Array, *, bootstrap: int, seed: int
    ) -> EvaluationReport:
        """Of outputs that the evaluating side holds itself, with intervals from resampling patients."""
        ...


@dataclass(frozen=True)
class Classification:
    """One class an image: see `score_histograms`, `report_from_histograms` and `evaluate_scores`."""

    classes: int
    bins: int
    headline: str = "auroc"

    @property
    def shape(self) -> tuple[int, int]:
        return self.classes, self.bins

    def rows(self, outputs: Array, labels: Array, first_image: Array) -> _Floats:
        return score_histograms(outputs, labels, first_image, self.bins)

    def of_release(self, noised: _Floats, noise_std: float) -> EvaluationReport:
        return report_from_histograms(checked_table(noised, self.shape, noise_std), noise_std)

    def of_outputs(
        self, outputs: Array, labels: Array, first_image: Array, *, bootstrap: int, seed: int
    ) -> EvaluationReport:
        return evaluate_scores(outputs, labels, first_image=first_image, bootstrap=bootstrap, seed=seed)


def measure_of(
    task: str,
    classes: int,
    bins: int,
    *,
    target_range: tuple[float, float] = (0.0, 1.0),
    voxel_mm: tuple[float, ...] | None = None,
) -> Measure:
    """The measure of a task by name; arguments as in `ModelConfig`, and the voxels' size where it is public.

    Raises ConfigError for a task without one.
    """
    if task == "classification":
        return Classification(classes, bins)
    if task == "multilabel":
        return Multilabel(classes, bins)
    if task == "regression":
        return Regression(target_range)
    if task == "segmentation":
        return Segmentation(classes, bins, voxel_mm)
    if task == "detection":
        return Detection(bins, classes - 1)
    raise ConfigError("a task that can be measured", task, "choose another model.task")
