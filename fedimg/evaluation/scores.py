"""The metrics of a model's scores on examples that the evaluating side holds itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.evaluation import counts
from fedimg.evaluation.intervals import patient_weights, percentile_interval
from fedimg.values import EvaluationReport, Interval

RELIABILITY_BINS = 10
METRICS = ("auroc", "pr_auc", *counts.CONFUSION_METRICS, "brier", "ece")
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Scored:
    """What does not change from one resample to the next.

    Attributes:
        rankings: per class of interest: the order of its scores, where each distinct score
            begins in that order, and the examples of the class.
        cell: (N, classes²) one-hot of (true, predicted).
        squared_error: (N,) Brier loss. certainty, hit: (N,) a probability, and whether what
            it was given to came true. certainty_bin: (N, bins) one-hot.
    """

    classes: int
    rankings: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]], ...]
    cell: _Floats
    squared_error: _Floats
    certainty: _Floats
    hit: _Floats
    certainty_bin: _Floats

    @classmethod
    def of(cls, probabilities: _Floats, labels: npt.NDArray[np.int64], threshold: float) -> _Scored:
        classes = probabilities.shape[1]
        error = ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1)
        if classes == 2:
            predicted = (probabilities[:, 1] >= threshold).astype(np.int64)
            certainty, hit = probabilities[:, 1], (labels == 1).astype(np.float64)
            error = (probabilities[:, 1] - hit) ** 2
        else:
            predicted = probabilities.argmax(axis=1)
            certainty, hit = probabilities.max(axis=1), (predicted == labels).astype(np.float64)
        bins = np.minimum((certainty * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
        return cls(
            classes,
            tuple(
                _ranking(probabilities[:, k], labels == k) for k in range(1 if classes == 2 else 0, classes)
            ),
            np.eye(classes * classes)[labels * classes + predicted],
            error,
            certainty,
            hit,
            np.eye(RELIABILITY_BINS)[bins],
        )

    def confusion(self, weights: _Floats) -> _Floats:
        """(B, classes, classes), rows true."""
        return (weights @ self.cell).reshape(-1, self.classes, self.classes)

    def grouped(self, weights: _Floats) -> list[tuple[_Floats, _Floats]]:
        """Positives and negatives per distinct score, ascending, for each class of interest."""
        groups = []
        for order, starts, positive in self.rankings:
            ordered = weights[:, order]
            hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
            groups.append((hits, np.add.reduceat(ordered, starts, axis=1) - hits))
        return groups

    def reliability(self, weights: _Floats) -> tuple[_Floats, _Floats, _Floats]:
        """Summed probability, summed outcome and weight per bin, each (B, bins)."""
        columns = (self.certainty, self.hit, np.ones_like(self.hit))
        summed = [weights @ (self.certainty_bin * column[:, None]) for column in columns]
        return summed[0], summed[1], summed[2]

    def metrics(self, weights: _Floats) -> dict[str, _Floats]:
        """Every metric for each row of weights (B, N); NaN where it does not exist."""
        groups = self.grouped(weights)
        expected, observed, _ = self.reliability(weights)
        total = weights.sum(axis=1)
        return {
            "auroc": np.mean([counts.auroc(*group) for group in groups], axis=0),
            "pr_auc": np.mean([counts.average_precision(*group) for group in groups], axis=0),
            **counts.confusion_metrics(self.confusion(weights)),
            "brier": (weights @ self.squared_error) / total,
            "ece": np.abs(expected - observed).sum(axis=1) / total,
        }


def _ranking(
    scores: _Floats, positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts, positive


def evaluate_scores(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    first_image: npt.ArrayLike | None = None,
    threshold: float = 0.5,
    bootstrap: int = 1000,
    seed: int = 0,
) -> EvaluationReport:
    """Every metric of a set of scores, with 95 % intervals.

    Two classes: class 1 is the positive one, predicted where its probability reaches
    `threshold`. More: the most probable class is predicted, `threshold` is not used, and
    AUROC, PR-AUC, precision, recall, specificity and F1 are unweighted means over the
    classes, each against the rest. The Brier score is the mean squared error of class 1's
    probability, or of the whole vector for more classes (so within [0, 2]). ECE and the
    reliability curve take ten equal bins of class 1's probability, or of the predicted
    class's for more classes.

    Args:
        probabilities: (N, classes), rows summing to one. labels: (N,) class indices.
        first_image: (U + 1,) where each patient's images begin, as in `SiteDataset`; the
            intervals then resample patients. Without it each example is its own patient.
        bootstrap: number of resamples; 0 leaves the intervals at their widest.
        seed: of the resampling; the same seed gives the same intervals.

    Returns:
        A report of source "public". A metric that does not exist on these examples (a set
        of one class has no AUROC) stands in `omitted` with the reason, never as NaN; so
        does every metric where the model's scores are not finite.

    Raises:
        DataError: arrays that do not fit together, or rows that are not probabilities.
    """
    p, y, first = _checked(probabilities, labels, first_image)
    classes = p.shape[1]
    unusable = int((~np.isfinite(p).all(axis=1)).sum())
    if unusable or len(y) == 0:
        reason = f"the model's scores are not finite for {unusable} of {len(y)} examples"
        omitted = dict.fromkeys(METRICS, reason if unusable else "there are no examples")
        return EvaluationReport("public", len(y), {}, np.zeros((classes, classes), np.int64), omitted=omitted)
    scored = _Scored.of(p, y, threshold)
    once = np.ones((1, len(y)))
    point = {name: float(values[0]) for name, values in scored.metrics(once).items()}
    confusion = scored.confusion(once)[0]
    chunks = [
        scored.metrics(weights)
        for weights in patient_weights(first, bootstrap, np.random.default_rng(seed))
        if weights.shape[1]
    ]
    patients = int((np.diff(first) > 0).sum())
    metrics: dict[str, Interval] = {}
    omitted = {}
    for name, value in point.items():
        if not np.isfinite(value):
            omitted[name] = counts.why_undefined(name, confusion)
            continue
        resampled = np.concatenate([chunk[name] for chunk in chunks]) if chunks else np.zeros(0)
        upper = 2.0 if name == "brier" and classes > 2 else 1.0
        metrics[name] = percentile_interval(value, resampled, upper, independent=patients)
    curve = counts.mean_roc(scored.grouped(once)) if "auroc" in metrics else np.zeros((0, 2))
    expected, observed, weight = (column[0] for column in scored.reliability(once))
    used = weight > 0
    reliability = np.stack(
        [expected[used] / weight[used], observed[used] / weight[used], weight[used]], axis=1
    )
    return EvaluationReport(
        "public", len(y), metrics, np.rint(confusion).astype(np.int64), curve, reliability, omitted
    )


def _checked(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, first_image: npt.ArrayLike | None
) -> tuple[_Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    remedy = "pass the softmax of the model's outputs and one class index for each row"
    if p.ndim != 2 or p.shape[1] < 2 or y.shape != p.shape[:1] or y.dtype.kind not in "iu":
        raise DataError("probabilities (N, classes) and labels (N,)", f"{p.shape} and {y.shape}", remedy)
    y = y.astype(np.int64)
    if len(y) and (y.min() < 0 or y.max() >= p.shape[1]):
        raise DataError(f"labels below {p.shape[1]}", f"labels from {y.min()} to {y.max()}", remedy)
    rows = p[np.isfinite(p).all(axis=1)]
    if ((rows < 0) | (rows > 1)).any() or (np.abs(rows.sum(axis=1) - 1) > 1e-3).any():
        raise DataError("rows of probabilities that sum to one", "rows that do not", remedy)
    first = np.arange(len(y) + 1) if first_image is None else np.asarray(first_image)
    first = first.astype(np.int64)
    if (
        first.ndim != 1
        or not len(first)
        or first[0] != 0
        or first[-1] != len(y)
        or (np.diff(first) < 0).any()
    ):
        raise DataError(
            f"first_image rising from 0 to {len(y)}", "other positions", "pass SiteDataset.first_image"
        )
    return p, y, first
