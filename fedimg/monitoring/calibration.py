"""Temperature scaling: one number that makes a model's probabilities mean what they say.

Guo et al. 2017 (arXiv 1706.04599, §4.2): logits are divided by the T > 0 under which held-out labels are likeliest.
In s = 1/T the negative log-likelihood is convex,

    f(s) = Σ log Σⱼ exp(s·zⱼ) − s·z_y,   f′(s) = Σ E_p[z] − z_y,   f″(s) = Σ Var_p[z],

so three sums over examples are all that a step needs: of sites that add them up, or of released score histograms,
where a cell stands for logits and its noisy count for examples. f′ is linear in the counts: noise does not bias it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from fedimg.errors import DataError
from fedimg.evaluation.cells import Cells
from fedimg.evaluation.intervals import percentile_interval
from fedimg.values import Interval

LEAST, MOST = 0.05, 20.0
"""Temperatures beyond these are taken for the bound itself: scores that separate perfectly have none."""
_STEPS, _CLOSE = 100, 1e-12
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Temperature:
    """Attributes:
    value: with its 95 % interval. bounded: it lies at `LEAST` or `MOST`, and the examples do not fix it.
    """

    value: Interval
    bounded: bool


def sums(logits: npt.ArrayLike, labels: npt.ArrayLike, inverse: float) -> _Floats:
    """A site's share of a step: (3,) of examples, f′ and f″ at s = `inverse`.

    Args:
        logits: (N, classes), finite. labels: (N,) class indices.

    Raises DataError: values that are not finite, labels outside the classes, or other shapes.
    """
    z, weights = _checked(logits, labels)
    return _sums(z, weights, inverse)


def fitted(total: Callable[[float], npt.ArrayLike]) -> tuple[float, bool]:
    """T, and whether it is a bound, from the sums of all sites at any s that is asked for; each question is a round.

    Newton's step on f′, halved into the bracket where it leaves it (Press et al. 2007, §9.4).

    Raises DataError: no examples.
    """
    low, high = 1 / MOST, 1 / LEAST
    count, at_low, _ = np.asarray(total(low), dtype=np.float64)
    if not count > 0:
        raise DataError("held-out examples to calibrate on", "none", "hold some out, or leave T at 1")
    if at_low >= 0:
        return MOST, True
    if np.asarray(total(high), dtype=np.float64)[1] <= 0:
        return LEAST, True
    s = 1.0
    for _ in range(_STEPS):
        _, slope, curvature = np.asarray(total(s), dtype=np.float64)
        low, high = (s, high) if slope < 0 else (low, s)
        step = s - slope / curvature if curvature > 0 else np.nan
        after = step if low < step < high else (low + high) / 2
        if abs(after - s) <= _CLOSE * s:
            break
        s = float(after)
    return 1 / s, False


def of_examples(
    logits: npt.ArrayLike, labels: npt.ArrayLike, *, bootstrap: int = 200, seed: int = 0
) -> Temperature:
    """T of examples that are all at hand; the interval from resampling them."""
    z, weights = _checked(logits, labels)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(z), size=(bootstrap, len(z))) if len(z) else np.zeros((0, 0), np.int64)
    redrawn = [fitted(partial(_sums, z[own], weights[own]))[0] for own in chosen]
    return _temperature(fitted(partial(_sums, z, weights)), np.array(redrawn))


def of_histograms(
    noised: npt.ArrayLike, noise_std: float, *, bootstrap: int = 200, seed: int = 0
) -> Temperature:
    """T of released score histograms: post-processing, which costs no privacy.

    Args:
        noised: (classes, bins), of `score_histograms`, with noise of `noise_std` in each cell.

    The interval redraws each cell with the noise and a Poisson count's variance. With more than two classes a cell
    stands for the predicted class's probability, what is left spread evenly.

    Raises DataError: values that are not finite, or no patients as far as can be told through the noise.
    """
    h = np.asarray(noised, dtype=np.float64)
    if h.ndim != 2 or not np.isfinite(h).all() or not (np.isfinite(noise_std) and noise_std >= 0):
        raise DataError("finite histograms (classes, bins)", f"shape {h.shape}", "pass one release's table")
    cells = Cells(*h.shape)
    used = cells.predicted(0.5) >= 0
    z = np.log(np.stack([cells.score(k)[used] for k in range(cells.classes)], axis=1))
    counts = h[:, used].T
    if counts.sum() <= 3 * noise_std * np.sqrt(counts.size):
        raise DataError(
            "patients to calibrate on", "none, as far as can be told through the noise", "leave T at 1"
        )
    generator = np.random.default_rng(seed)
    spread = np.sqrt(noise_std**2 + np.maximum(counts, 0))
    drawn = counts + spread * generator.standard_normal((bootstrap, *counts.shape))
    redrawn = [fitted(partial(_sums, z, own))[0] for own in drawn if own.sum() > 0]
    return _temperature(fitted(partial(_sums, z, counts)), np.array(redrawn))


def calibrated(logits: npt.ArrayLike, temperature: float) -> _Floats:
    """(N, classes) probabilities under T."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def loss(logits: npt.ArrayLike, labels: npt.ArrayLike, temperature: float) -> float:
    """Mean negative log-likelihood under T: what is minimised."""
    z, weights = _checked(logits, labels)
    return float(-(weights * log_softmax(z / temperature, axis=1)).sum() / len(z))


def _sums(z: _Floats, weights: _Floats, inverse: float) -> _Floats:
    """`weights` (N, classes): how many examples of each label stand behind each row of logits."""
    p = softmax(inverse * z, axis=1)
    mean = (p * z).sum(axis=1)
    spread = (p * z**2).sum(axis=1) - mean**2
    rows = weights.sum(axis=1)
    return np.array([rows.sum(), (rows * mean - (weights * z).sum(axis=1)).sum(), (rows * spread).sum()])


def _checked(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    fits = z.ndim == 2 and z.shape[1] >= 2 and y.shape == z.shape[:1] and np.isfinite(z).all()
    if not fits or not np.isin(y, np.arange(z.shape[1])).all():
        raise DataError(
            "finite logits (N, classes ≥ 2) and labels (N,) among the classes",
            "other shapes or values",
            "pass the outputs and labels of one data set",
        )
    return z, np.eye(z.shape[1])[y.astype(np.int64)]


def _temperature(found: tuple[float, bool], redrawn: _Floats) -> Temperature:
    value, bounded = found
    return Temperature(percentile_interval(value, redrawn, MOST, lower=LEAST), bounded)
