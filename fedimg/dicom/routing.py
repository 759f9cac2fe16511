"""Pixel layer L1: which objects may be released at all. What is not known to be an image is held back.

By SOP class × ImageType × ConversionType (PS3.3 C.7.6.1.1.2, C.8.6.1). Screen saves, dose reports,
captures, derived secondaries, documents, presentation states and key objects stay in quarantine.
`BurnedInAnnotation` = NO counts for nothing: it is often wrong. YES counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from pydicom.dataset import Dataset

from fedimg.dicom import attributes
from fedimg.dicom.profile import Profile
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

Route = Literal["volume", "projection", "ultrasound", "capture"]
BurnedIn = Literal["YES", "NO", "absent"]

_SOP_CLASS, _IMAGE_TYPE, _CONVERSION_TYPE, _BURNED_IN = 0x00080016, 0x00080008, 0x00080064, 0x00280301
_PIXEL_KEYWORDS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_GRAPHIC_WORDS = ("SCREEN", "CAPTURE", "DOSE", "REPORT", "PROTOCOL")
_GRAPHIC_CONVERSIONS = frozenset({"WSD", "DRW", "SYN", "DV"})


def first_text(dataset: Dataset, tag: int, encodings: Sequence[str] = ("iso8859",)) -> str:
    """The text of a raw element, padding off; empty where it is absent, a sequence or not text."""
    element: Any = dataset.get_item(tag)
    if element is None or element.VR == "SQ":
        return ""
    return attributes.text_value(attributes.raw_value(element, encodings).strip(b" \0"), encodings)


def route(dataset: Dataset, profile: Profile, *, digitised: bool) -> Route:
    """Where an object goes. Raises Quarantined (NOT_AN_IMAGE, OBJECT_TYPE).

    Args:
        digitised: this software made the object from a picture (`foreign`); only then is a
            secondary capture an image like others.
    """
    sop_class = first_text(dataset, _SOP_CLASS)
    found = profile.object_types.get(sop_class)
    if found is None or (found == "capture" and not digitised):
        raise Quarantined(Quarantine.OBJECT_TYPE, "an object of a kind that the profile does not release")
    if not any(dataset.get_item(tag) is not None for tag in _PIXEL_KEYWORDS):
        raise Quarantined(Quarantine.NOT_AN_IMAGE, "an image object without pixels")
    kinds = [part.strip().upper() for part in first_text(dataset, _IMAGE_TYPE).split("\\")]
    if found == "volume" and len(kinds) < 2:
        raise Quarantined(Quarantine.OBJECT_TYPE, "a cross-sectional image without ImageType")
    if not digitised:
        graphic = any(word in kind for kind in kinds for word in _GRAPHIC_WORDS)
        if graphic or kinds[1:2] == ["SECONDARY"]:
            raise Quarantined(Quarantine.OBJECT_TYPE, "ImageType of a secondary image, screen save or report")
        if first_text(dataset, _CONVERSION_TYPE).upper() in _GRAPHIC_CONVERSIONS:
            raise Quarantined(Quarantine.OBJECT_TYPE, "ConversionType of a screen or drawing")
    return cast("Route", found)


def burned_in(dataset: Dataset) -> BurnedIn:
    """What (0028,0301) says, reduced to what may stand in a receipt."""
    value = first_text(dataset, _BURNED_IN).upper()
    return "YES" if value == "YES" else "NO" if value == "NO" else "absent"
