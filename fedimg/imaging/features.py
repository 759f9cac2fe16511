"""Numbers beside an image as planes behind its channels: constant, so that one tensor carries them everywhere.

Each feature has two planes: its value as a share of its public range, and 1 where it is there. A missing one is two
planes of zeros, and a site without any has planes like all others: shapes say nothing of patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedimg.imaging.config import ImagingConfig
from fedimg.values import DeidentifiedRecord, FloatArray, Volume

Features = tuple[tuple[str, float], ...]


def of_records(records: Iterable[DeidentifiedRecord]) -> Features:
    """Of one example's files: the mean over those that have a feature, by name."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.features:
            found.setdefault(name, []).append(value)
    return tuple((name, _mean(values)) for name, values in sorted(found.items()))


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(set(values)) == 1 else math.fsum(value / len(values) for value in values)


def values(features: Features, bounds: Mapping[str, tuple[float, float]]) -> FloatArray:
    """(2 · features,): of each in the order of `bounds` its share in [0, 1] and 1, or 0 and 0 where it is missing.

    What lies beyond the bounds counts as the nearer one; what is no finite number is missing.
    """
    there, found = dict(features), list[float]()
    for name, (low, high) in bounds.items():
        value = there.get(name, math.nan)
        usable = math.isfinite(value)
        found += [(min(max(value, low), high) - low) / (high - low) if usable else 0.0, float(usable)]
    return np.array(found, dtype=np.float32)


def with_planes(volumes: Iterable[Volume], features: Features, config: ImagingConfig) -> list[Volume]:
    """The same examples with the planes of `config.features` behind their channels."""
    if not config.features:
        return list(volumes)
    beside = values(features, config.features)[:, None, None, None]
    return [
        replace(
            v,
            image_CDHW=np.concatenate(
                [v.image_CDHW, np.broadcast_to(beside, (len(beside), *v.image_CDHW.shape[1:]))]
            ),
        )
        for v in volumes
    ]


def without_any(images: FloatArray, config: ImagingConfig) -> FloatArray:
    """(N, C, *spatial) arrays that came with no feature: planes of zeros, for missing."""
    missing = np.zeros((len(images), 2 * len(config.features), *images.shape[2:]), np.float32)
    return np.concatenate([images, missing], axis=1) if config.features else images
