"""People who do not exist, and the places in a DICOM file where hospitals write who they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from fedimg.dicom.authoring import PrivateElement

_FAMILY = (
    *(
        "Abernathy",
        "Achterberg",
        "Bjornstad",
        "Brzezinski",
        "Cavendish",
        "Dombrowski",
        "Eckersley",
        "Fairweather",
    ),
    *("Fitzwilliam", "Gallagher", "Grunewald", "Hathaway", "Holmqvist", "Ishikawa", "Jablonski", "Kowalczyk"),
    *("Kristoffersen", "Lindqvist", "Lombardi", "MacAllister", "Mbeki", "Nakashima", "Novotny", "Oyelaran"),
    *("Papadakis", "Petrovic", "Quintana", "Rasmussen", "Rodriguez", "Schwarzkopf", "Szymanski", "Takahashi"),
    *(
        "Thorvaldsen",
        "Underhill",
        "Vandenberg",
        "Villanueva",
        "Wiśniewska",
        "Yamamoto",
        "Zieliński",
        "Müllner",
    ),
)
_GIVEN = (
    *(
        "Adelheid",
        "Anselm",
        "Beatrix",
        "Bartholomew",
        "Cordelia",
        "Casimir",
        "Delphine",
        "Desmond",
        "Euphemia",
    ),
    *(
        "Ezekiel",
        "Fiorella",
        "Fredrik",
        "Gwendolyn",
        "Giancarlo",
        "Henrietta",
        "Horatio",
        "Ingeborg",
        "Ignatius",
    ),
    *("Jacinta", "Jeremias", "Katarzyna", "Kristjan", "Leokadia", "Lysander", "Marguerite", "Maximilian"),
    *("Nicolette", "Nathaniel", "Ottilie", "Oswaldo", "Philippa", "Quentin", "Rosalind", "Reinhold", "Søren"),
    *("Sieglinde", "Thaddeus", "Ursula", "Valeriy", "Wilhelmina"),
)
_STREETS = ("Lindenallee", "Rue des Tilleuls", "Kirkegata", "Via Garibaldi", "Harbour Terrace", "Calle Mayor")
_TOWNS = ("Königsfelden", "Saint-Aubin", "Trollvik", "Montebruno", "Eastwick", "Villaseca")
_INSTITUTIONS = (
    *("Klinikum Königsfelden", "Hôpital Saint-Aubin", "Trollvik Sykehus", "Ospedale Montebruno"),
    *("Eastwick Infirmary", "Hospital de Villaseca"),
)
SERVICE_CREATOR, ARCHIVE_CREATOR = "ACME SERVICE 1.1", "PACSWERK PATIENT"


@dataclass(frozen=True, slots=True)
class Person:
    """One patient as the hospital knows them. `public` people are phantoms: nothing about them identifies."""

    family: str
    given: str
    patient_id: str
    old_id: str
    birth: date
    sex: str
    address: str
    phone: str
    mother: str
    physician: str
    operator: str
    institution: str
    public: bool = False

    @property
    def pn(self) -> str:
        return f"{self.family}^{self.given}"

    @property
    def spoken(self) -> str:
        return f"{self.given} {self.family}"


@dataclass(slots=True)
class Planted:
    """Which identifying values were written, and where: the ground truth of every leak test."""

    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def note(self, kind: str, value: str, place: str) -> str:
        """Record `value` as planted at `place`; returns it, so that it reads as part of the header."""
        if value:
            self.values.setdefault((kind, value), set()).add(place)
        return value

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"kind": kind, "value": value, "places": sorted(places)}
            for (kind, value), places in sorted(self.values.items())
        ]


def person(rng: np.random.Generator, hospital: int, number: int) -> Person:
    """A patient of a hospital; two patients of one hospital never share a patient number."""
    town = hospital % len(_TOWNS)
    serial = 10_000 * (hospital + 1) + number
    forms = (
        f"{serial:08d}",
        f"MRN-{serial}-{serial % 97:02d}",
        f"KH{serial:07d}",
        f"{serial % 89 + 10}/{serial}",
    )
    family, mother, physician, operator = (str(n) for n in rng.choice(_FAMILY, 4, replace=False))
    given = str(rng.choice(_GIVEN))
    digits = rng.integers(0, 10, 9)
    return Person(
        family=family,
        given=given,
        patient_id=forms[hospital % len(forms)],
        old_id=f"X{serial * 7 % 999_983:06d}Q",
        birth=date(1931, 1, 1) + timedelta(days=int(rng.integers(0, 27_000))),
        sex=str(rng.choice(["F", "M", "O"], p=[0.49, 0.49, 0.02])),
        address=f"{_STREETS[town]} {int(rng.integers(1, 200))}, {_TOWNS[town]}",
        phone="+49 30 " + "".join(str(d) for d in digits),
        mother=f"{mother}^{rng.choice(_GIVEN)}",
        physician=f"{physician}^{rng.choice(_GIVEN)}^^Dr.",
        operator=f"{operator}^{rng.choice(_GIVEN)}",
        institution=_INSTITUTIONS[town],
    )


def phantom(number: int) -> Person:
    """A member of the server's public set, of a sex and an age that have to do with nothing else."""
    name, sex, birth = f"PHANTOM-{number:04d}", "FFFMMMO"[number % 7], date(1931 + 29 * number % 74, 1, 1)
    return Person("PHANTOM", f"{number:04d}", name, "", birth, sex, "", "", "", "", "", "", public=True)


