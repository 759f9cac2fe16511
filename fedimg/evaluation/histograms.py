"""Score histograms: all that a site says about the model's performance, in one noised release.

Each patient is a vector of L2 norm ≤ 1 over (true class, score cell); their sum, noised, is
the release (`privacy.md` §2). Everything here after the noise is post-processing of it and
costs no privacy. Counts are in patients: a patient's images share one unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.evaluation import counts
from fedimg.evaluation.cells import Cells
from fedimg.evaluation.intervals import percentile_interval
from fedimg.values import EvaluationReport, Interval

# A total that is not above this many standard deviations of its own noise is taken for absent:
# noise alone passes it once in 740.
_DEVIATIONS = 3.0
_ECE_REASON = "the absolute differences of noised counts would be biased upwards"
_BRIER_REASON = "the released histograms do not hold the whole probability vector"
_Floats = npt.NDArray[np.float64]


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
    cells = Cells(classes, bins)
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
    cells = Cells(*h.shape)
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


def _why_omitted(cells: Cells, metric: str, confusion: _Floats, noise_std: float) -> str:
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


def _reliability(cells: Cells, h: _Floats, noise_std: float) -> _Floats:
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
