"""Several findings an image, each there or not: every one measured like two classes, and their mean.

The release is a pair of score histograms for each finding, as `histograms` has them for two classes. A patient is
one count in each pair, so that a row divided by the root of the number of findings has norm ≤ 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.evaluation.histograms import report_from_histograms, score_histograms
from fedimg.evaluation.patient_means import Floats, checked_table
from fedimg.evaluation.scores import evaluate_scores
from fedimg.values import EvaluationReport, Interval


@dataclass(frozen=True)
class Multilabel:
    """Attributes: findings: their number K. bins: of each histogram."""

    findings: int
    bins: int
    headline: str = "auroc"

    @property
    def shape(self) -> tuple[int, int]:
        return 2 * self.findings, self.bins

    def rows(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], first_image: npt.NDArray[Any]
    ) -> Floats:
        pairs = [
            score_histograms(_two(outputs[:, k]), _index(labels[:, k]), first_image, self.bins)
            for k in range(self.findings)
        ]
        return np.asarray(np.concatenate(pairs, axis=1) / np.sqrt(self.findings), dtype=np.float64)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        scale = np.sqrt(self.findings)
        table = checked_table(noised, self.shape, noise_std) * scale
        pairs = table.reshape(self.findings, 2, self.bins)
        return _mean([report_from_histograms(pair, noise_std * scale) for pair in pairs])

    def of_outputs(
        self,
        outputs: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        first_image: npt.NDArray[Any],
        *,
        bootstrap: int,
        seed: int,
    ) -> EvaluationReport:
        each = [
            evaluate_scores(
                _two(outputs[:, k]),
                _index(labels[:, k]),
                first_image=first_image,
                bootstrap=bootstrap,
                seed=seed,
            )
            for k in range(self.findings)
        ]
        return _mean(each)


def _two(probability: Floats) -> Floats:
    return np.stack([1 - probability, probability], axis=1)


def _index(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """−1, which is no class, for a label that is neither 0 nor 1."""
    return np.where((labels == 0) | (labels == 1), labels, -1).astype(np.int64)


def _mean(reports: Sequence[EvaluationReport]) -> EvaluationReport:
    """Means over findings, of those metrics that all of them have, and each finding's own AUROC.

    The mean's interval is the mean of the intervals: wider than it has to be, since findings do not err alike.
    """
    kept: dict[str, Interval] = {}
    omitted: dict[str, str] = {}
    for name in dict.fromkeys(name for one in reports for name in (*one.metrics, *one.omitted)):
        own = [one.metrics[name] for one in reports if name in one.metrics]
        if len(own) == len(reports):
            ends = np.mean([[i.value, i.low, i.high] for i in own], axis=0)
            kept[name] = Interval(*(float(end) for end in ends))
        else:
            omitted[name] = next(one.omitted[name] for one in reports if name in one.omitted)
    each: Mapping[str, Interval] = {
        f"auroc_{k}": one.metrics["auroc"] for k, one in enumerate(reports) if "auroc" in one.metrics
    }
    findings = len(reports)
    return replace(
        reports[0],
        metrics=kept | dict(each),
        omitted=omitted,
        confusion=np.zeros((findings, findings), np.int64),
        roc=np.zeros((0, 2)),
        reliability=np.zeros((0, 3)),
    )