def header(who: Person, planted: Planted, exam: str, day: date, accession: str) -> dict[str, Any]:
    """Patient, visit, request and history attributes of one study (PS3.3 C.2, C.3, C.7.1, C.7.2, C.12.1)."""
    day_text = day.strftime("%Y%m%d")
    if who.public:
        return {
            "PatientName": who.pn,
            "PatientID": who.patient_id,
            "PatientSex": who.sex,
            "PatientAge": f"{min(90, day.year - who.birth.year):03d}Y",
            "StudyDate": day_text,
            "StudyTime": "120000",
            "StudyDescription": exam,
        }
    attributes: dict[str, Any] = {}
    for kind, keyword, value in _plain_places(who, exam, day_text, accession):
        attributes[keyword] = planted.note(kind, value, keyword)
    age = f"{day.year - who.birth.year:03d}Y"
    attributes |= {
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyTime": "081530",
        "SeriesTime": "081702",
        "PatientSex": who.sex,
        "PatientAge": planted.note("age", age, "PatientAge") if age > "090Y" else age,
        "OtherPatientIDsSequence": [
            {
                "PatientID": planted.note("id", who.old_id, "OtherPatientIDsSequence/PatientID"),
                "IssuerOfPatientID": "ARCHIVE",
                "TypeOfPatientID": "TEXT",
            }
        ],
        "RequestAttributesSequence": [_request(who, planted, exam, accession)],
        "OriginalAttributesSequence": [_history(who, planted, day_text)],
    }
    return attributes


def _plain_places(who: Person, exam: str, day: str, accession: str) -> tuple[tuple[str, str, str], ...]:
    """(kind, keyword, value) of the top level."""
    return (
        ("name", "PatientName", who.pn),
        ("id", "PatientID", who.patient_id),
        ("date", "PatientBirthDate", who.birth.strftime("%Y%m%d")),
        ("address", "PatientAddress", who.address),
        ("phone", "PatientTelephoneNumbers", who.phone),
        ("name", "PatientMotherBirthName", who.mother),
        ("name", "ReferringPhysicianName", who.physician),
        ("name", "PerformingPhysicianName", who.physician),
        ("name", "OperatorsName", who.operator),
        ("institution", "InstitutionName", who.institution),
        ("address", "InstitutionAddress", f"1 Hospital Road, {who.address.rsplit(', ', 1)[-1]}"),
        ("id", "AccessionNumber", accession),
        ("id", "StudyID", f"S{accession[-6:]}"),
        ("date", "StudyDate", day),
        ("date", "SeriesDate", day),
        ("date", "AcquisitionDate", day),
        ("date", "ContentDate", day),
        ("text", "StudyDescription", f"{exam} for {who.spoken}"),
        ("text", "PatientComments", f"Daughter of {who.mother.replace('^', ', ')}; call {who.phone}"),
        ("text", "ImageComments", f"compare with {who.old_id} of {day[6:]}.{day[4:6]}.{day[:4]}"),
    )


