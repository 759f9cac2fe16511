"""Which network is trained: plain values, so that a server may send them and a site may judge them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fedimg.errors import ConfigError
from fedimg.models.classical_config import ClassicalConfig

_LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A network by name, and the shape of what goes in and comes out.

    Attributes:
        name: a built-in network or an installed extension (entry point group `fedimg.models`).
        dimensions: 2 or 3; `image_size` has as many entries, in pixels, (H, W) or (D, H, W).
        channels: of the image. classes: logits, of an image or of every voxel (the background is one of them).
        task: "classification", one label an image; or "segmentation", one label a voxel, which a network
            of `build.SEGMENT` or an extension can do, in the library only: no run takes labels of voxels yet.
        width: channels of the first stage (`cnn`, `segresnet`, `basic_unet`, `unet`).
        weight_standardisation: `cnn` only: standardise each filter (Qiao et al. 2019), which with
            group normalisation replaces batch normalisation; under clipping and noise it cost more than it gave.
        scales, orientations: `scattering` only: J, and of images L; volumes have harmonics of every orientation.
        centring_rounds: `scattering` only: so many first rounds learn the features' mean, which the head then
            takes off; 0 takes nothing off (`fedimg.models.centring`).
        classical: of networks that are learnt from sums of statistics (`classical_config.CLASSICAL`).
        weights: a file of pretrained weights on this machine, .safetensors or a torch state dict;
            None starts from `seed`. Sites never need it: the first global model carries it to them.
    """

    name: str = "scattering"
    dimensions: int = 2
    channels: int = 1
    classes: int = 2
    task: Literal["classification", "segmentation"] = "classification"
    image_size: tuple[int, ...] = (64, 64)
    width: int = 16
    weight_standardisation: bool = False
    scales: int = 2
    orientations: int = 8
    centring_rounds: int = 0
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3) or len(self.image_size) != self.dimensions:
            raise ConfigError(
                "model.dimensions 2 or 3, with as many entries in model.image_size",
                f"{self.dimensions} and {len(self.image_size)} entries",
                "set both alike",
            )
        if not all(1 <= side <= _LARGEST_SIDE for side in self.image_size):
            raise ConfigError(
                f"model.image_size between 1 and {_LARGEST_SIDE}",
                str(list(self.image_size)),
                "resize in imaging",
            )
        if self.task not in ("classification", "segmentation"):
            raise ConfigError(
                "model.task to be classification or segmentation", str(self.task), "choose one of these"
            )
        for key, least, most in (
            ("channels", 1, 64),
            ("classes", 2, 1000),
            ("width", 1, 1024),
            ("scales", 1, 6),
            ("orientations", 1, 32),
            ("centring_rounds", 0, 10_000),
        ):
            if not least <= getattr(self, key) <= most:
                raise ConfigError(
                    f"model.{key} between {least} and {most}",
                    str(getattr(self, key)),
                    f"set model.{key} in that range",
                )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, *spatial)."""
        return (self.channels, *self.image_size)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of one image's labels: () for classification, *spatial for segmentation."""
        return self.image_size if self.task == "segmentation" else ()
