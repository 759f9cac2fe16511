"""Metrics as functions of counts, for many re-weightings of the same examples at once.

Every array has a leading axis B: one row for the data as they are, or one row per
bootstrap resample. The counts may be weights, or noisy and even negative: all metrics are
ratios of linear or bilinear forms, which noise of mean zero leaves centred. A ratio whose
denominator is not positive does not exist and is NaN *here*; no NaN leaves the package.

Definitions: Fawcett, "An introduction to ROC analysis" (2006); average precision as the
step-wise sum Σ (R_k − R_{k−1}) P_k, without interpolation (Davis & Goadrich 2006).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]

CONFUSION_METRICS = ("accuracy", "precision", "recall", "specificity", "f1")


def ratio(numerator: Counts, denominator: Counts) -> Counts:
    """Numerator ÷ denominator clipped to [0, 1]; NaN where the denominator is not positive."""
    exists = denominator > 0
    quotient = np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=exists)
    clipped: Counts = np.clip(quotient, 0.0, 1.0)
    return clipped


def auroc(positives: Counts, negatives: Counts) -> Counts:
    """Probability that a positive outscores a negative, a tie counting one half.

    Args:
        positives, negatives: (B, G) counts per distinct score, in ascending order of score.

    Returns:
        (B,); NaN where a class has no weight.
    """
    below = np.cumsum(negatives, axis=-1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(axis=-1)
    totals = positives.sum(axis=-1), negatives.sum(axis=-1)
    # Two negative totals would make a positive product: each has to be positive by itself.
    return ratio(wins, np.minimum(np.sign(totals[0]), np.sign(totals[1])) * np.abs(totals[0] * totals[1]))


def average_precision(positives: Counts, negatives: Counts) -> Counts:
    """Area under the precision–recall curve as a step-wise sum; arguments as in `auroc`.

    NaN where a class has no weight: without negatives any scores at all would reach 1.
    """
    hits = np.cumsum(positives[..., ::-1], axis=-1)
    called = hits + np.cumsum(negatives[..., ::-1], axis=-1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    area = ratio((precision * positives[..., ::-1]).sum(axis=-1), positives.sum(axis=-1))
    return np.where(negatives.sum(axis=-1) > 0, area, np.nan)


def mean_roc(groups: list[tuple[Counts, Counts]]) -> Counts:
    """The ROC curve averaged over classes at equal false positive rate; its area is the mean AUROC.

    Args:
        groups: per class, (1, G) positives and negatives in ascending order of score; no class empty.

    Returns:
        (points, 2): false and true positive rate from (0, 0) to (1, 1). A curve is vertical
        in places, so that the mean is taken of its lower and of its upper end there.
    """
    curves = []
    for positives, negatives in groups:
        rates = [np.cumsum(side[0, ::-1]) / side.sum() for side in (negatives, positives)]
        curves.append([np.concatenate([[0.0], rate]) for rate in rates])
    if len(curves) == 1:
        return np.stack(curves[0], axis=1)
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    ends = np.zeros((len(grid), 2))
    for false, true in curves:
        at, first = np.unique(false, return_index=True)
        last = np.append(first[1:], len(false)) - 1
        lower, upper = true[first], true[last]
        behind = np.searchsorted(at, grid, side="right") - 1
        ahead = np.minimum(behind + 1, len(at) - 1)
        width = np.where(ahead > behind, at[ahead] - at[behind], 1.0)
        between = upper[behind] + (lower[ahead] - upper[behind]) * (grid - at[behind]) / width
        met = at[behind] == grid
        ends += np.stack(
            [np.where(met, lower[behind], between), np.where(met, upper[behind], between)], axis=1
        )
    ends /= len(curves)
    points = np.stack([np.repeat(grid, 2), ends.ravel()], axis=1)
    distinct: Counts = points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]
    return distinct


def confusion_metrics(confusion: Counts) -> dict[str, Counts]:
    """Accuracy, precision, recall, specificity and F1.

    Args:
        confusion: (B, classes, classes), rows true. Two classes: the metrics are those of
            class 1. More: the unweighted mean over classes, each against the rest (macro);
            it exists only where it exists for every class.

    Returns:
        (B,) per name in `CONFUSION_METRICS`.
    """
    total = confusion.sum(axis=(-2, -1))
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, called = confusion.sum(axis=-1), confusion.sum(axis=-2)
    rejected = total[..., None] - true - called + right
    per_class = {
        "precision": ratio(right, called),
        "recall": ratio(right, true),
        "specificity": ratio(rejected, total[..., None] - true),
        "f1": ratio(2 * right, true + called),
    }
    of_interest = slice(1, 2) if confusion.shape[-1] == 2 else slice(None)
    macro = {name: values[..., of_interest].mean(axis=-1) for name, values in per_class.items()}
    return {"accuracy": ratio(right.sum(axis=-1), total), **macro}


def why_undefined(metric: str, confusion: Counts, least_true: float = 0.0, least_called: float = 0.0) -> str:
    """In words, why a metric does not exist on these counts.

    Args:
        confusion: (classes, classes), rows true.
        least_true, least_called: a class whose true, or predicted, total is not above this
            counts as absent; above zero where noise could feign a total.

    Returns:
        A sentence, or "" if nothing speaks against the metric.
    """
    true, called = confusion.sum(axis=1), confusion.sum(axis=0)
    classes = range(1, 2) if len(true) == 2 else range(len(true))
    noise = "" if least_true == 0 else ", as far as can be told through the noise"
    absent = [int(k) for k in np.flatnonzero(true <= least_true)]
    uncalled = [k for k in classes if called[k] <= least_called]
    if len(absent) == len(true):
        return f"there are no examples{noise}"
    if metric in {"auroc", "pr_auc"} and absent:
        return f"it needs examples of every class; class {absent[0]} has none{noise}"
    if metric == "recall" and set(absent) & set(classes):
        return f"class {min(set(absent) & set(classes))} has no examples{noise}"
    if metric == "specificity" and len(absent) == len(true) - 1:
        only = next(k for k in range(len(true)) if k not in absent)
        return "" if len(true) == 2 and only == 0 else f"there are no examples outside class {only}{noise}"
    if metric == "precision" and uncalled:
        return f"no example was predicted to be of class {uncalled[0]}{noise}"
    if metric == "f1" and set(absent) & set(uncalled):
        return f"class {min(set(absent) & set(uncalled))} neither occurs nor is predicted{noise}"
    return ""
