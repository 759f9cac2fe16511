"""What a patient's images are asked to minimise: classes of images, or of every voxel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy.batches import Augment

ExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WeightedLoss = Callable[[torch.Tensor, torch.Tensor, tuple[float, ...]], torch.Tensor]


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: tuple[float, ...] | None = None
) -> torch.Tensor:
    """(N, classes, …) and (N, …) int64 → (N,), one value an image: with labels of voxels the mean over them."""
    factors = None if weights is None else _as_tensor(weights, logits, logits.shape[1])
    losses = F.cross_entropy(logits, labels, factors, reduction="none")
    return losses if losses.dim() == 1 else losses.flatten(1).mean(dim=1)


@dataclass(frozen=True, slots=True)
class PatientLoss:
    """What a patient's images are asked to minimise.

    Attributes:
        class_weights: one public factor a class; None weighs all alike. The mean is over images, not over
            weights, so a patient's loss depends on nobody else. Where an image has several classes (voxels,
            findings) the loss takes them as a third argument.
        example_loss: (N, classes) and (N,) → (N,); for segmentation (N, classes, *spatial) and
            (N, *spatial) → (N,).
        augment: copies of each image and its label, drawn inside the patient's own gradient, so they cost no
            privacy. It must treat images one by one.
    """

    class_weights: tuple[float, ...] | None = None
    example_loss: ExampleLoss = cross_entropy
    augment: Augment | None = None

    def of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss () of one patient's images, (N, classes, …) and (N, …)."""
        return self.each(logits, labels).mean()

    def each(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(N,): the loss of every image, weighted.

        A label that is no class gives NaN, hence a gradient that clipping leaves out: raising an error
        would tell the server that such a patient exists.
        """
        if labels.is_floating_point():  # numbers: one that is not finite gives NaN by itself
            if self.class_weights is not None and labels.dim() != 2:
                raise ConfigError("no class weights with labels that are numbers", "some", "leave them unset")
            return self._inside(logits, labels)
        valid = labels.clamp(0, logits.shape[1] - 1)
        if labels.dim() == 1:
            return self.example_loss(logits, valid) * self.factors(logits, labels)
        losses = self._inside(logits, valid)
        if losses.dim() != 1:  # else a factor an image would be spread over voxels
            raise ConfigError(
                "a loss of one value an image with labels of voxels",
                f"{losses.dim()} axes",
                "take the mean over an image's voxels",
            )
        right = (labels == valid).flatten(1).all(dim=1)
        return losses * torch.where(right, 1.0, torch.nan)

    def _inside(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(N,) losses of images with several classes each, weighted inside."""
        if self.class_weights is None:
            return self.example_loss(logits, labels)
        return cast("WeightedLoss", self.example_loss)(logits, labels, self.class_weights)

    def factors(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What each image's loss is multiplied by, in the shape of `labels`: its class's weight, or NaN."""
        classes = logits.shape[-1]
        weights = logits.new_ones(classes)
        if self.class_weights is not None:
            weights = _as_tensor(self.class_weights, logits, classes)
        valid = labels.clamp(0, classes - 1)
        # a factor, not a branch: a NaN that stands in an untaken branch would have no gradient
        return torch.where(labels == valid, weights[valid], torch.nan)


def _as_tensor(weights: tuple[float, ...], like: torch.Tensor, classes: int) -> torch.Tensor:
    """(classes,). Raises ConfigError for another number of them."""
    if len(weights) != classes:
        raise ConfigError(f"{classes} class weights", f"{len(weights)}", "set training.class_weights")
    return torch.tensor(weights, dtype=like.dtype, device=like.device)
