"""Random variation of training images, drawn from the site's own entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from fedimg.imaging import augmentation
from fedimg.imaging.config import AugmentationConfig
from fedimg.privacy.engines import PatientLoss
from fedimg.training.local import Entropy, LocalTraining, Loss
from fedimg.values import SiteDataset

Copies = Callable[[torch.Tensor, Entropy], torch.Tensor]


def copies_of(config: AugmentationConfig) -> Copies | None:
    """(N, C, *spatial) → (N, copies, C, *spatial): copies of each image inside its patient's own unit.

    None where no augmentation is asked for.
    """
    if not config.active:
        return None

    def copies(images: torch.Tensor, entropy: Entropy) -> torch.Tensor:
        generator = torch.Generator().manual_seed(int.from_bytes(entropy.bytes(7), "big"))
        draws = augmentation.draw(images, config, generator)
        varied = augmentation.augment_copies(images, config, draws)
        return varied.reshape(len(images), config.copies, *images.shape[1:])

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
    return replace(dataset, images=copies(dataset.images, entropy)[:, 0])
