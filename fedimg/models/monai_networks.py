"""Networks of MONAI, to label images or voxels. They are made fit for privacy in `build`, like any extension.

Imported only when one of them is asked for, because MONAI takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from fedimg.errors import ConfigError
from fedimg.models.config import OF_VOXELS, ModelConfig


def densenet121(config: ModelConfig) -> nn.Module:
    """Huang et al. 2017 (arXiv 1608.06993), 7M parameters in 2-D, 11M in 3-D."""
    network: nn.Module = _nets("densenet").DenseNet121(
        spatial_dims=config.dimensions, in_channels=config.channels, out_channels=config.classes
    )
    return network


def resnet18(config: ModelConfig) -> nn.Module:
    """He et al. 2016 (arXiv 1512.03385), 11M parameters in 2-D, 33M in 3-D."""
    network: nn.Module = _nets("resnet").resnet18(
        spatial_dims=config.dimensions, n_input_channels=config.channels, num_classes=config.classes
    )
    return network


def efficientnet_b0(config: ModelConfig) -> nn.Module:
    """Tan and Le 2019 (arXiv 1905.11946), 4M parameters in 2-D; square or cubic images."""
    if len(set(config.image_size)) != 1:
        raise ConfigError(
            "equal sides in model.image_size for efficientnet_b0",
            str(list(config.image_size)),
            "resize in imaging",
        )
    network = _nets("efficientnet").EfficientNet(
        # The b0 block strings; given in full because `EfficientNetBN` fixes the image size to 224.
        blocks_args_str=[
            "r1_k3_s11_e1_i32_o16_se0.25",
            "r2_k3_s22_e6_i16_o24_se0.25",
            "r2_k5_s22_e6_i24_o40_se0.25",
            "r3_k3_s22_e6_i40_o80_se0.25",
            "r3_k5_s11_e6_i80_o112_se0.25",
            "r4_k5_s22_e6_i112_o192_se0.25",
            "r1_k3_s11_e6_i192_o320_se0.25",
        ],
        spatial_dims=config.dimensions,
        in_channels=config.channels,
        num_classes=config.classes,
        image_size=config.image_size[0],
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    )
    # The memory-saving activation is an autograd function that torch.func cannot transform.
    network.set_swish(memory_efficient=False)
    module: nn.Module = network
    return module


class SegResNetClassifier(nn.Module):
    """The encoder of SegResNet (Myronenko 2018, arXiv 1810.11654), pooled over space, with a linear head.

    (B, C, *spatial) → (B, classes).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        network = _nets("segresnet").SegResNet(
            spatial_dims=config.dimensions,
            init_filters=config.width,
            in_channels=config.channels,
            blocks_up=(),
            norm=("group", {"num_groups": 4}),
        )
        self.first, self.down = network.convInit, network.down_layers
        self.head = nn.Linear(config.width * 2 ** (len(self.down) - 1), config.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.first(images)
        for stage in self.down:
            features = stage(features)
        return torch.as_tensor(self.head(features.flatten(2).mean(dim=2)))


def segresnet(config: ModelConfig) -> nn.Module:
    """By `model.task`: MONAI's own SegResNet, 5M parameters in 3-D at width 16, or its encoder as a classifier.

    The former is as MONAI builds it with `init_filters=width`, names of parameters included, so that
    weights trained there load here.
    """
    groups = 8 if config.task in OF_VOXELS else 4
    if config.width % groups:
        raise ConfigError(
            f"model.width divisible by {groups} for segresnet", str(config.width), "set model.width=16"
        )
    if config.task not in OF_VOXELS:
        return SegResNetClassifier(config)
    _check_sides(config, 8)
    network: nn.Module = _nets("segresnet").SegResNet(
        spatial_dims=config.dimensions,
        init_filters=config.width,
        in_channels=config.channels,
        out_channels=config.classes,
    )
    return network


def basic_unet(config: ModelConfig) -> nn.Module:
    """The U-Net of Falk et al. 2019 (doi 10.1038/s41592-018-0261-2), every voxel; MONAI's own size is width 32."""
    _check_sides(config, 16, least=32)
    network: nn.Module = _nets("basic_unet").BasicUNet(
        spatial_dims=config.dimensions,
        in_channels=config.channels,
        out_channels=config.classes,
        features=tuple(config.width * factor for factor in (1, 1, 2, 4, 8, 1)),
    )
    return network


def unet(config: ModelConfig) -> nn.Module:
    """The residual U-Net of Kerfoot et al. 2018 (doi 10.1007/978-3-030-12029-0_40), five levels, every voxel."""
    _check_sides(config, 16, least=32)
    network: nn.Module = _nets("unet").UNet(
        spatial_dims=config.dimensions,
        in_channels=config.channels,
        out_channels=config.classes,
        channels=tuple(config.width * factor for factor in (1, 2, 4, 8, 16)),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )
    return network


def _check_sides(config: ModelConfig, factor: int, least: int = 1) -> None:
    """What is halved on the way down must meet itself on the way up, and be more than one voxel at the bottom."""
    if any(side % factor or side < least for side in config.image_size):
        at_least = f", at least {least}," if least > 1 else ""
        raise ConfigError(
            f"sides divisible by {factor}{at_least} in model.image_size for {config.name}",
            str(list(config.image_size)),
            "resize in imaging",
        )


def _nets(name: str) -> Any:
    return import_module(f"monai.networks.nets.{name}")
