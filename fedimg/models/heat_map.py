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
"""Findings that are looked at in one image, by score."""
_PRIOR = math.log(0.01 / 0.99)  # as in the paper's reference: an untrained map is nearly empty
_SIZE_UNIT, _SIZE_WEIGHT = 8.0, 0.1  # voxels for a size of 1; λ_size


def centre_heat_map(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, 1 + axes, *spatial) twice → (N,): focal loss of the map, and sizes' absolute errors where findings are.

    Each is divided by the image's findings, an image without by one.
    """
    logits, heat = outputs[:, 0] + _PRIOR, labels[:, 0]
    centres = (heat == 1).to(outputs.dtype)
    p = torch.sigmoid(logits)
    hit = centres * (1 - p) ** 2 * F.logsigmoid(logits)
    miss = (1 - centres) * (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits)
    error = (centres[:, None] * (outputs[:, 1:] - labels[:, 1:] / _SIZE_UNIT).abs()).flatten(1).sum(dim=1)
    count = centres.flatten(1).sum(dim=1).clamp(min=1)
    return (_SIZE_WEIGHT * error - (hit + miss).flatten(1).sum(dim=1)) / count


def found(outputs: torch.Tensor) -> torch.Tensor:
    """(N, 1 + axes, *spatial) → (N, MOST_FOUND, 1 + 2·axes): score, centre and size in voxels, best first.

    A finding is a voxel whose score none of its neighbours exceeds.
    """
    scores = torch.sigmoid(outputs[:, :1] + _PRIOR)
    spatial = outputs.shape[2:]
    pool = F.max_pool2d if len(spatial) == 2 else F.max_pool3d
    peaks = torch.where(pool(scores, 3, stride=1, padding=1) == scores, scores, 0.0).flatten(1)
    most = min(MOST_FOUND, peaks.shape[1])
    best, place = peaks.topk(most, dim=1)
    centre = torch.stack(torch.unravel_index(place, spatial), dim=2).to(outputs.dtype)
    sizes = outputs[:, 1:].flatten(2).gather(2, place[:, None].expand(-1, len(spatial), -1))
    size = (sizes.transpose(1, 2) * _SIZE_UNIT).clamp(min=1)
    return torch.cat([best[:, :, None], centre, size], dim=2)
