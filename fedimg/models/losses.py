"""Losses of single examples, by name: built in, or an entry point in `fedimg.losses`.

A loss returns one value an example and never looks at another example: the patient's unit, its
clipping and the fixed public divisor all rest on that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError, ModelError
from fedimg.models.config import SEVERAL
from fedimg.models.extensions import find
from fedimg.models.heat_map import centre_heat_map

GROUP = "fedimg.losses"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(N, classes) logits and (N,) int64 labels → (N,); of voxels (N, classes, *spatial) and (N, *spatial) → (N,)."""


Weights = tuple[float, ...]
"""A public factor for each class. What is weighted is divided by how many voxels, classes or findings there are, never
by the sum of their factors: that would be a number of the image's own."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
    """−log p of the true class, times its weight; with labels of voxels the mean over an image's voxels."""
    return _each_image(F.cross_entropy(logits, labels, _factors(weights, logits), reduction="none"))


def focal(logits: torch.Tensor, labels: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
    """(1 − p)² · −log p of the true class (Lin et al. 2017, γ = 2), likewise: less weight for what is easy."""
    loss = F.cross_entropy(logits, labels, reduction="none")
    factors = _factors(weights, logits)
    return _each_image((1 - torch.exp(-loss)) ** 2 * loss * (1.0 if factors is None else factors[labels]))


def dice_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: Weights | None = None
) -> torch.Tensor:
    """Soft Dice loss of an image's voxels, its mean over classes, plus their cross-entropy; each class's part of both
    times its weight, as in MONAI's `DiceLoss(weight=…)`.

    Dice as in Milletari et al. 2016 (arXiv 1606.04797) without squares, the background among the classes:
    MONAI's `DiceCELoss(to_onehot_y=True, softmax=True)`, image by image.

    Raises:
        ConfigError: labels of images, which have no overlap.
    """
    if labels.dim() == 1:
        raise ConfigError(
            "labels of voxels for the loss dice_cross_entropy",
            "labels of images",
            "choose training.loss=cross_entropy",
        )
    scores, each_class = torch.softmax(logits, dim=1), torch.arange(logits.shape[1], device=logits.device)
    truth = labels.unsqueeze(1) == each_class.view(-1, *(1,) * (labels.dim() - 1))
    scores, truth = scores.flatten(2), truth.flatten(2).to(logits.dtype)
    overlap, sizes = (scores * truth).sum(dim=2), (scores + truth).sum(dim=2)
    dice = 1 - (2 * overlap + _SMOOTH) / (sizes + _SMOOTH)
    factors = _factors(weights, logits)
    dice = dice if factors is None else dice * factors
    return dice.mean(dim=1) + cross_entropy(logits, labels, weights)


def dice_balanced(logits: torch.Tensor, labels: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
    """For findings of a few voxels: cross-entropy of a fifth from the voxels of what is drawn, four fifths from the others,
    however many there are of each, plus one minus the soft Dice of every class that the image has.

    An image without a finding has the mean over its voxels alone. Where a finding is one voxel in a thousand the mean over
    all voxels (`dice_cross_entropy`) is least with nothing found, and many steps go by before Dice is heard. The first
    class is what is not drawn. Class weights as `dice_cross_entropy`.

    Raises:
        ConfigError: labels of images.
    """
    if labels.dim() == 1:
        expected = "labels of voxels for the loss dice_balanced"
        raise ConfigError(expected, "labels of images", "choose training.loss=cross_entropy")
    factors = _factors(weights, logits)
    voxels = F.cross_entropy(logits, labels, factors, reduction="none").flatten(1)
    drawn = (labels > 0).flatten(1).to(voxels.dtype)
    many, rest = drawn.sum(dim=1), (1 - drawn).sum(dim=1)
    inside = (voxels * drawn).sum(dim=1) / many.clamp(min=1)
    outside = (voxels * (1 - drawn)).sum(dim=1) / rest.clamp(min=1)
    scores = torch.softmax(logits, dim=1)[:, 1:].flatten(2)
    kinds = torch.arange(1, logits.shape[1], device=logits.device).view(-1, *(1,) * (labels.dim() - 1))
    truth = (labels.unsqueeze(1) == kinds).flatten(2).to(logits.dtype)
    sizes = truth.sum(dim=2)
    dice = 1 - 2 * (scores * truth).sum(dim=2) / (scores.sum(dim=2) + sizes + _SMOOTH)
    dice = dice if factors is None else dice * factors[1:]
    missed = torch.where(sizes > 0, dice, 0.0).sum(dim=1) / (sizes > 0).sum(dim=1).clamp(min=1)
    return torch.where(many > 0, _OF_DRAWN * inside + (1 - _OF_DRAWN) * outside + missed, outside)


def binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: Weights | None = None
) -> torch.Tensor:
    """−log p of each finding being there or not, the mean over findings: (N, findings) twice → (N,).

    `weights`: of each finding where it is there; not being there counts once.
    """
    factors = _factors(weights, logits)
    losses = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=factors, reduction="none")
    return losses.mean(dim=1)


def squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, 1) and (N,) → (N,), as a share of the public range."""
    return (outputs[:, 0] - labels) ** 2


def huber(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same up to a tenth of the range, beyond it linear (Huber 1964): one wrong number weighs less."""
    return F.huber_loss(outputs[:, 0], labels, reduction="none", delta=0.1)


BUILTIN: Mapping[str, Loss] = MappingProxyType(
    {
        "binary_cross_entropy": binary_cross_entropy,
        "centre_heat_map": centre_heat_map,
        "cross_entropy": cross_entropy,
        "dice_balanced": dice_balanced,
        "dice_cross_entropy": dice_cross_entropy,
        "focal": focal,
        "huber": huber,
        "squared_error": squared_error,
    }
)
OF_TASK = MappingProxyType(
    {
        "classification": ("cross_entropy", "focal"),
        "multilabel": ("binary_cross_entropy",),
        "regression": ("squared_error", "huber"),
        "segmentation": ("cross_entropy", "dice_cross_entropy", "focal", "dice_balanced"),
        "detection": ("centre_heat_map",),
        SEVERAL: (SEVERAL,),
    }
)
"""Built-in losses of each task; an extension's is probed with labels of classes."""
OF_HEAD = MappingProxyType(
    {
        "classification": "cross_entropy",
        "multilabel": "binary_cross_entropy",
        "regression": "squared_error",
        "segmentation": "dice_cross_entropy",
    }
)
"""Of each head of several, where `training.head_losses` names none."""
WEIGHTED = frozenset({"classification", "multilabel", "segmentation"})
"""Tasks that have classes to weigh."""
_OF_DRAWN = 0.2
_SMOOTH = 1e-5  # MONAI's own: a class that neither is nor is predicted counts as found


def loss_digests(name: str) -> dict[str, str]:
    """Name → digest of the extension that the name would run; {} if built in. Nothing is imported."""
    return {} if name in BUILTIN or name == SEVERAL else {name: find(GROUP, name, tuple(BUILTIN)).digest}


def build_loss(
    name: str, allowed_extensions: Collection[str] = (), label_shape: tuple[int, ...] = ()
) -> Loss:
    """The loss of that name, probed: one finite value an example, each from its own example alone.

    Args:
        label_shape: of one example's labels, as `Network.label_shape`.

    Raises:
        ConfigError: an unknown name (with the nearest). PolicyRefused: an extension that is not
            allowed; it was not imported. ModelError: not a loss of single examples.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    found = find(GROUP, name, tuple(BUILTIN)).load(allowed_extensions)
    if not callable(found):
        raise _refuse(name, type(found).__name__)
    loss = cast("Loss", found)
    labels = torch.tensor([0, 1, 1, 0]).view(4, *(1,) * len(label_shape)).expand(4, *label_shape)
    logits = torch.linspace(-2, 2, 2 * labels.numel()).view(4, 2, *label_shape)
    together = loss(logits, labels)
    if together.shape != (4,) or not torch.isfinite(together).all():
        raise _refuse(name, f"shape {tuple(together.shape)}, or values that are not finite")
    alone = torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(4)])
    if not torch.allclose(together, alone, rtol=1e-5, atol=1e-6):
        raise _refuse(name, "an example whose loss depends on the others")
    return loss


def _factors(weights: Weights | None, logits: torch.Tensor) -> torch.Tensor | None:
    """(classes,). Raises ConfigError for another number of them than (N, classes, …) has."""
    if weights is None:
        return None
    if len(weights) != logits.shape[1]:
        raise ConfigError(f"{logits.shape[1]} class weights", f"{len(weights)}", "set training.class_weights")
    return torch.tensor(weights, dtype=logits.dtype, device=logits.device)


def _each_image(losses: torch.Tensor) -> torch.Tensor:
    """(N, …) → (N,): the mean over an image's voxels, where there are any."""
    return losses if losses.dim() == 1 else losses.flatten(1).mean(dim=1)


def _refuse(name: str, found: str) -> ModelError:
    return ModelError(
        f"loss {name} to give one finite value an example, (N, classes, …) and (N, …) → (N,)",
        found,
        "see docs/extend-model.md",
    )
