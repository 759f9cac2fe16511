"""An alert as FHIR R4: a transaction of Observation, DiagnosticReport and Flag, for an archive inside the hospital.

HL7 FHIR R4 (4.0.1): Bundle, http.html#ccreate (conditional create) and #cond-update, references by identifier
(references.html#logical). Everything is preliminary and says that no person has read it. A repeat makes no second resource:
each is created only if none has the alert's key; a revision replaces what has it. There is no resource that says "not found".
"""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.monitoring.alerts import Alert

ALERT_SYSTEM: Final = "urn:oid:2.25.170004968448238732313013958695998924594"
"""Of identifiers that are an alert's key. A UUID under 2.25 (ITU-T X.667), so that nobody has to register it."""
STUDY_SYSTEM: Final = "urn:oid:2.25.85254173832309759160601966599541872643"
"""Of identifiers that are the store's key of a study, where its UID is not said."""
NOT_FOR_DIAGNOSIS: Final = "Result of an algorithm that no person has verified. Not for diagnostic use."

_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "RADLEX": "http://radlex.org",
}
"""PS3.16 table 8-1: which URI a coding scheme has in FHIR. Other schemes are said without a system, in words."""
_UCUM: Final = "http://unitsofmeasure.org"
_DICOM: Final = "urn:dicom:uid"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_UID: Final = re.compile(r"[0-9.]{1,64}")
_NAMESPACE: Final = uuid.UUID("66818b93-07f0-4d7a-b490-c6c212c0d863")
_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Of whom the images are: it stays within the hospital.

    Attributes:
        study_uid: StudyInstanceUID. patient_id: PatientID. patient_system: the URI of the hospital's patient numbers.
        accession: AccessionNumber, "" where there is none.
    """

    study_uid: str
    patient_id: str
    patient_system: str = ""
    accession: str = ""

    def __post_init__(self) -> None:
        if not _UID.fullmatch(self.study_uid):
            raise DataError("a StudyInstanceUID", "another form", "take it from the study")
        if self.patient_system and not re.fullmatch(r"[^\s|]+", self.patient_system):
            raise DataError("a URI without spaces and bars", "another form", "correct it in the settings")


def transaction(alert: Alert, identity: Identity | None = None, site: Code | None = None) -> _Json:
    """The bundle, to be POSTed to a server's base or laid down as a file.

    Args:
        identity: without it the study is named by the store's key, and there is no Flag, which must have a subject.
        site: the part of the body, as a concept.
    """
    about = _About(alert, identity, site)
    resources = [about.observation(), about.report()]
    if identity is not None:
        resources.append(about.flag(identity))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": _instant(alert.raised_at),
        "entry": [_entry(alert, resource) for resource in resources],
    }


@dataclass(frozen=True, slots=True)
class _About:
    alert: Alert
    identity: Identity | None
    site: Code | None

    def observation(self) -> _Json:
        """Of the score; its components are the threshold and, where it is known, the size."""
        alert = self.alert
        components = [{"code": {"text": "threshold"}, "valueQuantity": _share(alert.threshold)}]
        if alert.size_mm is not None:
            size = {"value": round(alert.size_mm, 1), "unit": "mm", "system": _UCUM, "code": "mm"}
            components.append(
                {"code": _concept(Code("103339001", "SCT", "Long axis")), "valueQuantity": size}
            )
        body = self._subject() | {
            "resourceType": "Observation",
            "identifier": _identifier(alert),
            "status": "preliminary",
            "category": [_category("imaging", "Imaging")],
            "code": _concept(alert.code),
            "issued": _instant(alert.raised_at),
            "valueQuantity": _share(alert.score),
            "method": {"text": self._model()},
            "derivedFrom": [self._study()],
            "component": components,
            "note": [{"text": NOT_FOR_DIAGNOSIS}],
        }
        where = _concept(self.site) if self.site else {}
        if alert.where:
            where["text"] = alert.where
        return body | ({"bodySite": where} if where else {})

    def report(self) -> _Json:
        alert = self.alert
        size = "" if alert.size_mm is None else f", {alert.size_mm:.0f} mm"
        place = f": {alert.where}" if alert.where else ""
        said = f"{self._model()} calls {alert.code.meaning}{place}{size}, score {alert.score:.2f} (called from {alert.threshold:.2f})."
        radiology = {
            "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
            "code": "RAD",
            "display": "Radiology",
        }
        return self._subject() | {
            "resourceType": "DiagnosticReport",
            "identifier": _identifier(alert),
            "status": "preliminary",
            "category": [{"coding": [radiology]}],
            "code": {"text": "Automated image analysis"},
            "issued": _instant(alert.raised_at),
            "result": [{"reference": _full_url(alert, "Observation")}],
            "imagingStudy": [self._study()],
            "conclusion": f"{said} {NOT_FOR_DIAGNOSIS}",
            "conclusionCode": [_concept(alert.code)],
        }

    def flag(self, identity: Identity) -> _Json:
        clinical = {
            "system": "http://terminology.hl7.org/CodeSystem/flag-category",
            "code": "clinical",
            "display": "Clinical",
        }
        words = f"{self.alert.code.meaning} called by an algorithm, to be read"
        return {
            "resourceType": "Flag",
            "identifier": _identifier(self.alert),
            "status": "active",
            "category": [{"coding": [clinical]}],
            "code": _concept(self.alert.code) | {"text": words},
            "subject": _patient(identity),
            "period": {"start": _instant(self.alert.raised_at)},
        }

    def _subject(self) -> _Json:
        return {"subject": _patient(self.identity)} if self.identity else {}

    def _study(self) -> _Json:
        if self.identity is None:
            return {
                "type": "ImagingStudy",
                "identifier": {"system": STUDY_SYSTEM, "value": self.alert.study},
            }
        named = {"system": _DICOM, "value": f"urn:oid:{self.identity.study_uid}"}
        accession = {"display": f"Accession {self.identity.accession}"} if self.identity.accession else {}
        return {"type": "ImagingStudy", "identifier": named} | accession

    def _model(self) -> str:
        return f"{self.alert.model_name} {self.alert.model_version} ({self.alert.model_digest[:16]})"


def _entry(alert: Alert, resource: _Json) -> _Json:
    kind, query = resource["resourceType"], f"identifier={ALERT_SYSTEM}|{alert.key}"
    if alert.revision:
        request = {"method": "PUT", "url": f"{kind}?{query}"}
    else:
        request = {"method": "POST", "url": kind, "ifNoneExist": query}
    return {"fullUrl": _full_url(alert, kind), "resource": resource, "request": request}


def _full_url(alert: Alert, kind: str) -> str:
    """Equal for every repeat, so that the bundle's bytes are."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{kind}/{alert.key}')}"


def _identifier(alert: Alert) -> list[_Json]:
    return [{"system": ALERT_SYSTEM, "value": alert.key}]


def _patient(identity: Identity) -> _Json:
    system = {"system": identity.patient_system} if identity.patient_system else {}
    return {"type": "Patient", "identifier": system | {"value": identity.patient_id}}


def _concept(code: Code) -> _Json:
    system = {"system": _SYSTEMS[code.scheme]} if code.scheme in _SYSTEMS else {}
    return {"coding": [system | {"code": code.value, "display": code.meaning}], "text": code.meaning}


def _category(code: str, display: str) -> _Json:
    return {"coding": [{"system": _CATEGORY, "code": code, "display": display}]}


def _share(value: float) -> _Json:
    return {"value": round(value, 4), "unit": "probability", "system": _UCUM, "code": "1"}


def _instant(seconds: float) -> str:
    """FHIR's `instant`: to the millisecond, in UTC."""
    moment = datetime.fromtimestamp(math.floor(seconds * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
