"""Every measurement by its name, with unit and meaning: what rules and reports may refer to."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.errors import ConfigError, DataError
from fedimg.imaging import radiomics
from fedimg.imaging.measurements import hounsfield, lesion, thorax
from fedimg.imaging.radiomics import first_order, glcm_features, shape
from fedimg.imaging.traditional import body_mask
from fedimg.values import Vector

Mask = npt.NDArray[np.bool_]
Value = float | str
REGIONS = ("lesion", "body", "heart", "thorax")
_WIDTH_HU, _BINS = 25.0, 32  # of grey levels: calibrated units, and others


@dataclass(frozen=True)
class Case:
    """One image with what is known of it.

    Attributes:
        image_DHW: in `units`. spacing_mm: (D, H, W); None where nobody knows: then nothing has a size or a shape.
        masks: of `REGIONS`, each of the image's shape. An empty lesion mask says that there is none; a missing one that
            nobody looked. The body is found by a threshold where it is not given.
        acquisition: parameters of the released file, by their names here (`fedimg.dicom.acquisition`).
    """

    image_DHW: npt.NDArray[np.floating]
    spacing_mm: tuple[float, float, float] | None
    units: Literal["HU", "arbitrary"] = "arbitrary"
    masks: Mapping[str, Mask] = field(default_factory=dict)
    acquisition: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image_DHW.ndim != 3:
            raise DataError("an image (D, H, W)", f"{self.image_DHW.ndim} dimensions", "add the missing axis")
        for name, mask in self.masks.items():
            if name not in REGIONS or mask.shape != self.image_DHW.shape or mask.dtype != np.bool_:
                raise DataError(
                    f"boolean masks of {', '.join(REGIONS)}, of shape {self.image_DHW.shape}",
                    f"{name} of shape {mask.shape}, {mask.dtype}",
                    "pass masks on the image's grid",
                )

    def values(self, region: str) -> Vector | None:
        """Intensities inside; None where the region is unknown or empty."""
        mask = self.body if region == "body" else self.masks.get(region)
        return None if mask is None or not mask.any() else self.image_DHW[mask].astype(np.float64)

    @cached_property
    def body(self) -> Mask:
        return self.masks["body"] if "body" in self.masks else body_mask(self.image_DHW)

    @cached_property
    def diameters_mm(self) -> tuple[float, float] | None:
        mask = self.masks.get("lesion")
        if mask is None or self.spacing_mm is None:
            return None
        return lesion.longest_diameters_mm(mask, self.spacing_mm)

    @cached_property
    def radiomics(self) -> Mapping[str, float]:
        """Of the lesion, by the names of the registry; nothing without one."""
        mask = self.masks.get("lesion")
        if mask is None or not mask.any():
            return {}
        if self.units == "HU":
            levels = radiomics.fixed_bin_size(self.image_DHW, mask, _WIDTH_HU)
        else:
            levels = radiomics.fixed_bin_number(self.image_DHW, mask, _BINS)
        values = self.values("lesion")
        assert values is not None  # noqa: S101 - the mask is not empty
        parts = {
            "intensity": radiomics.intensity_statistics(values),
            "texture": radiomics.co_occurrence(levels),
        }
        if self.spacing_mm is not None:
            parts["shape"] = radiomics.morphology(mask, self.spacing_mm, self.image_DHW)
        named = {f"{part}_{name}": value for part, found in parts.items() for name, value in found.items()}
        return {name: value for name, value in named.items() if np.isfinite(value)}


@dataclass(frozen=True, slots=True)
class Measurement:
    """A name's unit and meaning; `of` gives None where a case does not have it."""

    unit: str
    meaning: str
    of: Callable[[Case], Value | None]


def _percentile_of(percent: float) -> Callable[[Vector], float]:
    return lambda values: float(np.percentile(values, percent))


def _percentile(percent: float) -> Callable[[Case], float | None]:
    return _in_hu("lesion", _percentile_of(percent))


def _in_hu(region: str, statistic: Callable[[Vector], float]) -> Callable[[Case], float | None]:
    def measured(case: Case) -> float | None:
        values = case.values(region) if case.units == "HU" else None
        return None if values is None else statistic(values)

    return measured


def _fraction(region: str, tissue: str) -> Callable[[Case], float | None]:
    return _in_hu(region, lambda values: hounsfield.tissue_fractions(values)[tissue])


def _volume(case: Case) -> float | None:
    mask = case.masks.get("lesion")
    return None if mask is None or case.spacing_mm is None else lesion.volume_ml(mask, case.spacing_mm)


def _of_image(statistic: Callable[[Vector], float]) -> Callable[[Case], float]:
    return lambda case: float(statistic(np.asarray(case.image_DHW, np.float64)))


def _gradient(image_DHW: Vector) -> float:
    """In the plane: slices lie further apart than pixels."""
    rows, columns = (
        ndimage.gaussian_filter(image_DHW, (0, 1, 1), order=order) for order in ((0, 1, 0), (0, 0, 1))
    )
    return float(np.hypot(rows, columns).mean())


