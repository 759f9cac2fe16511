"""Identifiers planted over a whole file, each in one place and unlike any other: a leak names its place.

`everywhere` is the planted set of one image: persons, numbers, UIDs, dates and free text in over
150 places that clinical files have, from the preamble to the bytes behind the data set.
`dictionary` puts a value into every textual attribute of PS3.6. Another seed gives another set.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
from images import in_syntax, us
from pydicom._dicom_dict import DicomDictionary
from rawdicom import EXPLICIT, IMPLICIT, NATIVE, E, File, e, encode
from scanner import Secret

_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "kv",
    "l",
    "m",
    "n",
    "p",
    "r",
    "sk",
    "t",
    "v",
    "w",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u", "y", "ei", "au")
_ENDS = ("ck", "dt", "lm", "nd", "rsk", "st", "tz", "x", "th", "ff")


@dataclass
class Plant:
    """Hands out identifiers and remembers where each went. Dates lie within one year, so that none
    becomes another one by a shift of 52 weeks or more.
    """

    seed: int = 0
    secrets: dict[str, Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._used: set[str] = set()
        self._days = [date(2018, 1, 1) + timedelta(days=n) for n in range(365)]
        self._random.shuffle(self._days)

    def _fresh(self, make: Callable[[], str]) -> str:
        while (value := make()) in self._used:
            continue
        self._used.add(value)
        return value

    def word(self, place: str) -> str:
        """A surname of ten letters or more that nobody has."""
        pick = self._random.choice
        parts = self._fresh(lambda: "".join(pick(_ONSETS) + pick(_VOWELS) for _ in range(4)) + pick(_ENDS))
        self.secrets[place] = Secret(parts)
        return parts.upper()

    def name(self, place: str) -> str:
        return f"{self.word(place)}^{self._random.choice(('ANNA', 'OTTO', 'MAUD', 'IVAN'))}"

    def text(self, place: str) -> str:
        before, after = self._random.choice(
            (("portable for ", ""), ("called ", " twice"), ("", " at bedside"))
        )
        return f"{before}{self.word(place).capitalize()}{after}"

    def number(self, place: str, digits: int = 9) -> str:
        value = self._fresh(lambda: "".join(self._random.choices("123456789", k=digits)))
        self.secrets[place] = Secret(value)
        return value

    def uid(self, place: str) -> str:
        value = f"1.2.840.113619.2.{self._fresh(lambda: str(self._random.randrange(10**10, 10**11)))}.3"
        self.secrets[place] = Secret(value)
        return value

    def day(self, place: str) -> str:
        """A DA value."""
        value = self._days.pop().strftime("%Y%m%d")
        self.secrets[place] = Secret(value, "date")
        return value

    def of(self, vr: str, place: str) -> str:
        """A value that fits a VR."""
        if vr == "PN":
            return self.name(place)
        if vr in ("DA", "DT"):
            return self.day(place) + ("101500" if vr == "DT" else "")
        if vr == "UI":
            return self.uid(place)
        if vr in ("SH", "AE", "CS"):
            return self.word(place)[:16] if vr == "CS" else self.word(place)
        return self.text(place)


_PERSONS = [
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
    "ReferringPhysicianName",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "RequestingPhysician",
    "ScheduledPerformingPhysicianName",
    "HumanPerformerName",
    "ReviewerName",
    "VerifyingObserverName",
    "PersonName",
    "OrderEnteredBy",
    "NamesOfIntendedRecipientsOfResults",
    "DistributionName",
    "ContentCreatorName",
    "InterpretationRecorder",
    "InterpretationTranscriber",
    "InterpretationAuthor",
    "PhysicianApprovingInterpretation",
    "ClinicalTrialCoordinatingCenterName",
    "EvaluatorName",
    "AttestingPerson",
]
_NUMBERS = [
    "OtherPatientIDs",
    "AccessionNumber",
    "StudyID",
    "MedicalRecordLocator",
    "PatientTelephoneNumbers",
    "AdmissionID",
    "ServiceEpisodeID",
    "FillerOrderNumberImagingServiceRequest",
    "PlacerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "ScheduledProcedureStepID",
    "PerformedProcedureStepID",
    "DeviceSerialNumber",
    "PlateID",
    "InsurancePlanIdentification",
    "CassetteID",
    "GantryID",
    "GeneratorID",
    "DetectorID",
    "ClinicalTrialSubjectID",
    "ClinicalTrialProtocolID",
    "MilitaryRank",
    "StudyIDIssuer",
    "InterpretationID",
]
_TEXTS = [
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "StudyDescription",
    "SeriesDescription",
    "PatientAddress",
    "PatientComments",
    "AdditionalPatientHistory",
    "Occupation",
    "EthnicGroup",
    "MedicalAlerts",
    "Allergies",
    "PatientReligiousPreference",
    "CountryOfResidence",
    "RegionOfResidence",
    "ResponsibleOrganization",
    "CurrentPatientLocation",
    "PatientInstitutionResidence",
    "FrameComments",
    "AcquisitionComments",
    "DerivationDescription",
    "AdmittingDiagnosesDescription",
    "RequestedProcedureDescription",
    "RequestedProcedureComments",
    "ImagingServiceRequestComments",
    "CommentsOnThePerformedProcedureStep",
    "PerformedProcedureStepDescription",
    "ScheduledProcedureStepDescription",
    "ReasonForTheRequestedProcedure",
    "ReasonForStudy",
    "WindowCenterWidthExplanation",
    "ContrastBolusAgent",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceUID",
    "IssuerOfPatientID",
    "BranchOfService",
    "RequestingService",
    "StudyComments",
    "VisitComments",
    "SpecialNeeds",
    "PatientState",
    "DischargeDiagnosisDescription",
    "InterpretationText",
    "ResultsComments",
    "UnformattedTextValue",
    "TextComments",
    "PatientBreedDescription",
    "TransducerData",
    "PerformedLocation",
    "PerformedStationAETitle",
    "ScheduledStationAETitle",
    "RetrieveAETitle",
    "ContentLabel",
    "ContentDescription",
    "ProtocolContextSequenceText",
    "DetectorDescription",
    "AcquisitionDeviceProcessingDescription",
    "ImplantName",
    "LensMake",
    "ClinicalTrialSiteName",
    "ClinicalTrialSponsorName",
    "RouteOfAdmissions",
    "ConfidentialityConstraintOnPatientDataDescription",
    "PatientsInstitutionResidence",
]
_DATES = [
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "AcquisitionDateTime",
    "InstanceCreationDate",
    "ScheduledProcedureStepStartDate",
    "AdmittingDate",
    "LastMenstrualDate",
    "DateOfLastCalibration",
    "DateOfSecondaryCapture",
    "IssueDateOfImagingServiceRequest",
    "FrameReferenceDateTime",
    "PerformedProcedureStepEndDate",
    "DischargeDate",
    "StudyVerifiedDate",
    "StudyReadDate",
    "ScheduledAdmissionDate",
    "CurveDate",
    "OverlayDate",
    "DateTime",
    "ClinicalTrialTimePointDate",
    "DateOfGainCalibration",
]
_UIDS = [
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SynchronizationFrameOfReferenceUID",
    "IrradiationEventUID",
    "ConcatenationUID",
    "InstanceCreatorUID",
    "RequestedProcedureUIDText",
    "StorageMediaFileSetUID",
    "UID",
    "DimensionOrganizationUID",
    "PaletteColorLookupTableUID",
    "LargePaletteColorLookupTableUID",
    "TemplateExtensionOrganizationUID",
    "TransactionUID",
]


def _known(keywords: list[str]) -> list[tuple[int, str, str]]:
    """(tag, VR, keyword) of those that the dictionary has."""
    by_keyword = {entry[4]: (tag, entry[0], entry[4]) for tag, entry in DicomDictionary.items()}
    return [by_keyword[keyword] for keyword in keywords if keyword in by_keyword]


def everywhere(base: File, plant: Plant, syntax: str = EXPLICIT) -> File:
    """`base` with identifiers in over 150 places, in a transfer syntax."""
    file = in_syntax(_with_bits(base, plant) if syntax in NATIVE else base, syntax)
    elements = [*_root(plant), *_sequences(plant), *_private(plant), *_strange(plant)]
    meta = (
        E(0x00020013, "SH", plant.word("meta/ImplementationVersionName")[:16]),
        E(0x00020016, "AE", plant.word("meta/SourceApplicationEntityTitle")[:16]),
        E(0x00020017, "AE", plant.word("meta/SendingApplicationEntityTitle")[:16]),
        E(0x00020018, "AE", plant.word("meta/ReceivingApplicationEntityTitle")[:16]),
        E(0x00020026, "UR", "pacs://" + plant.word("meta/SourcePresentationAddress")),
        E(0x00020100, "UI", plant.uid("meta/PrivateInformationCreatorUID")),
        E(0x00020102, "OB", plant.text("meta/PrivateInformation").encode()),
    )
    preamble = b"II*\0" + plant.text("preamble").encode()
    file = file.having(
        *elements,
        meta=meta,
        preamble=preamble.ljust(128, b"\0")[:128],
        media_instance=plant.uid("meta/MediaStorageSOPInstanceUID"),
        trailing=plant.text("behind the data set").encode(),
    )
    if syntax in (EXPLICIT, IMPLICIT):
        padding = E(0xFFFCFFFC, "OB", plant.text("DataSetTrailingPadding").encode())
        file = replace(file, extra=(padding,))
    return file


def _with_bits(base: File, plant: Plant) -> File:
    """Bits above BitsStored that spell a text, if the pixels have such bits."""
    if base.elements[0x00280100].value != (16,) or base.elements[0x00280101].value != (12,):
        return base
    element = base.elements[0x7FE00010]
    values = np.frombuffer(element.value, "<u2").copy()
    message = np.frombuffer(plant.text("bits above BitsStored").encode(), np.uint8)
    bits = np.unpackbits(message, bitorder="little")
    values[: bits.size] |= bits.astype(np.uint16) << 15
    return base.having(replace(element, value=values.tobytes()))


def _root(plant: Plant) -> list[E]:
    found = [E(0x00100020, "LO", plant.number("PatientID")), E(0x00100010, "PN", plant.name("PatientName"))]
    for keywords in (_PERSONS, _NUMBERS, _TEXTS, _DATES, _UIDS):
        for tag, vr, keyword in _known(keywords):
            numeric = keywords is _NUMBERS and vr in ("LO", "SH", "UT", "ST", "LT")
            found.append(E(tag, vr, plant.number(keyword) if numeric else plant.of(vr, keyword)))
    return found


def _sequences(plant: Plant) -> list[E]:
    def code(keyword: str) -> E:
        item = [
            e("CodeValue", plant.number(f"{keyword}/CodeValue")),
            e("CodingSchemeDesignator", "99LOCAL"),
            e("CodeMeaning", plant.text(f"{keyword}/CodeMeaning")),
        ]
        return e(keyword, [item])

    def reference(keyword: str) -> E:
        item = [
            e("ReferencedSOPClassUID", "1.2.840.10008.3.1.2.3.1"),
            e("ReferencedSOPInstanceUID", plant.uid(f"{keyword}/ReferencedSOPInstanceUID")),
        ]
        return e(keyword, [item])

    def person(keyword: str) -> E:
        item = [
            e("InstitutionName", plant.text(f"{keyword}/InstitutionName")),
            e("PersonAddress", plant.text(f"{keyword}/PersonAddress")),
            e("PersonTelephoneNumbers", plant.number(f"{keyword}/PersonTelephoneNumbers")),
            code("PersonIdentificationCodeSequence"),
        ]
        return e(keyword, [item])

    request = [
        e("RequestedProcedureID", plant.number("RequestAttributesSequence/RequestedProcedureID")),
        e("AccessionNumber", plant.number("RequestAttributesSequence/AccessionNumber")),
        e("ScheduledProcedureStepDescription", plant.text("RequestAttributesSequence/Description")),
        code("RequestedProcedureCodeSequence"),
    ]
    original = [
        e("AttributeModificationDateTime", plant.of("DT", "OriginalAttributesSequence/DateTime")),
        e("ModifyingSystem", plant.text("OriginalAttributesSequence/ModifyingSystem")),
        e(
            "ModifiedAttributesSequence",
            [[e("PatientName", plant.name("OriginalAttributesSequence/…/PatientName"))]],
        ),
    ]
    others = [
        e("PatientID", plant.number("OtherPatientIDsSequence/PatientID")),
        e("IssuerOfPatientID", plant.text("OtherPatientIDsSequence/Issuer")),
    ]
    return [
        e("RequestAttributesSequence", [request]),
        e("OriginalAttributesSequence", [original]),
        e("OtherPatientIDsSequence", [others], undefined=True),
        person("ReferringPhysicianIdentificationSequence"),
        reference("ReferencedStudySequence"),
        reference("ReferencedPerformedProcedureStepSequence"),
        reference("ReferencedImageSequence"),
        reference("SourceImageSequence"),
        reference("ReferencedPatientSequence"),
        code("ProcedureCodeSequence"),
        code("PerformedProtocolCodeSequence"),
        code("AnatomicRegionSequence"),
        code("PatientInsurancePlanCodeSequence"),
        code("AdmittingDiagnosesCodeSequence"),
        code("InstitutionCodeSequence"),
        e("IconImageSequence", [_icon(plant)]),
        e(
            "ContentSequence",
            [[e("ValueType", "PNAME"), e("PersonName", plant.name("ContentSequence/Name"))]],
        ),
        e(
            "DigitalSignaturesSequence",
            [[e("CertificateOfSigner", plant.text("CertificateOfSigner").encode())]],
        ),
        e("EncryptedAttributesSequence", [[e("EncryptedContent", plant.text("EncryptedContent").encode())]]),
    ]


def _icon(plant: Plant) -> list[E]:
    data = plant.text("IconImageSequence/PixelData").encode().ljust(64, b"\0")[:64]
    numbers = {
        "SamplesPerPixel": 1,
        "Rows": 8,
        "Columns": 8,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
    }
    return [
        *(e(keyword, (value,)) for keyword, value in numbers.items()),
        e("PixelRepresentation", (0,)),
        e("PhotometricInterpretation", "MONOCHROME2"),
        E(0x7FE00010, "OB", data),
    ]


def _private(plant: Plant) -> list[E]:
    csa = b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + b"PatientName\0" + plant.text("CSA header").encode()
    protocol = zlib.compress(plant.text("GE protocol block").encode() * 3)
    nested = [
        [
            E(0x00110010, "LO", "NESTED CREATOR"),
            E(0x00111001, "LO", plant.text("private SQ/private LO")),
            e("PatientName", plant.name("private SQ/PatientName")),
            e("StudyDate", plant.day("private SQ/StudyDate")),
        ]
    ]
    vrs = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE", "DA", "DT", "UI")
    typed = [E(0x00211001 + n, vr, plant.of(vr, f"private {vr}")) for n, vr in enumerate(vrs)]
    return [
        E(0x00110010, "LO", plant.text("private creator")),
        E(0x00110011, "LO", "SIEMENS CSA HEADER"),
        E(0x00111101, "OB", csa),
        E(0x00210010, "LO", "ACME 1.0"),
        *typed,
        E(0x00211020, "SQ", nested),
        E(0x00211021, "UN", plant.text("private UN").encode()),
        E(0x00211022, "OW", plant.text("private OW").encode()),
        E(0x00250010, "LO", "GEMS_SERS_01"),
        E(0x0025101B, "OB", struct.pack("<I", len(protocol)) + protocol),
        E(0x00311001, "LO", plant.text("private orphan")),
    ]


def _strange(plant: Plant) -> list[E]:
    """Unknown and retired tags, overlays, curves, wrong VRs, numbers where text is expected."""
    unknown_sequence = encode([e("PatientName", plant.name("unknown UN SQ/PatientName"))], IMPLICIT)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, len(unknown_sequence)) + unknown_sequence
    overlay = np.packbits(np.unpackbits(np.frombuffer(b"\0" * 1152, np.uint8)))
    drawn = plant.text("OverlayData").encode() + overlay.tobytes()
    return [
        E(0x00090001, "LO", plant.text("private element below the blocks")),
        E(0x00081195, "UI", plant.uid("TransactionUID")),
        E(0x00103333, "LO", plant.text("unknown public LO")),
        E(0x00103334, "UN", items),
        E(0x00100011, "UN", items),
        E(0x00100214, "UN", plant.text("newer than the dictionary, UN").encode()),
        E(0x00281300, "LT", plant.text("unknown LT in the image group")),
        E(0x50000022, "LO", plant.text("curve/Description")),
        E(0x50003000, "OW", plant.text("curve/Data").encode()),
        E(0x60000010, "US", (96,)),
        E(0x60000011, "US", (96,)),
        E(0x60000022, "LO", plant.text("overlay/Description")),
        E(0x60000040, "CS", "G"),
        E(0x60000050, "SS", (1, 1)),
        E(0x60000100, "US", (1,)),
        E(0x60000102, "US", (0,)),
        E(0x60001500, "LO", plant.text("overlay/Label")),
        E(0x60003000, "OW", drawn[:1152]),
        E(0x60004000, "LT", plant.text("overlay/Comments")),
        E(0x00080000, "UL", (4,)),
        E(0x00080001, "UL", (4,)),
        E(0x00084000, "LT", plant.text("IdentifyingComments, retired")),
        E(0x00180015, "CS", plant.word("BodyPartExamined")[:16]),
        E(0x00181020, "LO", plant.text("SoftwareVersions as typed")),
        E(0x00200020, "CS", plant.word("PatientOrientation")[:16]),
        E(0x00181030, "PN", plant.name("ProtocolName as PN")),
        E(0x00185101, "CS", plant.word("ViewPosition")[:16]),
        E(0x00204000, "LT", plant.text("ImageComments as typed")),
        E(0x00321064, "SQ", [[e("CodeMeaning", plant.text("RequestedProcedureCodeSequence/Meaning"))]]),
        E(0x00400244, "DA", plant.day("PerformedProcedureStepStartDate")),
        E(0x30060002, "SH", plant.word("StructureSetLabel")),
        E(0x40000010, "LT", plant.text("retired arbitrary text")),
        E(0x70540001, "LO", plant.text("unknown group")),
    ]


def dictionary(base: File, plant: Plant, syntax: str = EXPLICIT) -> File:
    """`base` with a value in every textual attribute of the data dictionary, and a name in every sequence."""
    found = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if not keyword or group in (0x0000, 0x0002, 0x0004, 0x0028, 0xFFFE) or tag in base.elements:
            continue
        if vr in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "UI"):
            found[tag] = E(tag, vr, plant.of(vr, keyword))
        elif vr == "SQ" and tag != 0x00186011 and group not in (0x5200, 0x0400):
            item = [e("PatientName", plant.name(keyword)), e("TextValue", plant.text(f"{keyword}/TextValue"))]
            found[tag] = E(tag, "SQ", [item])
    return replace(in_syntax(base, syntax), elements={**found, **in_syntax(base, syntax).elements})


def ultrasound_with_banner(plant: Plant) -> File:
    """Everything of `everywhere`, and bytes of a text as pixel values outside the regions."""
    values = np.zeros((96, 96, 3), np.uint8)
    message = np.frombuffer(plant.text("pixels outside the regions").encode(), np.uint8)
    values[2, : message.size] = message[:, None]
    return us(values)
