"""Several tasks of one network: where each head's outputs and labels lie in an image's row, and what they cost.

R. Caruana, "Multitask Learning", Machine Learning 28 (1997): one set of features, a head a task, one weighted sum of
losses. Heads of images share the network's last layer, side by side; beside a head of voxels they read what the same
network says of every voxel in further channels, pooled over space. To all that comes behind, a patient's gradient, its
clipping, the secure sum, it is one network with one row of outputs an image.

A label that is missing is NaN. Its head adds exactly nothing to the image's loss, and so does one whose label is none:
not finite, or no class.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import nn

from fedimg.models.config import ModelConfig
from fedimg.models.losses import Loss, build_loss
from fedimg.models.outputs import activated


@dataclass(frozen=True, slots=True)
class Head:
    """One task of several. Attributes: config: of the task alone. outputs, labels: its places in an image's row."""

    config: ModelConfig
    outputs: slice
    labels: slice

    @property
    def task(self) -> str:
        return self.config.task

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, outputs of all) → (N, *output_shape), as a network of this task alone gives them."""
        return rows[:, self.outputs].reshape(-1, *self.config.output_shape)

    def known(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, labels of all) → labels as the task's loss takes them, zeros in place of what is none; (N,) whether it is one."""
        labels = rows[:, self.labels]
        if self.task == "regression":
            fine = torch.isfinite(labels)
        else:
            most = 1 if self.task == "multilabel" else self.config.classes - 1
            fine = (labels >= 0) & (labels <= most) & (labels == labels.floor())
        there = fine.all(dim=1)
        kept = torch.where(there[:, None], labels, 0.0).reshape(-1, *self.config.label_shape)
        return (kept if self.task in ("regression", "multilabel") else kept.long()), there


def heads_of(config: ModelConfig) -> tuple[Head, ...]:
    """In the order of `model.heads`; none but with `model.task=several`."""
    if not config.heads:
        return ()
    places = (
        pairwise(accumulate((math.prod(shape) for shape in shapes), initial=0))
        for shapes in zip(*((one.output_shape, one.label_shape) for one in config.each), strict=True)
    )
    return tuple(
        Head(one, slice(*outputs), slice(*labels))
        for one, outputs, labels in zip(config.each, *places, strict=True)
    )


def all_activated(heads: Sequence[Head], rows: torch.Tensor) -> torch.Tensor:
    """(N, outputs of all) → (N, …) float64: each head's outputs as `outputs.activated` makes them, side by side."""
    each = [activated(head.task, head.logits(rows)) for head in heads]
    return torch.cat([one.double().flatten(1) for one in each], dim=1)


def weighted_sum(heads: Sequence[Head], losses: Sequence[Loss], weights: Sequence[float]) -> Loss:
    """(N, outputs) and (N, labels) → (N,): Σ weight · loss over the heads whose label is there."""

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        total = outputs.new_zeros(len(outputs))
        for head, own, weight in zip(heads, losses, weights, strict=True):
            known, there = head.known(labels)
            # a label that is none was replaced before the loss saw it: behind `where` nothing is NaN but outputs
            total = total + weight * torch.where(there, own(head.logits(outputs), known), 0.0)
        return total

    return loss


def build_several(
    config: ModelConfig, names: Sequence[str], weights: Sequence[float], allowed_extensions: Collection[str]
) -> Loss:
    """The loss of `model.task=several`: one name and weight a head. Raises as `build_loss`."""
    heads = heads_of(config)
    losses = [
        build_loss(name, allowed_extensions, head.config.label_shape)
        for name, head in zip(names, heads, strict=True)
    ]
    return weighted_sum(heads, losses, weights)


class VoxelsAndImages(nn.Module):
    """(B, …) → (B, outputs of all): a network of voxels with `hidden` further channels, which heads of images read.

    Of every further channel's sigmoid, mean and maximum over space: how much there is of something, and whether there
    is any. One linear layer makes of them the outputs of all heads of images; shares between 0 and 1 keep its steps
    bounded, whatever the network's scale. With `model.reads_voxels` they read the probability of every class but the
    first likewise, so that what is outlined is scored, and an image's class teaches the outline.
    """

    def __init__(self, backbone: nn.Module, config: ModelConfig, hidden: int) -> None:
        super().__init__()
        self.backbone = backbone
        self._heads = heads_of(config)
        self._voxels = next(head.config.classes for head in self._heads if head.config.of_voxels)
        self._sizes = [0 if head.config.of_voxels else head.config.outputs for head in self._heads]
        self._own = self._voxels - 1 if config.reads_voxels else 0
        self.of_image = nn.Linear(2 * (hidden + self._own), sum(self._sizes))
        nn.init.zeros_(self.of_image.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(images)
        more = torch.sigmoid(maps[:, self._voxels :]).flatten(2)
        if self._own:
            own = torch.softmax(maps[:, : self._voxels], dim=1)[:, 1:].flatten(2)
            more = torch.cat([more, own], dim=1)
        of_image = self.of_image(torch.cat([more.mean(dim=2), more.amax(dim=2)], dim=1)).split(self._sizes, 1)
        voxels = maps[:, : self._voxels].flatten(1)
        parts = [one if size else voxels for one, size in zip(of_image, self._sizes, strict=True)]
        return torch.cat(parts, dim=1)