def _ratio(case: Case) -> float | None:
    heart, chest = case.masks.get("heart"), case.masks.get("thorax")
    if heart is None or chest is None:
        return None
    # of a stack, the view along its depth
    return thorax.cardiothoracic_ratio(np.logical_or.reduce(heart), np.logical_or.reduce(chest))


def _heuristic_ratio(case: Case) -> float | None:
    if len(case.image_DHW) != 1 or case.units == "HU":
        return None
    return thorax.heuristic_cardiothoracic_ratio(case.image_DHW[0])


def _radiomic(name: str) -> Callable[[Case], float | None]:
    return lambda case: case.radiomics.get(name)


def _acquired(name: str) -> Callable[[Case], Value | None]:
    return lambda case: case.acquisition.get(name)


ACQUISITION: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "tube_voltage_kv": ("kV", "KVP"),
        "tube_current_ma": ("mA", "XRayTubeCurrent"),
        "exposure_time_ms": ("ms", "ExposureTime"),
        "exposure_mas": ("mAs", "Exposure"),
        "ctdi_vol_mgy": ("mGy", "CTDIvol"),
        "slice_thickness_mm": ("mm", "SliceThickness"),
        "spacing_between_slices_mm": ("mm", "SpacingBetweenSlices"),
        "pixel_spacing_row_mm": ("mm", "PixelSpacing, between rows"),
        "pixel_spacing_column_mm": ("mm", "PixelSpacing, between columns"),
        "reconstruction_diameter_mm": ("mm", "ReconstructionDiameter"),
        "convolution_kernel": ("", "ConvolutionKernel, in words"),
        "echo_time_ms": ("ms", "EchoTime"),
        "repetition_time_ms": ("ms", "RepetitionTime"),
        "inversion_time_ms": ("ms", "InversionTime"),
        "flip_angle_deg": ("°", "FlipAngle"),
        "field_strength_t": ("T", "MagneticFieldStrength"),
    }
)
"""Unit and DICOM keyword of what is read off a released file."""


def _registry() -> dict[str, Measurement]:
    found = {
        "lesion_volume_ml": Measurement("ml", "voxels of the lesion mask", _volume),
        "lesion_longest_diameter_mm": Measurement(
            "mm", "in-plane, RECIST 1.1", lambda c: None if c.diameters_mm is None else c.diameters_mm[0]
        ),
        "lesion_perpendicular_diameter_mm": Measurement(
            "mm", "across it, same slice", lambda c: None if c.diameters_mm is None else c.diameters_mm[1]
        ),
        "cardiothoracic_ratio": Measurement("", "from heart and thorax masks", _ratio),
        "cardiothoracic_ratio_heuristic": Measurement("", "thresholds, no masks", _heuristic_ratio),
        "hu_mean": Measurement("HU", "of the lesion", _in_hu("lesion", lambda v: float(v.mean()))),
        "hu_sd": Measurement("HU", "of the lesion", _in_hu("lesion", lambda v: float(v.std()))),
    }
    found |= {
        "image_mean": Measurement("", "of the whole image, in its own units", _of_image(np.mean)),
        "image_sd": Measurement("", "of the whole image, in its own units", _of_image(np.std)),
        "image_gradient": Measurement(
            "per px",
            "mean slope of the image after a Gaussian of one pixel, in the plane",
            _of_image(_gradient),
        ),
    }
    found |= {
        f"image_p{p}": Measurement("", f"percentile {p} of the whole image", _of_image(_percentile_of(p)))
        for p in (5, 50, 95)
    }
    found |= {
        f"hu_p{p}": Measurement("HU", f"percentile {p} of the lesion", _percentile(p)) for p in (5, 50, 95)
    }
    for region in ("lesion", "body"):
        for tissue, (low, high) in hounsfield.RANGES_HU.items():
            meaning = f"share of the {region} from {low:g} to {high:g} HU"
            found[f"{region}_{tissue}_fraction"] = Measurement("", meaning, _fraction(region, tissue))
    for part, codes in (
        ("intensity", first_order.CODES),
        ("shape", shape.CODES),
        ("texture", glcm_features.CODES),
    ):
        for name, code in codes.items():
            key = f"{part}_{name}"
            found[key] = Measurement("IBSI", f"of the lesion, {code}", _radiomic(key))
    for name, (unit, keyword) in ACQUISITION.items():
        found[name] = Measurement(unit, f"acquisition: {keyword}", _acquired(name))
    return found


def group_of(name: str) -> str:
    """The kind of measurement that a name of the registry is."""
    if name in ACQUISITION:
        return "acquisition"
    if name.endswith("_fraction"):
        return "tissue"
    return name.partition("_")[0]


REGISTRY: Mapping[str, Measurement] = MappingProxyType(_registry())


def measure(case: Case, names: Collection[str] | None = None) -> dict[str, Value]:
    """What a case has of these names, all of them by default; what it does not have is left out.

    Raises ConfigError for a name that is none, with the nearest.
    """
    found = {}
    for name in REGISTRY if names is None else names:
        value = known(name).of(case)
        if value is not None:
            found[name] = value
    return found


def known(name: str) -> Measurement:
    """Raises ConfigError for a name that is none, with the nearest."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    raise ConfigError(
        "the name of a measurement",
        name,
        f"did you mean {near[0]}?" if near else "see docs/radiomics.md for the names",
    )
