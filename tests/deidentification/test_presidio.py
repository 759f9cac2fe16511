"""Real images with planted persons (presidio's test files): none of their header values is left.

The burned-in lines of the same files: `test_pixels.py`.
"""

from __future__ import annotations

import warnings

import pydicom
import pytest
from hospital import RETAINED, take
from images import SHARED
from scanner import Secret, left_behind

FILES = ("0_ORIGINAL_no_pixels.dcm", "2_ORIGINAL.dcm", "RGB_ORIGINAL.dcm")
PERSONAL = frozenset({"PN", "LO", "SH", "ST", "LT", "UT", "DA", "DT", "UI", "AE"})
# Words of devices and procedures that name nobody; they may stand in a profile that keeps them.
HARMLESS = ("manufacturer", "model", "software", "version", "coding", "codevalue", "codemeaning", "sopclass")


def identifiers(dataset: pydicom.Dataset) -> dict[str, Secret]:
    """Place → value, of everything in the header that says who, when or which."""
    found: dict[str, Secret] = {}
    for element in dataset.iterall():
        keyword = (element.keyword or f"{element.tag}").casefold()
        if element.VR not in PERSONAL or any(word in keyword for word in HARMLESS):
            continue
        values = element.value if element.VM > 1 else [element.value]
        for value in map(str, values):
            parts = value.replace("=", "^").split("^") if element.VR == "PN" else [value]
            for part in parts:
                if sum(map(str.isalnum, part)) < 6 or part.startswith("1.2.840.10008."):
                    continue
                dated = element.VR == "DA" and len(part) == 8
                place = f"{element.keyword or element.tag} {len(found)}"
                found[place] = Secret(part, "date" if dated else "text")
    return found


def test_nor_where_the_same_header_has_eight_megabytes_of_pixels(tmp_path):
    """Once: the scanner needs a minute to look for every spelling in every view of such pixels."""
    test_no_identifier_of_the_header_is_left(tmp_path, "train", "0_ORIGINAL_compressed.dcm")


@pytest.mark.parametrize("name", FILES)
def test_no_identifier_of_the_header_is_left(tmp_path, profile, name):
    path = SHARED / "presidio" / name
    if not path.exists():
        pytest.skip(f"needs {name} of ../shared/data/dicom/presidio, which is not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planted = identifiers(pydicom.dcmread(path, force=True))
    if profile == "ps315-research":  # the device, and descriptors of words that its vocabulary has
        kept = RETAINED[profile] | {"StationName", "ProtocolName"}
        planted = {
            place: secret
            for place, secret in planted.items()
            if place.split()[0] not in kept and "Description" not in place
        }
    assert len(planted) >= 10
    assert set(left_behind(path.read_bytes(), planted)) == set(planted)
    taken = take(tmp_path, path.read_bytes(), profile=profile)
    assert len(taken.released) + len(taken.reasons) == 1
    assert taken.leaks(planted) == []
