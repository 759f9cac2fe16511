"""Means over patients with intervals: of values at hand, and of noised histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.evaluation.intervals import patient_weights, percentile_interval
from fedimg.values import EvaluationReport, Interval

Floats = npt.NDArray[np.float64]
Metrics = Callable[[Floats], Mapping[str, Floats]]
"""(B, …) weights of patients, or tables, → (B,) by name; NaN where a metric does not exist."""
NO_EXAMPLES = "there are no examples of it"
TOO_FEW = "too few patients, as far as can be told through the noise"
DEVIATIONS = 3.0
"""A total that is not above so many standard deviations of its own noise is taken for absent."""


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """(U,) values, NaN where a patient has none, and (B, U) weights → (B,)."""
    there = np.isfinite(values)
    total = weights @ there.astype(np.float64)
    mean = np.divide(
        weights @ np.where(there, values, 0.0), total, out=np.full(len(weights), np.nan), where=total > 0
    )
    return np.asarray(mean, dtype=np.float64)


def resampled(
    metrics: Metrics,
    patients: int,
    bootstrap: int,
    seed: int,
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Each metric on all patients, its interval over resamples of them, and why one is left out.

    `ends` are a metric's least and largest value where they are not 0 and 1.
    """
    generator = np.random.default_rng(seed)
    point = metrics(np.ones((1, patients)))
    chunks = [metrics(w) for w in patient_weights(np.arange(patients + 1), bootstrap, generator) if patients]
    found: dict[str, Interval] = {}
    omitted: dict[str, str] = {}
    for name, value in point.items():
        if not np.isfinite(value[0]):
            omitted[name] = NO_EXAMPLES
            continue
        again = np.concatenate([chunk[name] for chunk in chunks]) if chunks else np.zeros(0)
        least, most = (ends or {}).get(name, (0.0, 1.0))
        found[name] = percentile_interval(float(value[0]), again, most, lower=least, independent=patients)
    return found, omitted


def redrawn(
    metrics: Metrics,
    table: Floats,
    noise_std: float,
    variance: Floats,
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Interval]:
    """The same of a noised table (rows, bins): a parametric bootstrap of the noise and of `variance` by cell."""
    generator = np.random.default_rng(0)  # protects nothing
    spread = np.sqrt(noise_std**2 + np.maximum(variance, 0))
    again = metrics(table + spread * generator.standard_normal((1000, *table.shape)))
    point = metrics(table[None])
    found: dict[str, Interval] = {}
    for name, value in point.items():
        least, most = (ends or {}).get(name, (0.0, 1.0))
        if np.isfinite(value[0]):
            found[name] = percentile_interval(float(value[0]), again[name], most, lower=least)
    return found


def usable_only(
    found: dict[str, Interval], omitted: dict[str, str], usable: npt.NDArray[np.bool_]
) -> tuple[dict[str, Interval], dict[str, str]]:
    """The same, or nothing but the reason where a patient's outputs cannot be used."""
    if usable.all():
        return found, omitted
    reason = f"the model's outputs cannot be used for {int((~usable).sum())} patients"
    return {}, dict.fromkeys([*found, *omitted], reason)


def report(
    source: Literal["public", "sites"],
    examples: int,
    metrics: Mapping[str, Interval],
    omitted: Mapping[str, str],
    classes: int = 2,
) -> EvaluationReport:
    """Of a task without a confusion of classes: all zeros."""
    confusion = np.zeros((classes, classes), np.int64)
    return EvaluationReport(source, examples, dict(metrics), confusion, omitted=dict(omitted))


def checked_table(noised: Floats, shape: tuple[int, int], noise_std: float) -> Floats:
    """Raises DataError for a release of another shape, or one that is not finite."""
    table = np.asarray(noised, dtype=np.float64)
    if table.shape != shape or not np.isfinite(table).all() or not 0 <= noise_std < np.inf:
        raise DataError(f"a finite release of shape {shape}", f"shape {table.shape}", "pass a site's release")
    return table


def quotient(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is not positive."""
    out = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator > 0), dtype=np.float64)


def of_patients(first_image: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) whose each image is."""
    return np.repeat(np.arange(len(first_image) - 1), np.diff(first_image))
