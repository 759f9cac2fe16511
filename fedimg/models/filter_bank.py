"""Every voxel by what lies around it: fixed derivatives of Gaussians at several scales, and a small learnt head.

Scale-normalised derivatives (Lindeberg 1998, "Feature detection with automatic scale selection", eq. 4): at each
σ the smoothed image, the length of its gradient times σ, and the eigenvalues of its Hessian times σ², which tell
blobs from tubes and sheets (Frangi et al. 1998). None of it is learnt, so all of the privacy budget goes into the
one or two thousand weights of a head that looks at each voxel's features and its neighbours'.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from fedimg.models.architecture import Architecture
from fedimg.models.config import ModelConfig

_FIRST_SIGMA = 1.0
_TRUNCATE = 3.0
_LEAST_EIGENVALUE_GAP = 1e-12


class FilterBank:
    """(B, C, *spatial) → (B, features, *spatial) float32; σ = 1, 2, 4, … voxels, as many as `model.scales` + 1."""

    def __init__(self, config: ModelConfig) -> None:
        self._axes = config.dimensions
        self._sigmas = [_FIRST_SIGMA * 2**scale for scale in range(config.scales + 1)]
        self.size = config.channels * (1 + len(self._sigmas) * (2 + self._axes))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        features = [images]
        for sigma in self._sigmas:
            smooth = self._smoothed(images, sigma)
            first = [self._along(smooth, axis) for axis in range(self._axes)]
            features += [smooth, sigma * torch.stack(first).square().sum(dim=0).sqrt()]
            features += [sigma**2 * value for value in self._curvatures(first)]
        return torch.cat(features, dim=1)

    def _smoothed(self, images: torch.Tensor, sigma: float) -> torch.Tensor:
        reach = math.ceil(_TRUNCATE * sigma)
        offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        for axis in range(self._axes):
            images = self._filtered(images, kernel, axis)
        return images

    def _along(self, images: torch.Tensor, axis: int) -> torch.Tensor:
        """Central differences."""
        return self._filtered(images, images.new_tensor([-0.5, 0.0, 0.5]), axis)

    def _filtered(self, images: torch.Tensor, kernel: torch.Tensor, axis: int) -> torch.Tensor:
        """Correlation with a kernel along one axis; beyond the edge the edge goes on."""
        reach = len(kernel) // 2
        moved = images.movedim(2 + axis, -1)
        lines = moved.reshape(-1, 1, moved.shape[-1])
        padded = torch.cat(
            [lines[..., :1].expand(-1, 1, reach), lines, lines[..., -1:].expand(-1, 1, reach)], 2
        )
        return F.conv1d(padded, kernel.view(1, 1, -1)).reshape(moved.shape).movedim(-1, 2 + axis)

    def _curvatures(self, first: list[torch.Tensor]) -> list[torch.Tensor]:
        """Eigenvalues of the Hessian, ascending; of two axes in closed form."""
        second = [[self._along(one, axis) for axis in range(len(first))] for one in first]
        if len(first) == 2:
            (yy, yx), (_, xx) = second
            mean, half = (yy + xx) / 2, (yy - xx) / 2
            root = (half**2 + yx**2).clamp(min=_LEAST_EIGENVALUE_GAP).sqrt()
            return [mean - root, mean + root]
        hessian = torch.stack([torch.stack(row, dim=-1) for row in second], dim=-2)
        symmetric = (hessian + hessian.transpose(-1, -2)) / 2
        return list(torch.linalg.eigvalsh(symmetric).unbind(dim=-1))


class VoxelHead(nn.Module):
    """(B, features, *spatial) → (B, outputs, *spatial): 1 × 1, 3 × 3 and 1 × 1 convolutions with ReLU between."""

    def __init__(self, features: int, config: ModelConfig) -> None:
        super().__init__()
        convolution = nn.Conv2d if config.dimensions == 2 else nn.Conv3d
        self.mixed = convolution(features, config.width, 1)
        self.near = convolution(config.width, config.width, 3, padding=1)
        self.outputs = convolution(config.width, config.classes, 1)
        nn.init.zeros_(self.outputs.weight)
        if self.outputs.bias is not None:
            nn.init.zeros_(self.outputs.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.near(torch.relu(self.mixed(features))))
        return torch.as_tensor(self.outputs(hidden))


def filter_bank(config: ModelConfig) -> Architecture:
    frozen = FilterBank(config)
    head = VoxelHead(frozen.size, config)
    return Architecture(head, frozen, (frozen.size, *config.image_size))
