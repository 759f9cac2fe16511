"""Score histograms: all that a site says about the model's performance, in one noised release.

Each patient is a vector of L2 norm ≤ 1 over (true class, score cell); their sum, noised, is
the release (`privacy.md` §2). Everything here after the noise is post-processing of it and
costs no privacy. Counts are in patients: a patient's images share one unit.

What a score cell is. Two classes: a bin of class 1's probability, equal steps of its logit from
−7 to 7 and a bin beyond at either end: the scores of an overconfident model lie close to 0 and 1,
where equal steps of probability would take them all for one. More classes: the whole probability vector will not fit into one histogram, so it is reduced to the predicted
class and the level of its probability, cell = predicted · levels + level, with
levels = bins // classes equal steps from 1/classes to 1 (left-over bins stay unused). The
confusion matrix, and all that is read from it, is exact in both. The AUROC and PR-AUC of more
than two classes are those of the reduced score, which spreads what the predicted class leaves
evenly over the other classes: p_k ≈ (1 − p_predicted) / (classes − 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError, DataError
from fedimg.evaluation import counts
from fedimg.evaluation.intervals import percentile_interval
from fedimg.values import EvaluationReport, Interval

# A total that is not above this many standard deviations of its own noise is taken for absent:
# noise alone passes it once in 740.
_DEVIATIONS = 3.0
_FARTHEST_LOGIT = 7.0
_ECE_REASON = "the absolute differences of noised counts would be biased upwards"
_BRIER_REASON = "the released histograms do not hold the whole probability vector"
_Floats = npt.NDArray[np.float64]


def histogram_bins(classes: int) -> int:
    """A good number of bins: 20 for two classes, four levels of each predicted class for more."""
    return 20 if classes == 2 else 4 * classes


@dataclass(frozen=True)
class _Cells:
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


def score_histograms(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, first_image: npt.ArrayLike, bins: int
) -> _Floats:
    """One vector per patient over (true class, score cell), the mean over the patient's images.

    A patient with an image whose scores or label cannot be used contributes zero: the release
    must not tell of it, nor fail on one patient.

    Args:
        probabilities: (N, classes). labels: (N,). first_image: (U + 1,), as in `SiteDataset`.
        bins: score cells per class.

    Returns:
        (U, classes · bins) float64, each row ≥ 0 with L1 norm, hence L2 norm, ≤ 1.

    Raises:
        DataError: arrays whose shapes do not fit together.
        ConfigError: fewer bins than the classes need.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    first = np.asarray(first_image, dtype=np.int64)
    if p.ndim != 2 or y.shape != p.shape[:1] or first.ndim != 1 or len(first) == 0 or first[-1] != len(y):
        raise DataError(
            "probabilities (N, classes), labels (N,) and first_image (U + 1,) ending at N",
            "arrays of other shapes",
            "pass the scores, labels and first_image of one SiteDataset",
        )
    classes = p.shape[1]
    cells = _Cells(classes, bins)
    patient = np.repeat(np.arange(len(first) - 1), np.diff(first))
    # The comparison is false for NaN too.
    usable = ((p >= 0) & (p <= 1 + 1e-6)).all(axis=1) & (y >= 0) & (y < classes)
    share = 1.0 / np.maximum(np.diff(first), 1)
    share[patient[~usable]] = 0.0
    vectors = np.zeros((len(first) - 1, classes, bins))
    where = patient[usable], y[usable], cells.of(p[usable])
    np.add.at(vectors, where, share[patient[usable]])
    # Sums of 1/n can exceed 1 in the last bit; the bound is to hold exactly.
    sums = vectors.sum(axis=(1, 2), keepdims=True)
    vectors /= np.where(sums > 1, sums * (1 + 1e-15), 1.0)
    return vectors.reshape(len(first) - 1, classes * bins)


