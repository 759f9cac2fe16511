"""Group 2: the noise's scale, overall, by tensor, by coordinate and by round; what it correlates with.

Of independent normal noise every sum of squares is χ², so each test is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import chi2

from fedimg.audit.battery.probes import NOISE, Rows
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import (
    chi_squared,
    chi_squared_each,
    cosine_scores,
    dispersion,
    exactly,
    kolmogorov,
    normal,
    normal_each,
    worst,
    worst_of,
)
from fedimg.values import Vector


def checks(rows: Rows, tail: Vector) -> Iterator[Check]:
    matrix, steps = rows.matrix, np.array(rows.steps)
    said = f"raised {rows.empty}" if rows.empty else "releases like any other"
    yield Check("noise.empty", exactly(not rows.empty), f"a site without units {said}")
    if not (np.isfinite(matrix).all() and np.isfinite(tail).all()):
        yield Check("noise.finite", 0.0, "released values that are not finite")
        return
    single = matrix[steps == 1]
    energy, wide = float((single**2).sum()), float((tail**2).sum())
    measured = np.sqrt((energy + wide) / (single.size + tail.size))
    yield Check(
        "noise.scale",
        worst([chi_squared(energy, single.size), chi_squared(wide, tail.size)]),
        f"noise of {measured:.4f} times the claimed standard deviation, over {single.size + tail.size} values",
    )
    yield _by_tensor(matrix)
    yield _by_coordinate(matrix)
    yield _by_row(rows, matrix)
    yield _mean(matrix, tail)
    yield _correlation(matrix)
    if rows.claim.shares is not None:
        yield _share(rows, single)


def _by_tensor(matrix: Vector) -> Check:
    ends = np.cumsum(NOISE.tensors)[:-1]
    parts = np.split(matrix, ends, axis=1)
    scales = [float(np.sqrt((part**2).mean())) for part in parts]
    p = worst(dispersion(part) for part in parts)
    detail = f"by tensor {min(scales):.3f} to {max(scales):.3f} times the claimed standard deviation"
    return Check("noise.tensors", p, detail)


def _by_coordinate(matrix: Vector) -> Check:
    squares = (matrix**2).sum(axis=0)
    each = chi_squared_each(squares, len(matrix))
    p = worst([worst_of(each), kolmogorov(chi2.cdf(squares, len(matrix)))])
    bare = int((squares < 1e-6).sum())
    return Check("noise.coordinates", p, f"{bare} of {squares.size} coordinates without noise")


def _by_row(rows: Rows, matrix: Vector) -> Check:
    squares = (matrix**2).sum(axis=1)
    each = chi_squared_each(squares, matrix.shape[1])
    at = int(np.argmin(each))
    detail = (
        f"the most unlikely round ({rows.steps[at]} steps, site {rows.site[at]}) has "
        f"{np.sqrt(squares[at] / matrix.shape[1]):.3f} times the claimed standard deviation"
    )
    return Check("noise.rounds", worst_of(each), detail)


def _mean(matrix: Vector, tail: Vector) -> Check:
    by_coordinate = normal_each(matrix.sum(axis=0) / np.sqrt(len(matrix)))
    whole = [normal(float(x.sum()) / np.sqrt(x.size)) for x in (matrix, tail)]
    p = worst([worst_of(by_coordinate), *whole])
    return Check("noise.mean", p, f"mean {matrix.mean():+.2g} standard deviations")


def _correlation(matrix: Vector) -> Check:
    """At every distance along the vector, of values and of squares; and any fixed pattern among coordinates.

    A covariance Σ ≠ 1 that stays the same raises the squared cosines between rounds by tr Σ²/P.
    """
    distances = worst(
        [worst_of(_at_distances(matrix)), worst_of(_at_distances((matrix**2 - 1) / np.sqrt(2)))]
    )
    # Large cosines say that noise was used again, which `reuse` tells; here only many small ones count.
    scores = cosine_scores(matrix)[np.triu_indices(len(matrix), 1)]
    energy = float((scores**2).sum())
    p = worst([distances, dispersion(scores)])
    return Check(
        "noise.correlation", p, f"squared cosines between rounds {energy / scores.size:.3f}, expected 1"
    )


def _at_distances(matrix: Vector) -> Vector:
    """p-values of Σ r_i r_{i+k} for k ≥ 1, summed over rounds; the longest distances have too few terms."""
    count, size = matrix.shape
    spectrum = np.abs(np.fft.rfft(matrix, 2 * size, axis=1)) ** 2
    sums = np.fft.irfft(spectrum.sum(axis=0))[1 : size - 256]
    return normal_each(sums / np.sqrt(count * (size - np.arange(1, size - 256))))


def _share(rows: Rows, single: Vector) -> Check:
    """t − c survivors' shares must make up the whole noise."""
    shares = rows.claim.shares
    if shares is None:
        return Check("noise.share", None, "no shares")
    honest = shares.threshold - shares.colluders
    energy = float((single**2).sum()) * honest / shares.share_count
    declared = exactly(1 <= shares.share_count <= honest)
    p = worst([declared, min(1.0, 2 * float(chi2.cdf(energy, single.size)))])
    detail = f"{honest} honest survivors, the noise divided among {shares.share_count}"
    return Check("noise.share", p, detail)
