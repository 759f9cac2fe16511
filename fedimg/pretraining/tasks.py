"""What is learnt ahead of a federation: the network's own task, or one whose answers every image holds itself.

Rotations: Gidaris, Singh and Komodakis 2018, "Unsupervised Representation Learning by Predicting Image Rotations"
(arXiv 1803.07728): a classifier tells by how many quarter turns an image was turned.
Inpainting: patches are taken out and the network fills them in, L1 over what was missing, as in Xie et al. 2021,
"SimMIM" (arXiv 2111.09886), after Pathak et al. 2016, "Context Encoders" (arXiv 1604.07379): for outputs for every voxel.

A task's network has the very layers of the asked one; only the last, which no file keeps, may have other outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from fedimg.config import Config
from fedimg.errors import ConfigError
from fedimg.imaging import augmentation, labels_in_place
from fedimg.models import ModelConfig
from fedimg.models.config import OF_VOXELS
from fedimg.models.losses import build_loss, cross_entropy, loss_digests

TURNS = 4
MASKED, _PATCHES_A_SIDE = 0.6, 8
Varied = Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]
Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """What is learnt.

    Attributes:
        method: as `Origin.method`. model: the network that learns it.
        examples: (N, C, *spatial) images, their labels and a generator → what the network sees, and the answers.
        loss: outputs and answers → (N,).
    """

    method: str
    model: ModelConfig
    examples: Varied
    loss: Losses


def task_of(config: Config, method: str) -> Task:
    """Raises ConfigError for images that a method cannot take."""
    if config.model.heads:
        raise ConfigError(
            "a network of one task",
            f"model.task={config.model.task}",
            "pre-train it with the task of one head: its weights are taken by a network of several",
        )
    model = replace(config.model, weights=None, centring_rounds=0)
    if method == "generated":
        loss = config.training.loss
        return Task(
            "supervised",
            replace(model, classes=2),
            _augmented(config),
            build_loss(loss, tuple(loss_digests(loss).values())),
        )
    if model.task in OF_VOXELS:
        return _inpainting(model)
    height, width = model.image_size[-2:]
    if height != width:
        raise ConfigError(
            "images as high as they are wide, to be turned by quarters",
            str(list(model.image_size)),
            "set imaging.image_size so, or --method generated",
        )
    four = replace(model, task="classification", classes=TURNS)
    return Task("rotations", four, turned, cross_entropy)


def _augmented(config: Config) -> Varied:
    """As the federation would train on them: `imaging.augmentation`, a copy of each."""
    asked = replace(config.imaging.varied, copies=1)

    def examples(
        images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not asked.active:
            return images, labels
        draws = augmentation.draw(images, asked, generator)
        moved = labels_in_place.copies(labels, images.dim() - 2, asked, draws.uniform)
        return augmentation.augment(images, asked, draws), moved

    return examples


def turned(
    images: torch.Tensor, _labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image in the H–W plane by 0 to 3 quarters, all equally likely; the answer is how many."""
    quarters = torch.randint(0, TURNS, (len(images),), generator=generator)
    every = torch.stack([torch.rot90(images, k, (-2, -1)) for k in range(TURNS)])
    return every[quarters, torch.arange(len(images))], quarters


def _inpainting(model: ModelConfig) -> Task:
    if model.outputs < model.channels:
        raise ConfigError(
            f"at least as many outputs as the {model.channels} channels that are to be filled in",
            f"{model.outputs}",
            "set imaging.channels=1, or --method generated",
        )
    same_outputs = replace(model, task="segmentation", classes=max(2, model.outputs))
    return Task("inpainting", same_outputs, masked, filled_in)


def masked(
    images: torch.Tensor, _labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """`MASKED` of the patches, an eighth of a side each, set to 0; the answer is the image, and where it was."""
    spatial = images.shape[2:]
    grid = [min(side, _PATCHES_A_SIDE) for side in spatial]
    missing = (torch.rand((len(images), 1, *grid), generator=generator) < MASKED).to(images.dtype)
    missing = F.interpolate(missing, size=spatial, mode="nearest")
    return images * (1 - missing), torch.cat([images, missing], dim=1)


def filled_in(outputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """(N, outputs, *spatial) and (N, C + 1, *spatial) → (N,): mean error of the missing voxels; 0 where none is."""
    images, missing = answers[:, :-1], answers[:, -1:]
    error = (outputs[:, : images.shape[1]] - images).abs() * missing
    count = missing.flatten(1).sum(dim=1) * images.shape[1]
    return error.flatten(1).sum(dim=1) / count.clamp(min=1)
