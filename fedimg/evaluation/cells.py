"""Score cells: into which of a fixed number of bins a patient's scores fall, and what the bins say.

What a score cell is. Two classes: a bin of class 1's probability, equal steps of its logit from
−7 to 7 and a bin beyond at either end: the scores of an overconfident model lie close to 0 and 1,
where equal steps of probability would take them all for one. More classes: the whole probability
vector will not fit into one histogram, so it is reduced to the predicted class and the level of
its probability, cell = predicted · levels + level, with levels = bins // classes equal steps from
1/classes to 1 (left-over bins stay unused). The confusion matrix, and all that is read from it, is
exact in both. The AUROC and PR-AUC of more than two classes are those of the reduced score, which
spreads what the predicted class leaves evenly over the other classes:
p_k ≈ (1 − p_predicted) / (classes − 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.evaluation import counts

_FARTHEST_LOGIT = 7.0
_Floats = npt.NDArray[np.float64]


def histogram_bins(classes: int) -> int:
    """A good number of bins: 20 for two classes, four levels of each predicted class for more."""
    return 20 if classes == 2 else 4 * classes


@dataclass(frozen=True)
class Cells:
    """The meaning of the score cells, public and fixed before any data is seen."""

    classes: int
    bins: int

    def __post_init__(self) -> None:
        if self.classes < 2 or self.bins < max(2, self.classes):
            raise ConfigError(
                f"two classes or more and at least {max(2, self.classes)} bins",
                f"{self.classes} classes, {self.bins} bins",
                f"set the number of histogram bins to {histogram_bins(max(2, self.classes))}",
            )

    @property
    def levels(self) -> int:
        return self.bins // self.classes

    @property
    def edges(self) -> _Floats:
        """(bins − 1,) of two classes: the inner edges in class 1's probability, ascending; one half among them
        if the number of bins is even.
        """
        inner: _Floats = _sigmoid(self._logits())
        return inner

    def _logits(self) -> _Floats:
        inner = self.bins - 1
        return np.linspace(-_FARTHEST_LOGIT, _FARTHEST_LOGIT, inner) if inner > 1 else np.zeros(1)

    def of(self, probabilities: _Floats) -> npt.NDArray[np.int64]:
        """(N,) cell of each row of (N, classes) finite probabilities."""
        if self.classes == 2:
            return np.searchsorted(self.edges, probabilities[:, 1], side="right").astype(np.int64)
        floor = 1 / self.classes
        step = (probabilities.max(axis=1) - floor) / (1 - floor) * self.levels
        level = np.clip(step.astype(np.int64), 0, self.levels - 1)
        cell: npt.NDArray[np.int64] = probabilities.argmax(axis=1) * self.levels + level
        return cell

    def predicted(self, threshold: float) -> npt.NDArray[np.int64]:
        """(bins,) class predicted in each cell; −1 where no score falls."""
        cell = np.arange(self.bins)
        if self.classes == 2:
            return (cell > int(np.argmin(np.abs(self.edges - threshold)))).astype(np.int64)
        return np.where(cell < self.classes * self.levels, cell // self.levels, -1)

    def score(self, k: int) -> _Floats:
        """(bins,) the probability of class k that each cell stands for (its middle)."""
        cell = np.arange(self.bins)
        if self.classes == 2:
            logits = self._logits()
            step = logits[1] - logits[0] if len(logits) > 1 else _FARTHEST_LOGIT
            middle = _sigmoid(np.append(logits - step / 2, logits[-1] + step / 2))
            return middle if k == 1 else 1 - middle
        floor = 1 / self.classes
        middle = floor + (cell % self.levels + 0.5) / self.levels * (1 - floor)
        return np.where(self.predicted(0.5) == k, middle, (1 - middle) / (self.classes - 1))

    def grouped(self, histograms: _Floats) -> list[tuple[_Floats, _Floats]]:
        """(B, G) positives and negatives per distinct score, ascending, for each class of interest."""
        used = self.predicted(0.5) >= 0
        groups = []
        for k in range(1 if self.classes == 2 else 0, self.classes):
            # Scores that differ in the last bit only are one score.
            _, group = np.unique(np.round(self.score(k)[used], 12), return_inverse=True)
            gather = np.eye(int(group.max()) + 1)[group]
            positives = histograms[:, k][:, used] @ gather
            groups.append((positives, histograms[:, :, used].sum(axis=1) @ gather - positives))
        return groups

    def confusion(self, histograms: _Floats, threshold: float) -> _Floats:
        """(B, classes, classes), rows true; no count below zero, each row with the total of its noisy counts.

        One table, so that what is shown and every metric read from it agree with each other.
        """
        predicted = self.predicted(threshold)
        return _on_simplex(histograms @ (predicted[:, None] == np.arange(self.classes)).astype(np.float64))

    def metrics(self, histograms: _Floats, threshold: float) -> dict[str, _Floats]:
        """(B,) per metric, from (B, classes, bins); NaN where it does not exist."""
        groups = self.grouped(histograms)
        metrics = {
            "auroc": np.mean([counts.auroc(*group) for group in groups], axis=0),
            "pr_auc": np.mean([counts.average_precision(*group) for group in groups], axis=0),
            **counts.confusion_metrics(self.confusion(histograms, threshold)),
        }
        if self.classes == 2:
            loss = np.stack([self.score(1) ** 2, self.score(0) ** 2])
            total = histograms.sum(axis=(1, 2))
            metrics["brier"] = counts.ratio((histograms * loss).sum(axis=(1, 2)), total)
        return metrics


def _sigmoid(logits: _Floats) -> _Floats:
    probabilities: _Floats = 1 / (1 + np.exp(-logits))
    return probabilities


def _on_simplex(rows: _Floats) -> _Floats:
    """The nearest rows of counts ≥ 0 with the same totals; a total below zero is zero.

    The Euclidean projection: one number is taken off every count of a row, and what falls below zero
    is zero (Duchi et al. 2008, figure 1). Counts that are not negative come back as they are.
    """
    total = np.maximum(rows.sum(axis=-1, keepdims=True), 0)
    descending = np.sort(rows, axis=-1)[..., ::-1]
    excess = (np.cumsum(descending, axis=-1) - total) / np.arange(1, rows.shape[-1] + 1)
    kept = np.maximum((descending > excess).sum(axis=-1, keepdims=True), 1)
    nearest: _Floats = np.maximum(rows - np.maximum(np.take_along_axis(excess, kept - 1, axis=-1), 0), 0)
    return nearest
