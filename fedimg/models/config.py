"""Which network is trained: plain values, so that a server may send them and a site may judge them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from fedimg.errors import ConfigError
from fedimg.models.classical_config import ClassicalConfig

_LARGEST_SIDE = 4096
_MOST_FINDINGS = 62
_MOST_BESIDE = 52  # whose sum of 2^k is a float64 number, beside other labels in one row
SEVERAL = "several"
TASKS = ("classification", "multilabel", "regression", "segmentation", "detection", SEVERAL)
HEADS = ("classification", "multilabel", "regression", "segmentation")
"""What one network may learn at once with `model.task=several`, each at most once."""
OF_VOXELS = frozenset({"segmentation", "detection"})
OF_NUMBERS = frozenset({"multilabel", "regression", "detection", SEVERAL})
"""Tasks whose labels are float32 numbers; the others' are classes, int64."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A network by name, and the shape of what goes in and comes out.

    Attributes:
        name: a built-in network or an installed extension (entry point group `fedimg.models`).
        dimensions: 2 or 3; `image_size` has as many entries, in pixels, (H, W) or (D, H, W).
        channels: of the image, with its planes of presence (`imaging.together`). features: numbers beside it, each in two
            planes behind the image's (`fedimg.models.late_fusion`). classes: of an image or of every voxel (the background
            is one of them); of "multilabel" the findings, each of which is there or not; of "detection" the kinds of
            findings and one more, for what is none. "regression" has no use for it.
        task: what is learnt of an image: "classification", one class; "multilabel", any of several findings;
            "regression", a number; "segmentation", a class for every voxel; "detection", where findings are
            and how large. The last two take a network of `build.SEGMENT` or an extension. "several": all of
            `heads`, one behind the other in a row an image (`fedimg.models.heads`).
        heads: of "several", two tasks or more; the first one's headline is the run's. Empty for other tasks.
        reads_voxels: with a head of voxels, whether heads of images read what it says too, and not only channels of their
            own: the score follows from the map, and both are learnt sooner where findings are small.
        target_range: of "regression", the public least and greatest number; what lies beyond counts as the nearer.
        width: channels of the first stage (`cnn`, `segresnet`, `basic_unet`, `unet`), hidden ones (`filter_bank`).
        weight_standardisation: `cnn` only: standardise each filter (Qiao et al. 2019), which with
            group normalisation replaces batch normalisation; under clipping and noise it cost more than it gave.
        scales, orientations: of `scattering` J, and of images L (volumes have harmonics of every orientation);
            `filter_bank` has its Gaussians at `scales` + 1 widths.
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
    features: int = 0
    task: Literal["classification", "multilabel", "regression", "segmentation", "detection", "several"] = (
        "classification"
    )
    heads: tuple[Literal["classification", "multilabel", "regression", "segmentation"], ...] = ()
    reads_voxels: bool = False
    target_range: tuple[float, float] = (0.0, 1.0)
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
        if self.task not in TASKS:
            raise ConfigError(f"model.task to be one of {', '.join(TASKS)}", str(self.task), "choose one")
        if self.task == "multilabel" and self.classes > _MOST_FINDINGS:
            raise ConfigError(
                f"at most {_MOST_FINDINGS} findings", f"model.classes={self.classes}", "join some"
            )
        low, high = self.target_range
        if not -math.inf < low < high < math.inf:
            raise ConfigError(
                "model.target_range: two numbers, the second larger", str(list(self.target_range)), "set both"
            )
        if self.features and self.of_voxels:
            expected = f"model.features=0 with model.task={self.task}: a table says nothing of single voxels"
            raise ConfigError(expected, str(self.features), "leave data.features empty")
        if self.task in ("classification", "segmentation", "detection") and self.classes < 2:
            raise ConfigError("model.classes ≥ 2", str(self.classes), "name two classes or more")
        _check_heads(self)
        for key, least, most in (
            ("channels", 1, 64),
            ("features", 0, 64),
            ("classes", 1, 1000),
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
        """(C, *spatial): the image's channels, then two planes of each feature."""
        return (self.channels + 2 * self.features, *self.image_size)

    @property
    def each(self) -> tuple[ModelConfig, ...]:
        """The tasks that are learnt, each as a configuration of its own; but for "several" this one alone."""
        return tuple(replace(self, task=head, heads=(), reads_voxels=False) for head in self.heads) or (self,)

    @property
    def of_voxels(self) -> bool:
        """Whether every voxel has outputs, perhaps beside the image's own."""
        return not OF_VOXELS.isdisjoint((self.task, *self.heads))

    @property
    def outputs(self) -> int:
        """The network's output channels: logits; of detection a heat map a class and a size along each axis; of several
        the length of an image's row.
        """
        if self.heads:
            return sum(math.prod(one.output_shape) for one in self.each)
        return {"regression": 1, "detection": self.classes - 1 + self.dimensions}.get(self.task, self.classes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one image's outputs: (outputs,), of voxels (outputs, *spatial)."""
        return (self.outputs, *(self.image_size if self.task in OF_VOXELS else ()))

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of one image's labels: () a class or a number, (findings,), *spatial, or the outputs of detection; of
        several one row of all of them.
        """
        if self.heads:
            return (sum(math.prod(one.label_shape) for one in self.each),)
        if self.task == "detection":
            return self.output_shape
        return {"multilabel": (self.classes,), "segmentation": self.image_size}.get(self.task, ())


def _check_heads(config: ModelConfig) -> None:
    """Raises ConfigError for heads that do not go together, or heads of another task."""
    heads = config.heads
    if config.task != SEVERAL:
        if heads:
            raise ConfigError("model.heads with model.task=several only", str(list(heads)), "set both alike")
        if config.reads_voxels:
            raise ConfigError("model.reads_voxels with model.task=several only", "true", "leave it out")
        return
    if len(heads) < 2 or len(set(heads)) < len(heads) or not set(heads) <= set(HEADS):
        expected = f"model.heads: two or more of {', '.join(HEADS)}, each once"
        raise ConfigError(expected, str(list(heads)), "name the tasks that are learnt at once")
    if "multilabel" in heads and {"classification", "segmentation"} & set(heads):
        expected = (
            "findings in model.heads beside a number only, since a class says otherwise what an image shows"
        )
        raise ConfigError(expected, str(list(heads)), "leave multilabel out, or classes")
    if "multilabel" in heads and config.classes > _MOST_BESIDE:
        found = f"model.classes={config.classes}"
        raise ConfigError(f"at most {_MOST_BESIDE} findings beside a number", found, "join some")
    if config.reads_voxels and not config.of_voxels:
        expected = "model.reads_voxels=false without segmentation among model.heads"
        raise ConfigError(expected, "true", "leave it out")
    _ = config.each  # each judges itself when it is made
