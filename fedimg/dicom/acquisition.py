"""How an image was taken, read off a released file: only what its de-identification profile keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from fedimg.dicom.geometry import group, numbers
from fedimg.dicom.profile import Context, load_profile
from fedimg.dicom.reader import read_dataset
from fedimg.errors import DataError

_GROUPS = "SharedFunctionalGroupsSequence"


@dataclass(frozen=True, slots=True)
class _Source:
    """An attribute, its values' number and the one meant; and the functional group that has it in enhanced objects."""

    keyword: str
    values: int = 1
    place: int = 0
    macro: str = ""


PARAMETERS: Mapping[str, tuple[_Source, ...]] = MappingProxyType(
    {
        "tube_voltage_kv": (_Source("KVP"), _Source("KVP", macro="CTXRayDetailsSequence")),
        "tube_current_ma": (_Source("XRayTubeCurrent"),),
        "exposure_time_ms": (_Source("ExposureTime"),),
        "exposure_mas": (_Source("Exposure"),),
        "ctdi_vol_mgy": (_Source("CTDIvol"),),
        "slice_thickness_mm": (
            _Source("SliceThickness"),
            _Source("SliceThickness", macro="PixelMeasuresSequence"),
        ),
        "spacing_between_slices_mm": (_Source("SpacingBetweenSlices"),),
        "pixel_spacing_row_mm": (
            _Source("PixelSpacing", 2),
            _Source("PixelSpacing", 2, macro="PixelMeasuresSequence"),
        ),
        "pixel_spacing_column_mm": (
            _Source("PixelSpacing", 2, 1),
            _Source("PixelSpacing", 2, 1, macro="PixelMeasuresSequence"),
        ),
        "reconstruction_diameter_mm": (_Source("ReconstructionDiameter"),),
        "convolution_kernel": (_Source("ConvolutionKernel"),),
        "echo_time_ms": (_Source("EchoTime"), _Source("EffectiveEchoTime", macro="MREchoSequence")),
        "repetition_time_ms": (
            _Source("RepetitionTime"),
            _Source("RepetitionTime", macro="MRTimingAndRelatedParametersSequence"),
        ),
        "inversion_time_ms": (_Source("InversionTime"),),
        "flip_angle_deg": (
            _Source("FlipAngle"),
            _Source("FlipAngle", macro="MRTimingAndRelatedParametersSequence"),
        ),
        "field_strength_t": (_Source("MagneticFieldStrength"),),
    }
)
"""By name, with its unit as suffix: the attributes that tell it, the first one found counts."""
_WORDS = frozenset({"convolution_kernel"})


def acquisition_parameters(released: Path | Dataset, profile: str = "train") -> dict[str, float | str]:
    """Those of `PARAMETERS` that the file has and that `profile` keeps in objects of its kind; finite numbers, or words.

    An attribute that the profile drops is never read, whatever the file holds: `train` drops the kernel, whose name is
    free text. Raises DataError for a file that does not say that it was de-identified (0012,0062), Quarantined for one
    that cannot be read, ConfigError for an unknown profile.
    """
    dataset = read_dataset(released) if isinstance(released, Path) else released
    if dataset.get("PatientIdentityRemoved") != "YES":
        raise DataError("a released file", "one that was not de-identified", "take it in with fedimg first")
    root = load_profile(profile).root(str(dataset.get("SOPClassUID", "")))
    found: dict[str, float | str] = {}
    for name, sources in PARAMETERS.items():
        for source in sources:
            value = _value(dataset, source, words=name in _WORDS) if _kept(root, source) else None
            if value is not None:
                found[name] = value
                break
    return found


def _kept(root: Context, source: _Source) -> bool:
    """Whether every attribute on the way is kept or cleaned."""
    context = root
    for keyword in _way(source):
        row = context.get(tag_for_keyword(keyword) or 0)
        if row is None or row.action not in ("K", "C"):
            return False
        if row.vr == "SQ":
            context = context.inside(row)
    return True


def _way(source: _Source) -> Iterator[str]:
    if source.macro:
        yield from (_GROUPS, source.macro)
    yield source.keyword


def _value(dataset: Dataset, source: _Source, *, words: bool) -> float | str | None:
    holder = group(dataset, source.macro, 0) if source.macro else dataset
    if holder is None:
        return None
    if words:
        value = holder.get(source.keyword)
        text = "\\".join(value) if isinstance(value, MultiValue) else str(value or "").strip()
        return text or None
    values = numbers(holder, source.keyword, source.values)
    return None if values is None else values[source.place]
