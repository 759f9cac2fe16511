"""What is read off a co-occurrence matrix: IBSI reference manual, sections 3.6.1 to 3.6.25 (arXiv 1612.07003)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from fedimg.values import Vector

CODES: Mapping[str, str] = MappingProxyType(
    {
        "joint_maximum": "GYBY",
        "joint_average": "60VM",
        "joint_variance": "UR99",
        "joint_entropy": "TU9B",
        "difference_average": "TF7R",
        "difference_variance": "D3YU",
        "difference_entropy": "NTRS",
        "sum_average": "ZGXS",
        "sum_variance": "OEEB",
        "sum_entropy": "P6QZ",
        "angular_second_moment": "8ZQL",
        "contrast": "ACUI",
        "dissimilarity": "8S9J",
        "inverse_difference": "IB1Z",
        "normalised_inverse_difference": "NDRX",
        "inverse_difference_moment": "WF0Z",
        "normalised_inverse_difference_moment": "1QCO",
        "inverse_variance": "E8JP",
        "correlation": "NI2N",
        "autocorrelation": "QWB0",
        "cluster_tendency": "DG8W",
        "cluster_shade": "7NFM",
        "cluster_prominence": "AE86",
        "information_correlation_1": "R8DG",
        "information_correlation_2": "JN9H",
    }
)
"""IBSI's permanent identifiers, by the name here."""

_LEAST = 1e-12


def co_occurrence_features(counts: Vector) -> dict[str, Vector]:
    """(M, N, N) symmetric counts of pairs → of each name in `CODES` (M,); entropies in bits.

    A region of one grey level has correlation 1 and no information correlation.
    """
    p = counts / counts.sum(axis=(1, 2), keepdims=True)
    number = p.shape[1]
    i, j = np.meshgrid(np.arange(1, number + 1), np.arange(1, number + 1), indexing="ij")
    margin = p.sum(axis=2)
    level = np.arange(1, number + 1)
    mean = margin @ level
    variance = margin @ level**2 - mean**2
    moved = (i + j)[None] - 2 * mean[:, None, None]
    auto = _expected(p, i * j)
    return (
        {
            "joint_maximum": p.max(axis=(1, 2)),
            "joint_average": mean,
            "joint_variance": variance,
            "joint_entropy": _entropy(p.reshape(len(p), -1)),
            "angular_second_moment": np.sum(p**2, axis=(1, 2)),
            "correlation": _correlation(auto - mean**2, variance),
            "autocorrelation": auto,
            "cluster_tendency": np.sum(moved**2 * p, axis=(1, 2)),
            "cluster_shade": np.sum(moved**3 * p, axis=(1, 2)),
            "cluster_prominence": np.sum(moved**4 * p, axis=(1, 2)),
        }
        | _of_differences(p, np.abs(i - j))
        | _of_sums(p, i + j)
        | _information(p, margin)
    )


def _expected(p: Vector, weight: Vector) -> Vector:
    return np.asarray(np.sum(p * weight, axis=(1, 2)))


def _of_differences(p: Vector, apart: Vector) -> dict[str, Vector]:
    """Of |i − j|: its distribution's moments, and sums over pairs weighted by it."""
    number = p.shape[1]
    diagonal = _gathered(p, apart, number)
    k = np.arange(number)
    average = diagonal @ k
    weight = np.divide(1.0, apart**2, where=apart > 0, out=np.zeros(apart.shape))
    return {
        "difference_average": average,
        "difference_variance": diagonal @ k**2 - average**2,
        "difference_entropy": _entropy(diagonal),
        "contrast": diagonal @ k**2,
        "dissimilarity": average,
        "inverse_difference": _expected(p, 1 / (1 + apart)),
        "normalised_inverse_difference": _expected(p, 1 / (1 + apart / number)),
        "inverse_difference_moment": _expected(p, 1 / (1 + apart**2)),
        "normalised_inverse_difference_moment": _expected(p, 1 / (1 + apart**2 / number**2)),
        "inverse_variance": _expected(p, weight),  # twice the sum over j > i, of a symmetric matrix
    }


def _of_sums(p: Vector, total: Vector) -> dict[str, Vector]:
    """Of i + j, from 2 to 2N."""
    number = p.shape[1]
    cross = _gathered(p, total - 2, 2 * number - 1)
    k = np.arange(2, 2 * number + 1)
    average = cross @ k
    return {
        "sum_average": average,
        "sum_variance": cross @ k**2 - average**2,
        "sum_entropy": _entropy(cross),
    }


def _gathered(p: Vector, where: Vector, count: int) -> Vector:
    """(M, count): p added up over the cells that `where` (N, N) sends to each place."""
    sends = (where.ravel()[:, None] == np.arange(count)[None]).astype(np.float64)
    return np.asarray(p.reshape(len(p), -1) @ sends)


def _entropy(p: Vector) -> Vector:
    """(M, k) → (M,), in bits."""
    return np.asarray(-np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=1))


def _correlation(covariance: Vector, variance: Vector) -> Vector:
    flat = variance <= _LEAST
    return np.asarray(np.where(flat, 1.0, covariance / np.where(flat, 1.0, variance)))


def _information(p: Vector, margin: Vector) -> dict[str, Vector]:
    """How far pairs are from independent: 3.6.24 and 3.6.25."""
    joint = _entropy(p.reshape(len(p), -1))
    single = _entropy(margin)
    product = margin[:, :, None] * margin[:, None, :]
    bits = np.log2(np.where(product > 0, product, 1.0))
    first, second = -_expected(p, bits), -_expected(product, bits)
    one = np.divide(joint - first, single, where=single > _LEAST, out=np.zeros(len(p)))
    return {
        "information_correlation_1": one,
        "information_correlation_2": np.sqrt(np.maximum(0.0, 1 - np.exp(-2 * (second - joint)))),
    }
