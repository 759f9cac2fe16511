"""What a DICOM header says of modality, body part and view.

Attributes and codes come first: SOP class and Modality, AnatomicRegionSequence and BodyPartExamined,
ViewCodeSequence, ViewPosition, ImageOrientationPatient, PatientOrientation. Only then words: ProtocolName and the
descriptions. PS3.3 C.7.3.1, C.7.6.1, C.7.6.2, C.8.3.1, C.8.11.5; codes by the meaning that PS3.16 gives them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from fedimg.dicom.asked import AskedHeader
from fedimg.sorting.answer import UNKNOWN, Because, By, Said
from fedimg.sorting.vocabulary import Lexicon, lexicon, listed

_TEXTS = (
    "ProtocolName",
    "SeriesDescription",
    "StudyDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
)
_PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}
_OBLIQUE = 0.8  # the normal's largest cosine below which a plane is nobody's: over 36° away


@dataclass(frozen=True, slots=True)
class HeaderSays:
    """`told` is what else is worth a word, a code of `Because` or ""."""

    modality: Said
    body_part: Said
    view: Said
    told: str = ""


def ask(header: AskedHeader) -> HeaderSays:
    """Never raises: what cannot be read says nothing."""
    modality = _modality(header)
    body_part, told = _body_part(header)
    return HeaderSays(modality, body_part, _view(header, modality.value), told)


def _modality(header: AskedHeader) -> Said:
    """By SOP class where that is of one modality, else as stated, else by words."""
    of_class = listed("sop_class").get(header.text("SOPClassUID"))
    if of_class is not None:
        return Said(str(of_class), By.HEADER)
    stated = header.text("Modality").upper()
    if stated and stated not in listed("no_modality") and stated.isalpha() and len(stated) <= 16:
        known = stated in _defined_modalities()
        return Said(stated, By.HEADER) if known else Said()
    heard = _heard(header, lexicon("modality"))
    return Said(heard[0], By.TEXT) if heard[0] is not None else Said()


def _body_part(header: AskedHeader) -> tuple[Said, str]:
    words = lexicon("body_part")
    coded = next(
        (v for m in _code_meanings(header, "AnatomicRegionSequence") if (v := words.hear(m).value)), None
    )
    stated = header.text("BodyPartExamined")
    attribute = coded or words.of_term(stated) or words.hear(stated).value
    heard, ambiguous = _heard(header, words)
    if attribute is None:
        told = str(Because.TEXT_AMBIGUOUS) if heard is None and ambiguous else ""
        return (Said(heard, By.TEXT) if heard is not None else Said()), told
    within = listed("within")
    apart = heard is not None and heard != attribute
    apart = apart and heard not in within.get(attribute, ()) and attribute not in within.get(heard, ())
    return Said(attribute, By.HEADER), str(Because.HEADER_AND_TEXT_DIFFER) if apart else ""


def _view(header: AskedHeader, modality: str) -> Said:
    if modality in listed("projection_modalities"):
        return _projection(header)
    if modality in (*listed("plane_modalities"), UNKNOWN):
        return _plane(header)
    return Said()


def _projection(header: AskedHeader) -> Said:
    words = lexicon("projection")
    for meaning in _code_meanings(header, "ViewCodeSequence"):
        if (value := words.hear(meaning).value) is not None:
            return Said(value, By.HEADER)
    stated = header.text("ViewPosition")
    value = words.of_term(stated) or words.hear(stated).value
    if value is not None:
        return Said(value, By.HEADER)
    heard, _ = _heard(header, words)
    if heard is not None:
        return Said(heard, By.TEXT)
    sides = [part[:1] for part in header.values("PatientOrientation")]
    across = {"L": "frontal", "R": "frontal", "A": "lateral", "P": "lateral"}
    value = across.get(sides[0]) if len(sides) == 2 and sides[1] in ("F", "H") else None
    return Said(value, By.HEADER) if value is not None else Said()


def _plane(header: AskedHeader) -> Said:
    cosines = header.plane_cosines()
    if cosines is not None:
        normal = np.abs(np.cross(cosines[:3], cosines[3:]))
        if normal.max() > 0:
            normal = normal / np.linalg.norm(normal)
            return Said(_PLANES[int(normal.argmax())] if normal.max() >= _OBLIQUE else "oblique", By.HEADER)
    sides = [part[:1] for part in header.values("PatientOrientation")]
    of_sides = {"LR": 0, "AP": 1, "HF": 2}
    axes = [
        next((axis for letters, axis in of_sides.items() if side in letters), -1) for side in sides if side
    ]
    left_over = {0, 1, 2} - set(axes)
    if len(axes) == 2 and -1 not in axes and len(left_over) == 1 and header.text("Modality") != "US":
        return Said(_PLANES[left_over.pop()], By.HEADER)
    heard, _ = _heard(header, lexicon("plane"))
    return Said(heard, By.TEXT) if heard is not None else Said()


def _heard(header: AskedHeader, words: Lexicon) -> tuple[str | None, bool]:
    """What the first text says that says one thing; whether one said two."""
    ambiguous = False
    for keyword in _TEXTS:
        heard = words.hear(header.text(keyword))
        if heard.value is not None:
            return heard.value, False
        ambiguous = ambiguous or heard.ambiguous
    return None, ambiguous


def _code_meanings(header: AskedHeader, keyword: str) -> Iterator[str]:
    """The standard's own meaning of each code; of a code that it does not know, the one that is written."""
    for item in header.items(keyword):
        known = _meanings().get(item.text("CodeValue"))
        yield known if known is not None else item.text("CodeMeaning")


@cache
def _meanings() -> dict[str, str]:
    """Code → meaning, SNOMED CT and its retired identifiers (`fedimg/dicom/tables/codes.json`)."""
    text = resources.files("fedimg.dicom").joinpath("tables", "codes.json").read_text(encoding="utf-8")
    return {code: meaning for scheme in json.loads(text).values() for code, meaning in scheme.items()}


@cache
def _defined_modalities() -> frozenset[str]:
    """Defined terms of Modality, PS3.3 C.7.3.1.1.1, that objects with pixels or about them have."""
    return frozenset(listed("defined_modalities"))
