"""From a network's logits to what an evaluation of its task takes."""

from __future__ import annotations

import torch

from fedimg.models.heat_map import found

UNUSABLE_CLASS = -1
"""Stands in a map of classes for an image that could not be scored; among numbers NaN does."""


def activated(task: str, logits: torch.Tensor) -> torch.Tensor:
    """(B, …) logits on their way to an `evaluation.Measure`.

    classification: (B, classes) probabilities, float64. multilabel: (B, findings) probabilities, float64.
    regression: (B, 1) within the range as a share of it, float64. segmentation: (B, *spatial) classes, int16.
    detection: (B, most, 2 + 2·axes) score, centre, size in voxels and class of the likeliest findings, float64.
    """
    if task == "segmentation":
        finite = torch.isfinite(logits).all(dim=1)
        return torch.where(finite, logits.argmax(dim=1), UNUSABLE_CLASS).to(torch.int16)
    if task == "detection":
        return found(logits.double())
    if task == "multilabel":
        return torch.sigmoid(logits.double())
    return logits.double() if task == "regression" else torch.softmax(logits.double(), dim=1)
