"""The marks of de-identification: what a release says of itself, and the site's seal over it.

(0012,0062) to (0012,0064) and (0028,0303) with the codes of CID 7050 (PS3.15 E.1, PS3.16), the
pseudonym in place of name and number, and an age band where the header gives an age by dates only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydicom.dataset import Dataset

from fedimg.dicom import attributes, dates, routing
from fedimg.dicom.encoder import Element, Encoded, text
from fedimg.dicom.profile import Profile
from fedimg.dicom.pseudonyms import Pseudonyms

METHOD = 0x00120063
_PATIENT_NAME, _PATIENT_ID, _BIRTH_DATE, _AGE = 0x00100010, 0x00100020, 0x00100030, 0x00101010
_REMOVED, _METHOD_CODES, _BURNED_IN, _TEMPORAL = 0x00120062, 0x00120064, 0x00280301, 0x00280303
_STUDY_DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
_NO_SEAL = "0" * 32
# CID 7050 (PS3.16): what a release may say was done to it.
CID_7050 = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
CLEAN_PIXELS, CLEAN_FACES = "113101", "113102"


def method(profile: Profile) -> str:
    """(0012,0063) without the seal that ends it."""
    return f"fedimg {profile.name} {profile.version}\\profile {profile.digest[:16]}\\seal "


def add_constants(
    dataset: Dataset,
    kept: dict[int, Element],
    profile: Profile,
    patient_key: str,
    *,
    clean_pixels: bool = False,
    clean_faces: bool = False,
) -> None:
    """Put the marks into `kept`, and the age band where the header gives an age by dates only.

    Args:
        clean_pixels: layer L5 passed on what is written: (0028,0301) = NO and code 113101.
        clean_faces: recognizable features were removed: code 113102.
    """
    done = [CLEAN_PIXELS] * clean_pixels + [CLEAN_FACES] * clean_faces
    added = [
        # Without a caret the name would be of a retired form (PS3.5 6.2.1).
        text(_PATIENT_NAME, "PN", f"{patient_key}^"),
        text(_PATIENT_ID, "LO", patient_key),
        text(_REMOVED, "CS", "YES", closed=True),
        text(METHOD, "LO", method(profile) + _NO_SEAL, closed=True),
        Element(_METHOD_CODES, "SQ", method_codes({*profile.confidentiality_codes, *done})),
        text(_TEMPORAL, "CS", profile.temporal, closed=True),
    ]
    if clean_pixels:
        added.append(text(_BURNED_IN, "CS", "NO", closed=True))
    age = _age_by_dates(dataset) if profile.name == "train" and _AGE not in kept else None
    if age is not None:
        added.append(text(_AGE, "AS", age))
    kept.update({element.tag: element for element in added})


def method_codes(codes: Collection[str]) -> list[list[Element]]:
    """The items of (0012,0064), in the order of the codes."""
    return [
        [
            text(0x00080100, "SH", code, closed=True),
            text(0x00080102, "SH", "DCM", closed=True),
            text(0x00080104, "LO", CID_7050[code], closed=True),
        ]
        for code in sorted(codes)
    ]


def seal(encoded: Encoded, pseudonyms: Pseudonyms) -> bytes:
    """Put the keyed mark of this site over the whole file into the place kept free for it.

    Returns the fingerprint of the pixel data's value, which is part of it.
    """
    start, end = encoded.values[METHOD]
    at = encoded.head.index(_NO_SEAL.encode(), start, end)
    of_pixels = pseudonyms.fingerprint(encoded.pixels)
    encoded.head[at : at + len(_NO_SEAL)] = pseudonyms.seal(encoded.head, of_pixels).encode()
    return of_pixels


def claimed_seal(dataset: Dataset, profile: Profile) -> bytes | None:
    """The seal that a data set carries if it says that this profile wrote it; not checked yet."""
    element: Any = dataset.get_item(METHOD)  # typed as never None, though it may be
    raw = attributes.raw_value(element, ()) if element is not None else b""
    match = re.fullmatch(re.escape(method(profile).encode()) + rb"([0-9a-f]{32}) ?", raw)
    return match[1] if match is not None else None


def seal_holds(encoded: Encoded, claimed: bytes, pseudonyms: Pseudonyms) -> bool:
    """Whether this site and project sealed exactly these bytes."""
    at = encoded.head.index(claimed, *encoded.values[METHOD])
    unsealed = bytearray(encoded.head)
    unsealed[at : at + len(_NO_SEAL)] = _NO_SEAL.encode()
    return pseudonyms.seal(unsealed, pseudonyms.fingerprint(encoded.pixels)).encode() == claimed


def _age_by_dates(dataset: Dataset) -> str | None:
    birth = routing.first_text(dataset, _BIRTH_DATE)
    for tag in _STUDY_DATES if birth else ():
        try:
            return dates.age_band(dates.age_between(birth, routing.first_text(dataset, tag)))
        except ValueError:
            continue  # no such date, or not one: the next may do; without any there is no age
    return None
