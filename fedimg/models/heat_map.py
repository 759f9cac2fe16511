"""Findings as points of a heat map, with a size at each: CenterNet.

Zhou, Wang and Krähenbühl 2019, "Objects as Points" (arXiv 1904.07850): eq. 1 the penalty-reduced focal loss of
the map, section 3 the sizes. There the map is a quarter of the image; here it is as large, so that centres need
no offset. Targets are made by `imaging.findings`.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

MOST_FOUND = 16
"""Findings of a class that are looked at in one image, by score."""
_PRIOR = math.log(0.01 / 0.99)  # as in the paper's reference: an untrained map is nearly empty
_SIZE_UNIT, _SIZE_WEIGHT = 8.0, 0.1  # voxels for a size of 1; λ_size


def centre_heat_map(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, classes + axes, *spatial) twice → (N,): focal loss of each class's map, and sizes' absolute errors where
    findings are, of whatever class.

    Each is divided by the image's findings, an image without by one.
    """
    classes = _classes(outputs)
    logits, heat = outputs[:, :classes] + _PRIOR, labels[:, :classes]
    centres = (heat == 1).to(outputs.dtype)
    p = torch.sigmoid(logits)
    hit = centres * (1 - p) ** 2 * F.logsigmoid(logits)
    miss = (1 - centres) * (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits)
    off = (outputs[:, classes:] - labels[:, classes:] / _SIZE_UNIT).abs()
    error = (centres.amax(dim=1, keepdim=True) * off).flatten(1).sum(dim=1)
    count = centres.flatten(1).sum(dim=1).clamp(min=1)
    return (_SIZE_WEIGHT * error - (hit + miss).flatten(1).sum(dim=1)) / count


def found(outputs: torch.Tensor) -> torch.Tensor:
    """(N, classes + axes, *spatial) → (N, classes · MOST_FOUND, 2 + 2·axes): score, centre, size in voxels and class,
    best first.

    A finding of a class is a voxel whose score in its map none of its neighbours exceeds.
    """
    classes, spatial = _classes(outputs), outputs.shape[2:]
    scores = torch.sigmoid(outputs[:, :classes] + _PRIOR)
    pool = F.max_pool2d if len(spatial) == 2 else F.max_pool3d
    peaks = torch.where(pool(scores, 3, stride=1, padding=1) == scores, scores, 0.0).flatten(2)
    best, place = (part.flatten(1) for part in peaks.topk(min(MOST_FOUND, peaks.shape[2]), dim=2))
    kind = torch.arange(1, classes + 1, device=outputs.device).repeat_interleave(best.shape[1] // classes)
    order = best.argsort(dim=1, descending=True, stable=True)
    best, place, kind = best.gather(1, order), place.gather(1, order), kind[order]
    centre = torch.stack(torch.unravel_index(place, spatial), dim=2).to(outputs.dtype)
    sizes = outputs[:, classes:].flatten(2).gather(2, place[:, None].expand(-1, len(spatial), -1))
    size = (sizes.transpose(1, 2) * _SIZE_UNIT).clamp(min=1)
    return torch.cat([best[:, :, None], centre, size, kind[:, :, None].to(outputs.dtype)], dim=2)


def _classes(outputs: torch.Tensor) -> int:
    """Channels that are maps: the others are a size along each axis."""
    return outputs.shape[1] - (outputs.dim() - 2)
