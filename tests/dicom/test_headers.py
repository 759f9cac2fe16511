"""The quick look at headers, against pydicom's reading of the same files."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fedimg.dicom.headers import PATIENT_ID, SERIES, decoded, header_of

OWN = Path(pydicom.__file__).parent / "data" / "test_files"
UNREAD = {
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
}  # big endian and deflated: said not to be looked at


def agreement(paths) -> tuple[int, list[str]]:
    compared, wrong = 0, []
    for path in map(Path, paths):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, stop_before_pixels=True)
                expected = str(dataset.get("PatientID") or "").strip()
                series = str(dataset.get("SeriesInstanceUID") or "")
        except Exception:  # noqa: BLE001 - what pydicom cannot read is compared with nothing
            continue
        meta = getattr(dataset, "file_meta", Dataset())
        if str(meta.get("TransferSyntaxUID")) in UNREAD or "DirectoryRecordSequence" in dataset:
            continue
        found = header_of(path)[0].root
        compared += 1
        if (found.get(PATIENT_ID, b"").decode("latin-1"), found.get(SERIES, b"").decode()) != (
            expected,
            series,
        ):
            wrong.append(path.name)
    return compared, wrong


def test_pydicoms_own_files_read_alike():
    compared, wrong = agreement(OWN.rglob("*.dcm"))
    assert compared > 60
    assert wrong == []


def test_the_real_files_read_alike(shared_data):
    compared, wrong = agreement(path for path in (shared_data / "dicom").rglob("*") if path.is_file())
    assert compared > 150
    assert wrong == []


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_identifiers_in_sequences_are_found_and_do_not_pass_for_the_patients(tmp_path, syntax, undefined):
    inner = Dataset()
    inner.PatientID, inner.PatientName = "OTHER1", "INNER^NAME"
    outer = Dataset()
    outer.ReferencedPatientSequence = Sequence([inner])
    outer.is_undefined_length_sequence_item = undefined
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    dataset.RequestAttributesSequence = Sequence([outer])
    dataset["RequestAttributesSequence"].is_undefined_length = undefined
    dataset.ReferencedStudySequence = Sequence([inner])
    dataset.PatientID, dataset.PatientName = "MRN1", "OUTER^NAME"
    dataset.add_new(0x00091001, "UN", b"x" * 70000)
    dataset.add_new(0x00100010, "PN", "OUTER^NAME")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    header, size, _ = header_of(tmp_path / "a.dcm")
    assert size == (tmp_path / "a.dcm").stat().st_size
    assert header.root[PATIENT_ID] == b"MRN1"
    values = {element.value for element in header.found}
    assert {b"MRN1", b"OUTER^NAME", b"OTHER1", b"INNER^NAME"} <= values


@pytest.mark.parametrize("length", [0, 5, 131, 132, 136, 140, 150, 300, 500])
def test_a_file_cut_anywhere_raises_nothing(tmp_path, length):
    whole = (OWN / "CT_small.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:length])
    header_of(tmp_path / "cut.dcm")


def test_lengths_that_lie_end_the_look(tmp_path):
    head = b"\0" * 128 + b"DICM"
    for body in (
        struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) * 30000,
        struct.pack("<HH2sH", 8, 0x60, b"CS", 0) * 30000,
        struct.pack("<HH2sHI", 8, 0x60, b"UT", 0, 0xFFFFFFF0),
    ):
        (tmp_path / "a.dcm").write_bytes(head + body)
        assert header_of(tmp_path / "a.dcm")[0].root == {}


def test_a_link_is_followed_only_where_that_is_wanted(tmp_path):
    (tmp_path / "link.dcm").symlink_to(OWN / "CT_small.dcm")
    assert header_of(tmp_path / "link.dcm")[0].root[PATIENT_ID] == b"1CT1"
    with pytest.raises(OSError, match="symbolic links"):
        header_of(tmp_path / "link.dcm", follow_links=False)


def test_text_is_decoded_in_its_character_set():
    assert decoded("Müller".encode("latin-1"), b"ISO_IR 100") == "Müller"
    assert decoded("Müller".encode(), b"ISO_IR 192") == "Müller"
    assert decoded(b"abc", b"no such set") == "abc"