def report_from_histograms(
    noised: npt.ArrayLike, noise_std: float, *, threshold: float = 0.5, bootstrap: int = 1000, seed: int = 0
) -> EvaluationReport:
    """Every metric that noised score histograms allow, with intervals that account for the noise.

    Into AUROC, PR-AUC and Brier score the noisy counts enter as they are, negative ones too: setting
    them to zero would bias these. What is read at a threshold comes from one table of counts ≥ 0, the
    one that is shown. Only the drawn ROC curve is made monotone. The 95 % intervals come from a
    parametric bootstrap: each cell is redrawn as normal around its noisy count, with the
    variance of the noise plus that of a Poisson count of patients.

    Args:
        noised: (classes, bins): one site's release or the sum of several.
        noise_std: standard deviation of the noise in each cell (of the sum: √sites times
            each site's); 0 for histograms without noise.
        threshold: two classes: taken at the nearest edge of a bin.
        bootstrap: number of resamples. seed: of the bootstrap; it protects nothing.

    Returns:
        A report of source "sites"; `examples`, `confusion` and the weights of `reliability`
        are noisy numbers of patients. A metric whose denominator cannot be told from
        nothing through the noise stands in `omitted` with the reason.

    Raises:
        DataError: values that are not finite or of no such shape.
        ConfigError: fewer bins than the classes need.
    """
    h = np.asarray(noised, dtype=np.float64)
    if h.ndim != 2 or not np.isfinite(h).all() or not (np.isfinite(noise_std) and noise_std >= 0):
        raise DataError(
            "finite histograms (classes, bins) and their noise_std ≥ 0",
            f"an array of shape {h.shape}, or values that are not finite",
            "reshape the released vector to (classes, bins)",
        )
    cells = _Cells(*h.shape)
    confusion = cells.confusion(h[None], threshold)[0]
    generator = np.random.default_rng(seed)
    spread = np.sqrt(noise_std**2 + np.maximum(h, 0))
    redrawn = cells.metrics(h + spread * generator.standard_normal((bootstrap, *h.shape)), threshold)
    metrics: dict[str, Interval] = {}
    omitted = {"ece": _ECE_REASON} | ({} if cells.classes == 2 else {"brier": _BRIER_REASON})
    for name, values in cells.metrics(h[None], threshold).items():
        reason = _why_omitted(cells, name, confusion, noise_std)
        if reason or not np.isfinite(values[0]):
            omitted[name] = reason or "a noisy total that it is divided by is not positive"
        else:
            metrics[name] = percentile_interval(float(values[0]), redrawn[name])
    return EvaluationReport(
        "sites",
        round(float(confusion.sum())),
        metrics,
        np.rint(confusion).astype(np.int64),
        counts.mean_roc(cells.grouped(_monotone(h)[None])) if "auroc" in metrics else np.zeros((0, 2)),
        _reliability(cells, h, noise_std),
        omitted,
    )


def _why_omitted(cells: _Cells, metric: str, confusion: _Floats, noise_std: float) -> str:
    """Why a metric is not shown; "" if it is. Totals have to stand out of their own noise."""
    deviation = _DEVIATIONS * noise_std
    # So many cells at most are added up to the number predicted to be of one class.
    called_cells = cells.classes * (cells.bins if cells.classes == 2 else cells.levels)
    least_true, least_called = deviation * np.sqrt(cells.bins), deviation * np.sqrt(called_cells)
    if metric in {"accuracy", "brier"}:
        stands_out = confusion.sum() > deviation * np.sqrt(cells.classes * cells.bins)
        return "" if stands_out else "there are no examples, as far as can be told through the noise"
    return counts.why_undefined(metric, confusion, least_true, least_called)


def _monotone(h: _Floats) -> _Floats:
    """Counts ≥ 0 nearest in spirit to noisy ones: the cumulative counts are made monotone.

    The middle between the least increasing curve above the cumulative counts and the
    greatest one below them; used for drawing only.
    """
    total = np.maximum(h.sum(axis=-1, keepdims=True), 0)
    running = np.clip(np.cumsum(h, axis=-1), 0, total)
    above = np.maximum.accumulate(running, axis=-1)
    below = np.minimum.accumulate(running[..., ::-1], axis=-1)[..., ::-1]
    return np.diff((above + below) / 2, axis=-1, prepend=0.0)


def _reliability(cells: _Cells, h: _Floats, noise_std: float) -> _Floats:
    """(points, 3) of predicted probability, observed rate and noisy patients.

    Only bins that stand out of the noise; with more classes, of the predicted class.
    """
    predicted = cells.predicted(0.5)
    if cells.classes == 2:
        middle, hits, total = cells.score(1), h[1], h.sum(axis=0)
    else:
        used = predicted >= 0
        right = np.where(used, h[np.maximum(predicted, 0), np.arange(cells.bins)], 0.0)
        by_level = (-1, cells.levels)
        hits = right[used].reshape(by_level).sum(axis=0)
        total = h[:, used].sum(axis=0).reshape(by_level).sum(axis=0)
        middle = cells.score(0)[: cells.levels]
    noisy_cells = cells.classes * h.shape[1] / len(total)
    stands_out = total > max(_DEVIATIONS * noise_std * np.sqrt(noisy_cells), 1e-9)
    rate = counts.ratio(hits, total)
    points: _Floats = np.stack([middle, rate, total], axis=1)[stands_out]
    return points
