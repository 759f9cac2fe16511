"""The marks of de-identification: what a release says of itself, and the site's seal over it.

(0012,0062) to (0012,0064) and (0028,0303) with the codes of CID 7050 (PS3.15 E.1, PS3.16), the
pseudonym in place of name and number, and an age band where the header gives an age by dates only.
"""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset

from fedimg.dicom import attributes, dates, routing
from fedimg.dicom.encoder import Element, Encoded, text
from fedimg.dicom.profile import Profile
from fedimg.dicom.pseudonyms import Pseudonyms

METHOD = 0x00120063
_PATIENT_NAME, _PATIENT_ID, _BIRTH_DATE, _AGE = 0x00100010, 0x00100020, 0x00100030, 0x00101010
_REMOVED, _METHOD_CODES, _TEMPORAL = 0x00120062, 0x00120064, 0x00280303
_STUDY_DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
_NO_SEAL = "0" * 32
# CID 7050 (PS3.16): the options this profile's output answers to.
_CID_7050 = {
    "113100": "Basic Application Confidentiality Profile",
    "113108": "Retain Patient Characteristics Option",
}


def method(profile: Profile) -> str:
    """(0012,0063) without the seal that ends it."""
    return f"fedimg {profile.name} {profile.version}\\profile {profile.digest[:16]}\\seal "


def add_constants(dataset: Dataset, kept: dict[int, Element], profile: Profile, patient_key: str) -> None:
    """Put the elements of action D into `kept`, and the age band where the header gives an age by dates only."""
    codes = [
        [
            text(0x00080100, "SH", code, closed=True),
            text(0x00080102, "SH", "DCM", closed=True),
            text(0x00080104, "LO", _CID_7050[code], closed=True),
        ]
        for code in profile.confidentiality_codes
    ]
    added = [
        text(_PATIENT_NAME, "PN", patient_key),
        text(_PATIENT_ID, "LO", patient_key),
        text(_REMOVED, "CS", "YES", closed=True),
        text(METHOD, "LO", method(profile) + _NO_SEAL, closed=True),
        Element(_METHOD_CODES, "SQ", codes),
        text(_TEMPORAL, "CS", "REMOVED", closed=True),
    ]
    age = None if _AGE in kept else _age_by_dates(dataset)
    if age is not None:
        added.append(text(_AGE, "AS", age))
    kept.update({element.tag: element for element in added})


def seal(encoded: Encoded, pseudonyms: Pseudonyms) -> None:
    """Put the keyed mark of this site over the whole file into the place kept free for it."""
    start, end = encoded.values[METHOD]
    at = encoded.data.index(_NO_SEAL.encode(), start, end)
    encoded.data[at : at + len(_NO_SEAL)] = pseudonyms.seal(bytes(encoded.data)).encode()


def claimed_seal(dataset: Dataset, profile: Profile) -> bytes | None:
    """The seal that a data set carries if it says that this profile wrote it; not checked yet."""
    element: Any = dataset.get_item(METHOD)  # typed as never None, though it may be
    raw = attributes.raw_value(element, ()) if element is not None else b""
    match = re.fullmatch(re.escape(method(profile).encode()) + rb"([0-9a-f]{32}) ?", raw)
    return match[1] if match is not None else None


def seal_holds(encoded: Encoded, claimed: bytes, pseudonyms: Pseudonyms) -> bool:
    """Whether this site and project sealed exactly these bytes."""
    data = bytearray(encoded.data)
    at = data.index(claimed, *encoded.values[METHOD])
    data[at : at + len(_NO_SEAL)] = _NO_SEAL.encode()
    return pseudonyms.seal(bytes(data)).encode() == claimed


def _age_by_dates(dataset: Dataset) -> str | None:
    birth = routing.first_text(dataset, _BIRTH_DATE)
    for tag in _STUDY_DATES if birth else ():
        try:
            return dates.age_band(dates.age_between(birth, routing.first_text(dataset, tag)))
        except ValueError:
            continue  # no such date, or not one: the next may do; without any there is no age
    return None
