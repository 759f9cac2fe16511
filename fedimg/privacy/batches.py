"""Which images of the sampled patients a step uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import ConfigError
from fedimg.privacy.entropy import Entropy
from fedimg.values import SiteDataset

Indices = npt.NDArray[np.int64]
Augment = Callable[[torch.Tensor, torch.Tensor, Entropy], tuple[torch.Tensor, torch.Tensor]]
"""(N, C, *spatial) images, (N, …) labels and a source of bits → (N, copies, C, *spatial) and (N, copies, …)."""


def image_subset(images: Indices, most: int, entropy: Entropy) -> Indices:
    """At most `most` of a patient's images, drawn afresh without replacement, ascending."""
    if most < 1:
        raise ConfigError("privacy.images_per_patient ≥ 1", f"{most}", "allow at least one image")
    if images.size <= most:
        return images
    # the smallest of independent 64-bit keys: every subset is equally likely (a tie has chance 2⁻⁵⁰)
    keys = np.frombuffer(entropy.bytes(8 * images.size), dtype="<u8")
    return np.sort(images[np.argsort(keys, kind="stable")[:most]])


@dataclass(frozen=True, slots=True)
class PatientBatch:
    """The images that one step uses, ordered by patient.

    Attributes:
        images: (N, C, *spatial), all copies of all chosen images. labels: (N,), or (N, *spatial) of voxels.
        first_image: (B + 1,); images of patient b are first_image[b]:first_image[b + 1].
    """

    images: torch.Tensor
    labels: torch.Tensor
    first_image: Indices

    def to(self, device: torch.device) -> PatientBatch:
        return PatientBatch(self.images.to(device), self.labels.to(device), self.first_image)

    def by_count(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Patients with equally many images together: (B', M, C, *spatial) and (B', M, …); nothing is padded."""
        counts = np.diff(self.first_image)
        if len(counts) and counts[0] > 0 and (counts == counts[0]).all():  # the usual case: nothing to copy
            yield (
                self.images.unflatten(0, (-1, int(counts[0]))),
                self.labels.unflatten(0, (-1, int(counts[0]))),
            )
            return
        for count in np.unique(counts[counts > 0]):
            rows = self.first_image[:-1][counts == count, None] + np.arange(count)
            index = torch.from_numpy(rows).to(self.images.device)
            yield self.images[index], self.labels[index]


def gather(
    dataset: SiteDataset,
    patients: Indices,
    images_per_patient: int,
    augment: Augment | None,
    entropy: Entropy,
) -> PatientBatch:
    """At most `images_per_patient` fresh images of each given patient, with augmented copies."""
    chosen = [image_subset(dataset.images_of(int(u)), images_per_patient, entropy) for u in patients]
    index = torch.from_numpy(np.concatenate([*chosen, np.zeros(0, np.int64)]))
    counts = np.array([len(images) for images in chosen], dtype=np.int64)
    images, labels = (
        dataset.images[index.to(dataset.images.device)],
        dataset.labels[index.to(dataset.labels.device)],
    )
    if augment is not None and len(index):
        copied, theirs = augment(images, labels, entropy)
        of_images = copied.ndim == images.ndim + 1 and copied.shape[0] == images.shape[0]
        if not of_images or theirs.shape != (*copied.shape[:2], *labels.shape[1:]):
            raise ConfigError(
                "augmented images (N, copies, C, …) and labels (N, copies, …)",
                f"shapes {tuple(copied.shape)} and {tuple(theirs.shape)}",
                "correct the augmentation",
            )
        images, labels, counts = copied.flatten(0, 1), theirs.flatten(0, 1), counts * copied.shape[1]
    return PatientBatch(images, labels, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
