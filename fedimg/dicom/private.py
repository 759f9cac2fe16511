"""Private elements that a profile knows to be safe (PS3.15 E.3.10), behind their creators (PS3.5 7.8)."""

from __future__ import annotations

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from fedimg.dicom import attributes
from fedimg.dicom.encoder import Element, text
from fedimg.dicom.profile import Profile
from fedimg.dicom.rules import Rules


def keep_safe(
    profile: Profile,
    rules: Rules,
    dataset: Dataset,
    element: RawDataElement | DataElement,
    kept: list[Element],
) -> str | None:
    """Add a safe private element to what is kept, its creator with it where it is the first of its block.

    Returns the creator; None where the element does not stay.
    """
    if not profile.private:
        return None
    tag = int(element.tag)
    reserved = tag & 0xFFFF0000 | tag >> 8 & 0xFF
    creator = attributes.private_creator(dataset, reserved) if tag & 0xFFFF >= 0x1000 else ""
    row = profile.private.get((tag >> 16, creator), {}).get(tag & 0xFF)
    if row is None or attributes.stored_vr(element) not in (None, row.vr):
        return None
    raw = attributes.little_endian(element, attributes.raw_value(element, ()), row.vr)
    number = rules.released(row, row.vr, raw)
    if number is None:
        return None
    if all(other.tag != reserved for other in kept):
        kept.append(text(reserved, "LO", creator, closed=True))
    kept.append(number._replace(tag=tag))
    return creator
