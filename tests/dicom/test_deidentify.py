"""The identity boundary: no planted value in the output, wherever it stood; deterministic; unlinkable."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import gate
from fedimg.dicom.authoring import build_image, encoded
from fedimg.dicom.deidentify import Deidentifier, Hints
from fedimg.dicom.profile import registered_uids
from fedimg.dicom.reader import parse, read_dataset

KEY = SiteKey.from_bytes(b"k" * 32)

PIXELS = (np.add.outer(np.arange(16), np.arange(16)) * 9).astype(np.uint16)

# Where a value may be planted: dropped, emptied, replaced, cleaned and kept attributes, each with its own VR.
# fmt: off
TEXT_KEYWORDS = [
    "PatientName", "PatientID", "OtherPatientIDs", "PatientComments", "StudyDescription", "ImageComments",
    "StationName", "InstitutionName", "OperatorsName", "AccessionNumber", "StudyID", "BodyPartExamined",
    "RescaleType", "ImagedNucleus", "PatientAddress", "RequestedProcedureDescription", "ProtocolName",
    "WindowCenterWidthExplanation",
]
SEQUENCES = [
    "RequestAttributesSequence", "OriginalAttributesSequence", "ReferencedStudySequence",
    "AnatomicRegionSequence", "SequenceOfUltrasoundRegions", "VOILUTSequence",
    "PerFrameFunctionalGroupsSequence", "ViewCodeSequence",
]
# fmt: on


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(KEY, "project")


def image(**attributes) -> Dataset:
    known = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "PatientBirthDate": "19500607",
        "StudyDate": "20120309",
    }
    return build_image(modality="CT", pixels=PIXELS, attributes=known | attributes)


def spellings(value: str) -> list[bytes]:
    cased = (value, value.lower(), value.upper())
    return [text.encode(codec) for text in cased for codec in ("utf-8", "utf-16-le", "utf-16-be")]


def absent(value: str, data: bytes) -> bool:
    return not any(spelling in data for spelling in spellings(value))


secrets = st.text(alphabet="ABCDEFGHJKLMNPQRSTUVWXYZ", min_size=8, max_size=12).map(lambda text: "Q" + text)
places = st.lists(st.sampled_from(SEQUENCES), max_size=3)


def plant(dataset: Dataset, value: str, path: list[str], where: str) -> None:
    target = dataset
    for keyword in path:
        if keyword not in target:
            setattr(target, keyword, Sequence([Dataset()]))
        target = target[keyword].value[0]
    if where == "private":
        target.private_block(0x0029, f"CREATOR {value}"[:60], create=True).add_new(0x10, "LO", value)
    elif where == "private sequence":
        inner = Dataset()
        inner.PatientName = value
        target.private_block(0x0029, "MAKER", create=True).add_new(0x11, "SQ", [inner])
    elif where == "unknown":
        target.add_new(0x00189FFF, "LO", value)
    elif where == "UN":
        target.add_new(0x00104000, "UN", value.encode())
    elif where == "code":
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "51185008", "SCT", value
        target.AnatomicRegionSequence = Sequence([item])
    elif where == "overlay":
        target.add_new(0x60003000, "OW", value.encode() + b"\0" * (len(value) % 2))
    else:
        with pydicom.config.disable_value_validation():
            target.add_new(where, pydicom.datadict.dictionary_VR(where), value)


WHERES = [*TEXT_KEYWORDS, "private", "private sequence", "unknown", "UN", "code", "overlay"]


plants = st.tuples(secrets, places, st.sampled_from(WHERES))


@settings(max_examples=100, deadline=None)
@given(st.lists(plants, min_size=1, max_size=6), st.booleans())
def test_no_planted_value_is_in_the_output(planted, implicit):
    deidentifier = Deidentifier(KEY, "project")
    dataset = build_image(
        modality="CT",
        pixels=PIXELS,
        attributes={"PatientID": "4711"},
        transfer_syntax="implicit_le" if implicit else "explicit_le",
    )
    for value, path, where in planted:
        plant(dataset, value, path, where)
    with pydicom.config.disable_value_validation():
        source = encoded(dataset)
    release = deidentifier.deidentify(parse(source))
    assert planted[-1][0].encode() in source  # earlier ones may be overwritten by later ones
    for value, _, _ in planted:
        assert absent(value, release.data)
    assert gate.structure_fault(release.data, deidentifier.profile) is None
    assert not gate.outside(gate.search(release.data, release.needles, release.pixels), release.closed)


@settings(max_examples=40, deadline=None)
@given(secrets, secrets)
def test_idempotent_deterministic_and_unlinkable(number, name):
    def released(key: bytes, project: str = "p"):
        return Deidentifier(SiteKey.from_bytes(key), project).deidentify(parse(source))

    source = encoded(image(PatientID=number, PatientName=name))
    first = released(b"k" * 32)
    assert released(b"k" * 32).data == first.data
    again = Deidentifier(SiteKey.from_bytes(b"k" * 32), "p").deidentify(parse(first.data))
    assert again.data == first.data
    assert (again.patient_key, again.instance_key) == (first.patient_key, first.instance_key)
    assert again.pixel_digest == first.pixel_digest
    for other in (released(b"o" * 32), released(b"k" * 32, "q")):
        keys = (first.patient_key, first.study_key, first.series_key, first.instance_key, first.pixel_digest)
        assert not any(key.encode() in other.data for key in keys)
        assert other.pixel_digest != first.pixel_digest


def test_two_processes_agree(tmp_path):
    source = tmp_path / "in.dcm"
    source.write_bytes(encoded(image()))
    code = (
        "import sys, hashlib; from pathlib import Path; from fedimg.crypto.keys import SiteKey;"
        "from fedimg.dicom.deidentify import Deidentifier; from fedimg.dicom.reader import read_dataset;"
        "d = Deidentifier(SiteKey.from_bytes(b'k' * 32), 'p');"
        "print(hashlib.sha256(d.deidentify(read_dataset(Path(sys.argv[1]))).data).hexdigest())"
    )
    command = [sys.executable, "-P", "-c", code, str(source)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    here = Deidentifier(KEY, "p").deidentify(read_dataset(source)).data
    assert out == hashlib.sha256(here).hexdigest()


def test_a_forged_seal_is_not_believed(deidentifier):
    """Only the site itself can say "this is my own output": a copied mark does not pass an input through."""
    release = deidentifier.deidentify(parse(encoded(image())))
    forged = parse(release.data)
    forged.add_new(0x00104000, "LT", "SECRETNAME")
    other = deidentifier.deidentify(parse(encoded(forged)))
    assert b"SECRETNAME" not in other.data
    assert other.instance_key != release.instance_key


def test_the_release_says_what_it_is(deidentifier):
    source = image(
        PatientSex="F", PatientAge="093Y", FrameOfReferenceUID="1.2.3.4.5", BodyPartExamined="chest"
    )
    release = deidentifier.deidentify(parse(encoded(source)))
    read = pydicom.dcmread(io.BytesIO(release.data))
    assert release.data[:128] == bytes(128)
    assert (read.PatientID, read.PatientName) == (release.patient_key, f"{release.patient_key}^")
    assert (read.PatientSex, read.PatientAge, read.BodyPartExamined) == ("F", "090Y", "CHEST")
    assert (read.PatientIdentityRemoved, read.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    codes = [
        (item.CodeValue, item.CodingSchemeDesignator) for item in read.DeidentificationMethodCodeSequence
    ]
    assert codes == [("113100", "DCM"), ("113101", "DCM"), ("113108", "DCM")]
    assert read.BurnedInAnnotation == "NO"
    assert read.DeidentificationMethod[1] == f"profile {deidentifier.profile.digest[:16]}"
    for emptied in ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName"):
        assert read[emptied].value in ("", None)
    # Dummies, since archives and media are indexed by these.
    assert (read.StudyDate, read.StudyID) == ("19000101", "REMOVED")
    assert read.FrameOfReferenceUID == deidentifier.pseudonyms.uid("1.2.3.4.5")
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == release.instance_key
    assert set(read.file_meta.dir()) == {
        "FileMetaInformationGroupLength",
        "FileMetaInformationVersion",
        "ImplementationClassUID",
        "ImplementationVersionName",
        "MediaStorageSOPClassUID",
        "MediaStorageSOPInstanceUID",
        "TransferSyntaxUID",
    }


def test_an_age_comes_from_dates_where_the_header_has_none(deidentifier):
    read = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(image()).data))
    assert read.PatientAge == "060Y"  # 61 on the day of the study


def test_references_stay_whole_and_public_uids_stay(deidentifier):
    study = "1.2.826.0.1.3680043.8.498.1"
    first, second = (
        deidentifier.deidentify(image(StudyInstanceUID=study, SOPInstanceUID=f"{study}.{n}")) for n in (1, 2)
    )
    assert first.study_key == second.study_key
    assert first.instance_key != second.instance_key
    frame = "1.2.840.10008.1.4.1.1"  # Talairach brain atlas: a well-known frame of reference
    assert frame in registered_uids()
    read = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(image(FrameOfReferenceUID=frame)).data))
    assert read.FrameOfReferenceUID == frame


def test_a_patient_is_issuer_and_number(deidentifier):
    def key(**attributes):
        return deidentifier.deidentify(image(**attributes)).patient_key

    assert key(PatientID="a 1") == key(PatientID=" A  1 ")
    assert key(IssuerOfPatientID="H1") != key(IssuerOfPatientID="H2")
    hinted = deidentifier.deidentify(image(PatientID="other"), Hints(patient_id="4711"))
    assert hinted.patient_key == key(PatientID="4711")


def test_values_that_are_not_what_their_vr_says_are_dropped(deidentifier):
    source = image(
        SliceThickness="2.5", EchoTime="123456789012", ExposureTime="98765432", BodyPartExamined="ABCDEFGH"
    )
    source.add_new("KVP", "LO", "120")  # another VR than the dictionary's
    source.add_new("ImageOrientationPatient", "DS", ["1"] * 7)  # VM 6
    data = encoded(source)
    for value, planted in (
        ("123456789012", "12 QQNAMEQQ "),
        ("98765432", "QQNAMEQQ"),
        ("ABCDEFGH", "QQNAMEQQ"),
    ):
        assert value.encode() in data
        data = data.replace(value.encode(), planted.encode())
    read = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(parse(data)).data))
    assert read.SliceThickness == 2.5
    for keyword in ("KVP", "EchoTime", "ExposureTime", "BodyPartExamined", "ImageOrientationPatient"):
        assert read.get(keyword) in (None, "")  # what the IOD asks for (type 2) stays, empty


def test_sequences_in_un_are_read_and_their_codes_judged(deidentifier):
    def item(code: str, meaning: str) -> bytes:
        parts = b""
        for tag, value in ((0x0100, code), (0x0102, "SCT"), (0x0104, meaning)):
            raw = value.encode() + b" " * (len(value) % 2)
            parts += b"\x08\0" + tag.to_bytes(2, "little") + len(raw).to_bytes(4, "little") + raw
        return b"\xfe\xff\0\xe0" + len(parts).to_bytes(4, "little") + parts

    value = item("51185008", "Chest of QQNAMEQQ") + item("777", "QQOTHERQQ")
    data = encoded(image())
    at = data.index(b"\x10\0\x10\0PN")
    data = data[:at] + b"\x08\0\x18\x22UN\0\0" + len(value).to_bytes(4, "little") + value + data[at:]
    release = deidentifier.deidentify(parse(data))
    assert absent("QQNAMEQQ", release.data) and absent("QQOTHERQQ", release.data)
    read = pydicom.dcmread(io.BytesIO(release.data))
    assert [(i.CodeValue, i.CodeMeaning) for i in read.AnatomicRegionSequence] == [("51185008", "Chest")]


def test_per_frame_groups_keep_their_number(deidentifier):
    source = build_image(
        modality="CT",
        pixels=np.stack([PIXELS] * 1200),
        attributes={
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1",
            "PatientID": "1234567",
            "PerFrameFunctionalGroupsSequence": [
                {
                    "PlanePositionSequence": [{"ImagePositionPatient": ["0", "0", str(n)]}],
                    "FrameContentSequence": [
                        {"FrameAcquisitionDateTime": "20120309101010", "FrameComments": "QQNAMEQQ"}
                    ],
                }
                for n in range(1200)
            ],
        },
    )
    read = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(parse(encoded(source))).data))
    groups = read.PerFrameFunctionalGroupsSequence
    assert len(groups) == 1200 == read.NumberOfFrames
    assert groups[1199].PlanePositionSequence[0].ImagePositionPatient[2] == 1199
    assert "FrameComments" not in groups[0].FrameContentSequence[0]
