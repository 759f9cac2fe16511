"""What preprocessing is told: public constants, equal at all sites, never statistics of the data.

A mean or a percentile taken over a site's images would be a function of its patients that no noise
covers. Whatever is measured here is measured on one image, and is used on that image alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

from fedimg.errors import ConfigError

PIPELINE_VERSION = 2
"""Counts up whenever the same input and configuration would give other floats."""

LEAST_SPACING_MM, LARGEST_SPACING_MM = 1e-3, 1e3
"""From a micrometre to a metre: what lies outside is a wrong unit or a broken header, and would be resampled
into next to nothing or without end."""

LARGEST_SIDE_PX = 1 << 14
"""More than any detector has."""

MODALITY = re.compile(r"[A-Z][A-Z0-9_]{0,15}")
MOST_MODALITIES, MOST_FEATURES = 8, 64

# Their interpolation and filters decide the last bits: another version is another cache.
_NUMERICS = ("numpy", "scipy", "torch", "monai", "scikit-image")


@dataclass(frozen=True)
class IntensityConfig:
    """How stored values become network inputs.

    Attributes:
        hu_window: (centre, width) for CT, in Hounsfield units; the file's own window is not asked,
            because scanners set it per protocol.
        file_window: other modalities: use the file's window where it has one.
        percentiles: else the range between these percentiles of the same image.
        mean, std: public; the windowed value x in [0, 1] becomes (x − mean) ÷ std.
    """

    hu_window: tuple[float, float] = (40.0, 400.0)
    file_window: bool = True
    percentiles: tuple[float, float] = (0.5, 99.5)
    mean: float = 0.5
    std: float = 0.25


@dataclass(frozen=True)
class EnhancementConfig:
    """Optional contrast and noise filters, applied at the final resolution.

    Attributes:
        denoise: "none", "median", "gaussian" or "nlm" (non-local means, Buades et al. 2005).
        median_px: side of the median's square, odd.
        gaussian_px: standard deviation.
        nlm_strength: cut-off distance h on the [0, 1] scale; patches of 3, search radius 5 pixels.
        clahe: contrast-limited adaptive histogram equalisation (Zuiderveld 1994).
        clahe_tiles: tiles along each axis.
        clahe_clip_limit: in [0, 1]; larger gives more contrast.
    """

    denoise: Literal["none", "median", "gaussian", "nlm"] = "none"
    median_px: int = 3
    gaussian_px: float = 0.7
    nlm_strength: float = 0.1
    clahe: bool = False
    clahe_tiles: int = 8
    clahe_clip_limit: float = 0.01


@dataclass(frozen=True)
class CleaningConfig:
    """Which frames are no use. Fractions are of a frame's pixels outside blanked regions.

    Attributes:
        blank_fraction: a frame is blank if fewer of its pixels than this differ from one value.
        saturated_fraction: a frame is clipped if more of its pixels than this share its highest value.
        least_side_px: smaller frames are refused.
        largest_voxels: more voxels than this, before or after resampling, are refused.
        drop_duplicates: keep one of identical images of the same patient.
    """

    blank_fraction: float = 0.01
    saturated_fraction: float = 0.5
    least_side_px: int = 8
    largest_voxels: int = 1 << 28
    drop_duplicates: bool = True


@dataclass(frozen=True)
class AugmentationConfig:
    """Amplitudes of random changes at training time; every draw is uniform within ± the amplitude.

    Attributes:
        copies: augmented copies K of each image inside the patient's unit (De et al. 2022,
            "augmentation multiplicity"); the patient's gradient is the mean over them, so neither
            sensitivity nor accounting changes. 1 with all amplitudes 0 is no augmentation.
        rotation_degrees: in the H–W plane. shift_fraction: of each side.
        flip: left–right with probability ½; off by default because anatomy has sides.
        gain, bias: x → (1 + gain·u)·x + bias·v, in normalised units. noise_std: Gaussian, normalised units.
        modality_dropout: rate at which each modality of `imaging.together` is taken for missing; one always stays.
    """

    copies: int = 1
    rotation_degrees: float = 0.0
    shift_fraction: float = 0.0
    flip: bool = False
    gain: float = 0.0
    bias: float = 0.0
    noise_std: float = 0.0
    modality_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(
                "imaging.augmentation.copies ≥ 1", str(self.copies), "use 1 for no extra copies"
            )
        amplitudes = (self.rotation_degrees, self.shift_fraction, self.gain, self.bias, self.noise_std)
        if not all(0 <= a < float("inf") for a in amplitudes):
            raise ConfigError(
                "imaging.augmentation amplitudes ≥ 0", "another number", "an amplitude is a half width"
            )
        _require("imaging.augmentation.modality_dropout", "a rate in [0, 1)", 0 <= self.modality_dropout < 1)

    @property
    def moves(self) -> bool:
        """Whether voxels go elsewhere, and their labels with them."""
        return bool(self.rotation_degrees or self.shift_fraction) or self.flip

    @property
    def active(self) -> bool:
        changed = self.moves or bool(self.gain or self.bias or self.noise_std)
        return changed or self.copies > 1 or self.modality_dropout > 0


@dataclass(frozen=True)
class Planes:
    """Which channels of an example are what: blocks of an image, then their planes of presence, then features.

    Attributes:
        block: channels of one image. modalities: how many of them, each with a plane that is 1 where it is there and
            0 where it is missing; 0: one image, and no such plane.
        features: each has two planes: its value as a share of its public range, and 1 or 0 for there or missing.
    """

    block: int = 1
    modalities: int = 0
    features: int = 0

    @property
    def pixels(self) -> int:
        return self.block * max(1, self.modalities)

    @property
    def image(self) -> int:
        """Channels of the image as a network counts them (`model.channels`): without features."""
        return self.pixels + self.modalities

    @property
    def total(self) -> int:
        return self.image + 2 * self.features


@dataclass(frozen=True)
class PlacedAugmentation(AugmentationConfig):
    """The same for examples of several kinds of planes: presence and features are never moved or noised."""

    planes: Planes = field(default_factory=Planes)


@dataclass(frozen=True)
class ImagingConfig:
    """One image's way from decoded pixels to a network input.

    Attributes:
        dimensions: 2 (each frame or slice is one example) or 3.
        unit: with 3 dimensions, "series" stacks single-slice files by position, "image" takes each
            file as one volume. With 2 dimensions always "image", unless `together` is set.
        together: modalities, each a block of channels of one example (docs/modalities.md); `unit` then says whether
            an example is a "study" or a "patient". With 2 dimensions the middle slice of the first that is there.
        features: numbers beside each image, by name, with their public (least, greatest); `data.features` has them.
        image_size: (H, W) or (D, H, W) pixels of the result.
        channels: of the result; grey images are repeated, colour arrays become luminance for 1.
        spacing_mm: resample to (H, W) or (D, H, W) millimetres, then crop or pad about the centre to
            `image_size`. None: scale the whole image into `image_size`, see `fit`. Between
            `LEAST_SPACING_MM` and `LARGEST_SPACING_MM`, like the spacing of the files themselves.
        fit: "letterbox" keeps the in-plane proportions in millimetres and pads, "stretch" does not.
        frames_per_file: at most so many frames of a cine or slices of a volume, evenly spaced
            (2 dimensions); None for all.
    """

    dimensions: Literal[2, 3] = 2
    unit: Literal["image", "series", "study", "patient"] = "image"
    together: tuple[str, ...] = ()
    features: Mapping[str, tuple[float, float]] = field(
        default_factory=dict, hash=False
    )  # a mapping has none
    image_size: tuple[int, ...] = (64, 64)
    channels: Literal[1, 3] = 1
    spacing_mm: tuple[float, ...] | None = None
    fit: Literal["letterbox", "stretch"] = "letterbox"
    frames_per_file: int | None = None
    intensity: IntensityConfig = field(default_factory=IntensityConfig)
    enhancement: EnhancementConfig = field(default_factory=EnhancementConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        _check_together(self)
        check_features("imaging.features", self.features)
        _sizes("imaging.image_size", self.image_size, self.dimensions, LARGEST_SIDE_PX, 1)
        if self.spacing_mm is not None:
            _sizes(
                "imaging.spacing_mm", self.spacing_mm, self.dimensions, LARGEST_SPACING_MM, LEAST_SPACING_MM
            )
        low, high = self.intensity.percentiles
        _require("imaging.intensity.percentiles", "0 ≤ low < high ≤ 100", 0 <= low < high <= 100)
        _require("imaging.intensity.std", "a number above 0", 0 < self.intensity.std < float("inf"))
        _require("imaging.intensity.hu_window", "a width above 0", self.intensity.hu_window[1] > 0)
        _require("imaging.frames_per_file", "a number above 0, or null", (self.frames_per_file or 1) > 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of one example, all its planes together."""
        return (self.planes.total, *self.image_size)

    @property
    def planes(self) -> Planes:
        return Planes(self.channels, len(self.together), len(self.features))

    @property
    def varied(self) -> AugmentationConfig:
        """`augmentation`, which knows which channels are pixels."""
        if not (self.together or self.features):
            return self.augmentation
        own = {one.name: getattr(self.augmentation, one.name) for one in fields(AugmentationConfig)}
        return PlacedAugmentation(**own, planes=self.planes)

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of everything that decides a preprocessed image's floats; names the cache's entries.

        Augmentation and features are left out: they come after the cache.
        """
        content: dict[str, Any] = asdict(self)
        del content["augmentation"], content["features"]
        content["pipeline"] = PIPELINE_VERSION
        content["versions"] = {name: version(name) for name in _NUMERICS}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=list)
        return hashlib.sha256(text.encode()).hexdigest()


def check_features(key: str, features: Mapping[str, tuple[float, float]]) -> None:
    """Raises ConfigError for names or bounds that are none."""
    rule = f"up to {MOST_FEATURES} names of small letters, digits and _, each with two numbers, the second larger"
    named = all(re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) for name in features)
    bounded = all(
        -math.inf < low < high < math.inf and high - low < math.inf for low, high in features.values()
    )
    _require(key, rule, named and bounded and len(features) <= MOST_FEATURES)


def _check_together(config: ImagingConfig) -> None:
    if not config.together:
        fits = config.unit == "image" or (config.dimensions == 3 and config.unit == "series")
        rule = "image, because each frame is one example in 2 dimensions; study and patient with imaging.together"
        _require("imaging.unit", rule, fits)
        _require(
            "imaging.augmentation.modality_dropout",
            "0 without imaging.together",
            not config.augmentation.modality_dropout,
        )
        return
    names = all(MODALITY.fullmatch(name) for name in config.together)
    several = len(set(config.together)) == len(config.together) <= MOST_MODALITIES
    rule = f"up to {MOST_MODALITIES} different names of capitals, digits and _, as DICOM writes a modality"
    _require("imaging.together", rule, names and several)
    _require("imaging.unit", "study or patient, with imaging.together", config.unit in ("study", "patient"))
    _require("imaging.frames_per_file", "null with imaging.together", config.frames_per_file is None)


def _require(key: str, rule: str, holds: bool) -> None:
    if not holds:
        raise ConfigError(f"{key}: {rule}", "a value outside it", "change this key")


def _sizes(key: str, found: tuple[float, ...], dimensions: int, most: float, least: float) -> None:
    axes = "(H, W)" if dimensions == 2 else "(D, H, W)"
    if len(found) != dimensions or not all(least <= size <= most for size in found):
        expected = f"{key} of {dimensions} numbers from {least:g} to {most:g}, {axes}"
        raise ConfigError(expected, str(found), "change this key")
