"""Generated cases for audits that need no data: chest radiographs of hospitals with different machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedimg.cohort import anatomy
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.models import Network
from fedimg.values import SiteDataset

SIDE = 32
_DIAMETER = (0.11, 0.18)


def radiographs(patients: int, seed: int, hospital: int = 0, *, wrong: float = 0.0) -> SiteDataset:
    """One image a patient, (U, 1, 32, 32), about half of them with a lesion, as a hospital's machine sees them.

    Args:
        wrong: share of patients whose label is a coin's: what a model can only know by heart.
    """
    rng, scanner = np.random.default_rng([seed, hospital, 91]), scanner_of(hospital)
    images = np.empty((patients, 1, SIDE, SIDE), dtype=np.float32)
    labels = rng.integers(0, 2, patients)
    for k, label in enumerate(labels):
        lesion = anatomy.place(rng, "CR", _DIAMETER, 0.0) if label else None
        phantom = anatomy.chest_cr(rng, SIDE, lesion, 1.0)
        images[k, 0] = acquire(phantom.values, "CR", scanner, 1.0, rng)
    labels = np.where(rng.random(patients) < wrong, rng.integers(0, 2, patients), labels)
    keys = tuple(f"generated-{hospital:02d}-{k:06d}" for k in range(patients))
    return SiteDataset(
        torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), keys, np.arange(patients + 1)
    )


def as_features(dataset: SiteDataset, network: Network) -> SiteDataset:
    """The same patients as the network's trainable part takes them."""
    features = network.features(dataset.images)
    return SiteDataset(features, dataset.labels, dataset.patient_keys, dataset.first_image)


def pooled(parts: Sequence[SiteDataset]) -> SiteDataset:
    """All hospitals' patients as one data set."""
    lengths = np.concatenate([np.diff(part.first_image) for part in parts])
    return SiteDataset(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        tuple(key for part in parts for key in part.patient_keys),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int64),
    )
