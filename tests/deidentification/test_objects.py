"""Objects that are no images, or are made to carry text: held back, or clean."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pydicom
import pydicom.uid as uids
import pytest
from hospital import take
from images import SHARED, SHIPPED, ct
from planting import Plant
from rawdicom import NATIVE, E, File, e
from scanner import Secret


def document(sop_class: str, modality: str, *elements: E) -> File:
    """An object without pixels."""
    file = ct(SOPClassUID=sop_class, Modality=modality)
    gone = {
        0x7FE00010,
        0x00280002,
        0x00280004,
        0x00280010,
        0x00280011,
        0x00280100,
        0x00280101,
        0x00280102,
        0x00280103,
    }
    kept = {tag: element for tag, element in file.elements.items() if tag not in gone}
    return replace(file, elements=kept).having(*elements)


def content(kind: str, element: E) -> list[E]:
    name = [e("CodeValue", "121106"), e("CodingSchemeDesignator", "DCM"), e("CodeMeaning", "Comment")]
    return [
        e("RelationshipType", "CONTAINS"),
        e("ValueType", kind),
        e("ConceptNameCodeSequence", [name]),
        element,
    ]


def check(folder, profile: str, file: File, plant: Plant) -> None:
    taken = take(folder, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


@pytest.mark.parametrize("syntax", NATIVE[:2])
@pytest.mark.parametrize("kind", ["TEXT", "PNAME", "DATE", "UIDREF", "CODE"])
def test_structured_report(tmp_path, profile, kind, syntax):
    plant = Plant()
    code = [e("CodeValue", plant.word("value")), e("CodeMeaning", plant.text("meaning"))]
    element = {
        "TEXT": lambda: e("TextValue", plant.text("text")),
        "PNAME": lambda: e("PersonName", plant.name("person")),
        "DATE": lambda: e("Date", plant.day("date")),
        "UIDREF": lambda: e("UID", plant.uid("uid")),
        "CODE": lambda: e("ConceptCodeSequence", [code]),
    }[kind]()
    inner = content("CONTAINER", e("ContentSequence", [content(kind, element)]))
    file = document(uids.ComprehensiveSRStorage, "SR", e("ContentSequence", [inner]))
    file = file.having(e("PatientName", plant.name("patient")), e("PatientID", plant.number("id")))
    check(tmp_path, profile, replace(file, syntax=syntax), plant)


def test_encapsulated_pdf(tmp_path, profile):
    plant = Plant()
    pdf = b"%PDF-1.4\n1 0 obj<</Title(" + plant.text("title").encode() + b")>>endobj\n%%EOF"
    file = document(
        uids.EncapsulatedPDFStorage,
        "DOC",
        e("EncapsulatedDocument", pdf),
        e("DocumentTitle", plant.text("document title")),
        e("MIMETypeOfEncapsulatedDocument", "application/pdf"),
    )
    check(tmp_path, profile, file, plant)


def test_presentation_state_text(tmp_path, profile):
    plant = Plant()
    text = [e("UnformattedTextValue", plant.text("annotation")), e("AnchorPointVisibility", "Y")]
    layer = [e("GraphicLayer", plant.word("layer")[:16]), e("GraphicLayerDescription", plant.text("layer"))]
    file = document(
        uids.GrayscaleSoftcopyPresentationStateStorage,
        "PR",
        e("GraphicAnnotationSequence", [[e("TextObjectSequence", [text])]]),
        e("GraphicLayerSequence", [layer]),
        e("ContentLabel", plant.word("label")[:16]),
        e("ContentCreatorName", plant.name("creator")),
    )
    check(tmp_path, profile, file, plant)


def test_presentation_state_text_inside_an_image(tmp_path, profile):
    """The same sequences in a CT image: released without them."""
    plant = Plant()
    text = [e("UnformattedTextValue", plant.text("annotation"))]
    file = ct().having(e("GraphicAnnotationSequence", [[e("TextObjectSequence", [text])]]))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_rtstruct_roi_named_after_the_patient(tmp_path, profile):
    plant = Plant()
    roi = [
        e("ROINumber", "1"),
        e("ROIName", plant.name("ROIName")),
        e("ROIDescription", plant.text("ROIDescription")),
        e("ROIGenerationAlgorithm", ""),
    ]
    observation = [
        e("ROIObservationLabel", plant.word("label")[:16]),
        e("ROIInterpreter", plant.name("interpreter")),
    ]
    file = document(
        uids.RTStructureSetStorage,
        "RTSTRUCT",
        e("StructureSetLabel", plant.word("StructureSetLabel")),
        e("StructureSetName", plant.text("StructureSetName")),
        e("StructureSetROISequence", [roi]),
        e("RTROIObservationsSequence", [observation]),
    )
    check(tmp_path, profile, file, plant)


def test_waveform_annotation(tmp_path, profile):
    plant = Plant()
    annotation = [e("UnformattedTextValue", plant.text("annotation")), e("AnnotationGroupNumber", (0,))]
    channel = [
        e("ChannelLabel", plant.word("channel")[:16]),
        e("ChannelDerivationDescription", plant.text("lead")),
    ]
    waveform = [e("MultiplexGroupLabel", plant.word("group")), e("ChannelDefinitionSequence", [channel])]
    file = document(
        uids.TwelveLeadECGWaveformStorage,
        "ECG",
        e("WaveformSequence", [[*waveform, E(0x54001010, "OW", plant.text("samples").encode())]]),
        e("WaveformAnnotationSequence", [annotation]),
    )
    check(tmp_path, profile, file, plant)


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        (uids.KeyObjectSelectionDocumentStorage, "KO"),
        (uids.XRayRadiationDoseSRStorage, "SR"),
        (uids.EncapsulatedCDAStorage, "DOC"),
        (uids.EncapsulatedSTLStorage, "M3D"),
        (uids.RawDataStorage, "CT"),
        (uids.BasicTextSRStorage, "SR"),
        ("1.2.840.10008.5.1.4.1.1.77.1.4.1", "XC"),
        ("1.2.3.4.5.6.7", "CT"),
    ],
)
def test_other_objects(tmp_path, profile, sop_class, modality):
    plant = Plant()
    file = document(
        sop_class, modality, e("TextValue", plant.text("text")), e("PatientName", plant.name("name"))
    )
    check(tmp_path, profile, file, plant)


@pytest.mark.parametrize(
    "name", ["reportsi.dcm", "rtstruct.dcm", "rtplan.dcm", "rtdose.dcm", "test-SR.dcm", "waveform_ecg.dcm"]
)
def test_real_objects_that_are_no_images(tmp_path, profile, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = _identifiers(pydicom.dcmread(SHIPPED / name, force=True))
    found = {str(n): v for n, v in enumerate(values) if sum(map(str.isalnum, v)) >= 6}
    taken = take(tmp_path, (SHIPPED / name).read_bytes(), profile=profile)
    assert taken.leaks({place: Secret(value) for place, value in found.items()}) == []
    assert len(taken.released) + len(taken.reasons) == 1


def _identifiers(dataset) -> set[str]:
    found = set()
    for element in dataset.iterall():
        if element.VR == "PN" or element.keyword in ("PatientID", "AccessionNumber"):
            found.update(part for part in str(element.value).replace("=", "^").split("^") if part)
    return found


def test_pixels_of_an_object_that_is_no_image(tmp_path, profile):
    """A report with pixel data is not an image for having them."""
    plant = Plant()
    file = ct(SOPClassUID=uids.BasicTextSRStorage, Modality="SR", PatientName=plant.name("name"))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.reasons == ("object_type",)


def test_the_shared_folder_is_where_real_files_are():
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data/dicom, which is not here")
    assert (SHARED / "presidio").is_dir()
