"""Random variation of training images, drawn from the site's own entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from fedimg.imaging import augmentation, labels_in_place
from fedimg.imaging.config import AugmentationConfig
from fedimg.privacy.engines import PatientLoss
from fedimg.training.local import Entropy, LocalTraining, Loss
from fedimg.values import SiteDataset

Copies = Callable[[torch.Tensor, torch.Tensor, Entropy], tuple[torch.Tensor, torch.Tensor]]
"""(N, C, *spatial) images and (N, …) labels → (N, copies, C, *spatial) and (N, copies, …)."""


def copies_of(config: AugmentationConfig) -> Copies | None:
    """Copies of each image inside its patient's own unit, and their labels, moved with them.

    None where no augmentation is asked for.
    """
    if not config.active:
        return None

    def copies(
        images: torch.Tensor, labels: torch.Tensor, entropy: Entropy
    ) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(int.from_bytes(entropy.bytes(7), "big"))
        draws = augmentation.draw(images, config, generator)
        varied = augmentation.augment_copies(images, config, draws)
        moved = labels_in_place.copies(labels, images.dim() - 2, config, draws.uniform)
        shape = (len(images), config.copies)
        return varied.reshape(*shape, *images.shape[1:]), moved.reshape(*shape, *labels.shape[1:])

    return copies


def patient_loss(config: LocalTraining, augmentation: AugmentationConfig, loss: Loss) -> PatientLoss:
    """What private training minimises: `loss` by its name in `config`, class weights, augmented copies inside."""
    found = PatientLoss(config.class_weights, augment=copies_of(augmentation))
    # Cross-entropy stays itself: it is known to have a closed form for linear networks.
    return found if config.loss == "cross_entropy" else replace(found, example_loss=loss)


def varied_once(dataset: SiteDataset, config: AugmentationConfig, entropy: Entropy) -> SiteDataset:
    """Open training: each image is changed afresh each round."""
    copies = copies_of(replace(config, copies=1))
    if copies is None or not len(dataset.images):
        return dataset
    images, labels = copies(dataset.images, dataset.labels, entropy)
    return replace(dataset, images=images[:, 0], labels=labels[:, 0])
