"""What is around the data set: preamble, meta, padding, names of files; and what is no image at all."""

from __future__ import annotations

import os
from dataclasses import replace

import pydicom
import pytest
from hospital import intake, take
from images import SYNTAXES, ct, in_syntax, mr
from planting import Plant
from rawdicom import DEFLATED, EXPLICIT, IMPLICIT, NATIVE, E, e, encode

from fedimg.values import SourceItem


def test_preamble_text(tmp_path, profile):
    plant = Plant()
    preamble = plant.text("preamble").encode().ljust(128)
    taken = take(tmp_path, replace(ct(), preamble=preamble), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only[:128] == bytes(128)


def test_dual_tiff_header(tmp_path, profile):
    """A file that is a TIFF as well: its directory and description lie in the preamble and behind the data."""
    plant = Plant()
    text = plant.text("ImageDescription").encode() + b"\0"
    header = b"II*\0\x10\0\0\0" + bytes(8) + b"\1\0" + b"\x0e\x01\2\0" + len(text).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + bytes(4) + text
    file = replace(
        ct(), preamble=header.ljust(128, b"\0")[:128], trailing=b"II*\0" + plant.text("tail").encode()
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only[:128] == bytes(128)


def test_ae_titles(tmp_path, profile):
    plant = Plant()
    meta = tuple(E(0x00020016 + n, "AE", plant.word(f"meta {n}")[:16]) for n in range(3))
    inside = (
        e("RetrieveAETitle", plant.word("retrieve")[:16]),
        e("StationAETitle", plant.word("station")[:16]),
    )
    taken = take(tmp_path, ct().having(*inside, meta=meta), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_private_information_in_the_file_meta(tmp_path, profile):
    plant = Plant()
    meta = (
        E(0x00020100, "UI", plant.uid("creator")),
        E(0x00020102, "OB", plant.text("information").encode()),
        E(0x00020099, "LO", plant.text("unknown element of group 2")),
    )
    taken = take(tmp_path, ct().having(meta=meta), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_implementation_version(tmp_path, profile):
    plant = Plant()
    meta = (
        E(0x00020012, "UI", plant.uid("class")),
        E(0x00020013, "SH", plant.word("version")[:16]),
    )
    taken = take(tmp_path, ct().having(meta=meta), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_wrong_media_storage_sop_instance_uid(tmp_path, profile):
    plant = Plant()
    taken = take(tmp_path, replace(ct(), media_instance=plant.uid("media")), profile=profile)
    assert taken.leaks(plant.secrets) == []
    dataset = taken.dataset
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_group_0004(tmp_path, profile):
    plant = Plant()
    found = (
        E(0x00041130, "CS", plant.word("FileSetID")[:16]),
        E(0x00041500, "CS", plant.word("ReferencedFileID")[:16]),
        E(0x00041511, "UI", plant.uid("ReferencedSOPInstanceUIDInFile")),
        E(0x00041432, "UI", plant.uid("PrivateRecordUID")),
    )
    taken = take(tmp_path, ct().having(*found), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert all(element.tag.group != 4 for element in taken.dataset)


def test_dicomdir(tmp_path, profile):
    plant = Plant()
    record = [
        e("DirectoryRecordType", "PATIENT"),
        e("PatientName", plant.name("name")),
        e("PatientID", plant.number("id")),
        e("OffsetOfTheNextDirectoryRecord", (0,)),
        e("OffsetOfReferencedLowerLevelDirectoryEntity", (0,)),
        e("RecordInUseFlag", (0xFFFF,)),
    ]
    file = ct().having(
        E(0x00041130, "CS", plant.word("FileSetID")[:16]),
        e("DirectoryRecordSequence", [record]),
        meta=(E(0x00020002, "UI", "1.2.840.10008.1.3.10"),),
    )
    taken = take(tmp_path, file, profile=profile, names=("DICOMDIR",))
    assert taken.leaks(plant.secrets) == []
    assert taken.reasons == ("object_type",)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_data_set_trailing_padding(tmp_path, profile, syntax):
    plant = Plant()
    padding = E(0xFFFCFFFC, "OB", plant.text("padding").encode() * 20)
    taken = take(tmp_path, ct().having(extra=(padding,), syntax=syntax), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_bytes_after_the_data_set(tmp_path, profile, syntax):
    plant = Plant()
    file = replace(in_syntax(ct(), syntax), trailing=plant.text("trailing").encode() * 3)
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_elements_inside_and_behind_the_deflated_stream(tmp_path, profile):
    plant = Plant()
    inner = encode([E(0xFFFAFFFA, "SQ", [[e("PatientName", plant.name("signature"))]])], EXPLICIT)
    file = replace(ct(), syntax=DEFLATED, inside=inner, trailing=plant.text("behind").encode())
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("syntax", NATIVE[:3])
def test_no_meta(tmp_path, profile, syntax):
    plant = Plant()
    file = in_syntax(ct(PatientName=plant.name("name")), syntax)
    taken = take(tmp_path, replace(file, with_meta=False), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax(tmp_path, profile, syntax):
    """Big endian, deflated and all compressions: released, with the same pixels, in one clean form."""
    plant = Plant()
    file = in_syntax(mr(PatientName=plant.name("name"), PatientID=plant.number("id")), syntax)
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.dataset.pixel_array.size > 0


@pytest.mark.parametrize("stated", NATIVE)
@pytest.mark.parametrize("real", NATIVE[:3])
def test_a_transfer_syntax_that_is_not_the_stated_one(tmp_path, profile, real, stated):
    plant = Plant()
    file = in_syntax(ct(PatientName=plant.name("name"), PatientID=plant.number("id")), real)
    taken = take(tmp_path, replace(file, stated=stated), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_a_text_file_named_dcm(tmp_path, profile):
    plant = Plant()
    letters = (
        f"Dear colleague, {plant.name('letter')} was seen on {plant.day('day')}".encode(),
        b"\0" * 128 + b"DICM" + plant.text("after the prefix").encode() * 9,
        b"%PDF-1.7\n" + plant.text("pdf").encode(),
        b"",
    )
    taken = take(tmp_path, *letters, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.reasons) == 4


def test_files_and_folders_named_after_the_patient(tmp_path, profile):
    plant = Plant()
    one, two = plant.word("folder").title(), plant.word("file")
    three = plant.word("folder above")
    names = (f"{three}/{one} 1954/{two}_CT.dcm", f"{three}/{one} 1954/{plant.number('number')}.dcm")
    described = ct(SOPInstanceUID="1.2.3.9").having(
        e("StudyDescription", one), e("SeriesDescription", two.lower()), e("ImagePositionPatient", "0\\0\\9")
    )
    taken = take(tmp_path, ct(), described, profile=profile, names=names)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) == 2


def test_the_path_is_in_no_receipt_and_in_no_message(tmp_path, profile, capfd):
    plant = Plant()
    names = (f"{plant.word('folder')}/{plant.word('file')}.dcm", f"{plant.word('bad')}.dcm")
    taken = take(tmp_path, ct(), b"not an image", profile=profile, names=names)
    assert taken.leaks(plant.secrets) == []
    out = "".join(capfd.readouterr()) + taken.result.report()
    assert not any(secret.value in out.lower() for secret in plant.secrets.values())


def test_symlinks(tmp_path, profile):
    """A link to an image is read as the image or refused; a link named after a patient leaves no trace."""
    plant = Plant()
    real = tmp_path / "real.dcm"
    real.write_bytes(ct(PatientName=plant.name("name")).to_bytes())
    folder = tmp_path / "in"
    folder.mkdir()
    link, dangling, loop = (folder / f"{plant.word(kind)}.dcm" for kind in ("link", "dangling", "loop"))
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "nowhere")
    loop.symlink_to(loop)
    items = [SourceItem(path, "dicom", label=0) for path in (link, dangling, loop)]
    taken = intake(tmp_path, items, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 3
    assert not any(path.is_symlink() for path in taken.home.root.rglob("*"))


def test_released_files_are_regular_and_nobody_elses(tmp_path, profile):
    taken = take(tmp_path, ct(), profile=profile)
    files = [path for path in taken.home.released.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        assert path.stat().st_uid == os.getuid()
    assert pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID in SYNTAXES