def _request(who: Person, planted: Planted, exam: str, accession: str) -> dict[str, Any]:
    place = "RequestAttributesSequence"
    order = f"{exam}, {who.family}, born {who.birth.isoformat()}"
    meaning = f"Follow-up of {who.spoken}"
    inner = f"{place}/RequestedProcedureCodeSequence/CodeMeaning"
    return {
        "RequestedProcedureID": planted.note("id", f"RP{accession}", f"{place}/RequestedProcedureID"),
        "ScheduledProcedureStepID": f"SPS{accession[-4:]}",
        "RequestedProcedureDescription": planted.note(
            "text", order, f"{place}/RequestedProcedureDescription"
        ),
        "RequestedProcedureCodeSequence": [
            {
                "CodeValue": "FU",
                "CodingSchemeDesignator": "99LOCAL",
                "CodeMeaning": planted.note("text", meaning, inner),
            }
        ],
    }


def _history(who: Person, planted: Planted, day: str) -> dict[str, Any]:
    place = "OriginalAttributesSequence"
    before = f"{who.family}-{who.mother.split('^')[0]}^{who.given}"
    inner = f"{place}/ModifiedAttributesSequence"
    return {
        "AttributeModificationDateTime": planted.note(
            "date", f"{day}093000", f"{place}/AttributeModificationDateTime"
        ),
        "ModifyingSystem": "PACS",
        "SourceOfPreviousValues": "",
        "ReasonForTheAttributeModification": "CORRECT",
        "ModifiedAttributesSequence": [
            {
                "PatientName": planted.note("name", before, f"{inner}/PatientName"),
                "PatientID": planted.note("id", who.old_id, f"{inner}/PatientID"),
            }
        ],
    }


def private_elements(who: Person, planted: Planted) -> list[PrivateElement]:
    """Vendors' own elements: a name as LO, a service protocol as a blob, a person within a private sequence."""
    if who.public:
        return []
    protocol = f"<Patient>{who.spoken}</Patient><Id>{who.patient_id}</Id>"
    planted.note("text", protocol, "(0029,xx11) private OB")
    planted.note("name", who.pn, "(0029,xx12) private SQ/PatientName")
    blob = protocol.encode()
    return [
        (0x0029, SERVICE_CREATOR, 0x10, "LO", planted.note("name", who.spoken, "(0029,xx10) private LO")),
        (0x0029, SERVICE_CREATOR, 0x11, "OB", blob + b"\0" * (len(blob) % 2)),
        (0x0029, SERVICE_CREATOR, 0x12, "SQ", [{"PatientName": who.pn}]),
        (0x0033, ARCHIVE_CREATOR, 0x01, "SH", planted.note("id", who.old_id, "(0033,xx01) private SH")),
    ]


def container(who: Person, planted: Planted) -> tuple[bytes, dict[str, str]]:
    """Around the data set (PS3.10 7.1): a preamble with text in it, and application titles in the file meta."""
    if who.public:
        return b"", {}
    note = planted.note("text", f"{who.spoken} {who.patient_id}", "preamble")
    title = who.institution.upper().encode("ascii", "replace").decode().replace("?", "E")[:16].rstrip()
    keyword = "SourceApplicationEntityTitle"
    return note.encode()[:128], {keyword: planted.note("institution", title, keyword)}
