"""Data whose gradients are known: an image is its own gradient, by a network that is a dot product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedimg.audit.mechanism import Unit
from fedimg.values import SiteDataset


class DotProduct:
    """Logits flat · image, twice: the gradient of either by the parameters is the image."""

    def __init__(self, size: int) -> None:
        self.number_of_parameters = size

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        product = images.flatten(1) @ flat
        return torch.stack([product, product], dim=1)


def first_logit(logits: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
    return logits[:, 0]


@dataclass(frozen=True)
class DyingDataset(SiteDataset):
    """Data at whose first reading the process dies: then the charge is on the disk, and nothing is released."""

    @property
    def number_of_patients(self) -> int:
        raise ProcessEnds


class ProcessEnds(BaseException):
    """Not an Exception: nothing in a dying process gets to handle it."""


def dataset_of(units: tuple[Unit, ...], size: int) -> SiteDataset:
    """Units as patients; image = gradient, (N, 1, P)."""
    rows = [unit.gradients.astype(np.float32) for unit in units]
    images = np.concatenate([*rows, np.zeros((0, size), dtype=np.float32)])
    labels = np.repeat([unit.label for unit in units], [len(row) for row in rows]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    keys = tuple(f"{u:06d}" for u in range(len(units)))
    return SiteDataset(torch.from_numpy(images)[:, None], torch.from_numpy(labels), keys, first)
