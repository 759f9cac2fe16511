"""What arrives is known from its header, or refused with a reason; never a word of it in the reason."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import threading
import unicodedata
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from fedimg.dicom.arrival import TRANSFER_SYNTAXES, ArrivalLimits, examine, examine_bytes, is_uid
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from tests.watch.arriving import NAME, PLANTED, SERIES, STUDY, instance, uid_of, without

WHOLE, LATIN = instance(), instance(SpecificCharacterSet="ISO_IR 100")


def reason_of(data, **limits):
    with pytest.raises(Quarantined) as caught:
        examine_bytes(data, ArrivalLimits(**limits))
    assert not any(word in str(caught.value) for word in PLANTED)
    return caught.value.reason


def test_a_whole_instance_is_told(tmp_path):
    data = instance(
        3,
        BodyPartExamined="chest",
        StudyDescription="Thorax",
        ImageOrientationPatient=["0", "1", "0", "0", "0", "1"],  # a sagittal plane: its normal is +x
        ImagePositionPatient=["-41.5", "9", "9"],
        SpacingBetweenSlices="-2.5",
        RequestedProcedurePriority="STAT",
    )
    (tmp_path / "one").write_bytes(data)
    arrival = examine(tmp_path / "one")
    assert (arrival.study_uid, arrival.series_uid, arrival.sop_uid) == (STUDY, SERIES, uid_of(3))
    assert arrival.sop_class == "1.2.840.10008.5.1.4.1.1.2"
    assert (arrival.modality, arrival.body_part, arrival.description) == ("CT", "CHEST", "Thorax")
    assert (arrival.rows, arrival.columns, arrival.frames, arrival.number) == (8, 8, 1, 3)
    assert (arrival.position_mm, arrival.spacing_between_mm) == (-41.5, 2.5)
    assert (arrival.patient_name, arrival.patient_id) == (NAME, "MRN88213947")
    assert (arrival.accession, arrival.study_date, arrival.stat) == ("ACC7736", "20260102", True)
    assert (arrival.size, arrival.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_what_a_header_does_not_say_is_empty():
    arrival = examine_bytes(
        instance(InstanceNumber="", StudyDate="yesterday", Modality="CT!", SpacingBetweenSlices="0")
    )
    assert (arrival.number, arrival.position_mm, arrival.spacing_between_mm) == (None, None, None)
    assert (arrival.study_date, arrival.modality, arrival.body_part, arrival.stat) == ("", "", "", False)


@given(
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
    st.floats(-10, 10),
    st.floats(-10, 10),
)
def test_the_position_is_the_distance_along_the_normal(angles, origin, along_row, along_column):
    """Moving within the plane changes nothing; by d along the normal, d."""

    def turned(axis, angle):
        a, b = [k for k in range(3) if k != axis]
        matrix = np.eye(3)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
        return matrix

    basis = turned(0, angles[0]) @ turned(1, angles[1]) @ turned(2, angles[2])
    row, column, normal = basis.T
    if np.linalg.det(basis) < 0:
        normal = -normal

    def position(place):
        texts = {
            "ImageOrientationPatient": [f"{v:.9f}" for v in (*row, *column)],
            "ImagePositionPatient": [f"{v:.9f}" for v in place],
        }
        return examine_bytes(instance(**texts)).position_mm

    here = position(np.array(origin))
    assert here == pytest.approx(np.dot(origin, np.cross(row, column)), abs=1e-5)
    assert position(origin + along_row * row + along_column * column) == pytest.approx(here, abs=1e-5)
    assert position(origin + 7 * np.cross(row, column)) == pytest.approx(here + 7, abs=1e-5)


@pytest.mark.parametrize(
    "cosines", [["1", "0", "0", "1", "0", "0"], ["2", "0", "0", "0", "1", "0"], ["1", "0"]]
)
def test_no_plane_no_position(cosines):
    placed = instance(ImageOrientationPatient=cosines, ImagePositionPatient=["1", "2", "3"])
    assert examine_bytes(placed).position_mm is None


BAD_UIDS = [
    "../../etc/passwd",
    "1.2/3",
    "1.2.",
    ".1.2",
    "1..2",
    "1.02",
    "1.2.a",
    "1." * 40 + "1",
    "1.2\\1.3",
    "1 2",
]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("uid", BAD_UIDS)
def test_a_uid_that_is_none_is_refused(keyword, uid):
    assert reason_of(instance(**{keyword: uid})) is Quarantine.UNSAFE_STRUCTURE


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_an_object_without_its_uids_is_refused(keyword):
    assert reason_of(without(WHOLE, keyword)) is Quarantine.UNREADABLE
    assert reason_of(instance(**{keyword: ""})) is Quarantine.UNREADABLE


@given(st.one_of(st.text(alphabet="0123456789./", max_size=70), st.text(max_size=20)))
def test_uids_are_those_of_the_standard(text):
    """pydicom's own check is another expression of PS3.5 9.1."""
    assert is_uid(text) == (UID(text, validation_mode=0).is_valid and text.isascii() and "\n" not in text)


def test_a_file_meta_of_another_object_is_refused():
    at = WHOLE.index(uid_of(1).encode())
    other = WHOLE[:at] + uid_of(2).encode() + WHOLE[at + len(uid_of(2)) :]
    assert reason_of(other) is Quarantine.OBJECT_TYPE
    at = WHOLE.index(b"1.2.840.10008.5.1.4.1.1.2\0")
    assert reason_of(WHOLE[: at + 24] + b"4" + WHOLE[at + 25 :]) is Quarantine.OBJECT_TYPE


def test_a_dicomdir_and_what_is_no_dicom_are_refused():
    assert reason_of(Path(str(get_testdata_file("DICOMDIR"))).read_bytes()) is Quarantine.OBJECT_TYPE
    assert reason_of(b"%PDF-1.7" * 100) is Quarantine.NOT_AN_IMAGE
    assert reason_of(b"") is Quarantine.NOT_AN_IMAGE


def test_sizes_are_held_to_the_limits(tmp_path):
    (tmp_path / "one").write_bytes(WHOLE)
    for examined in (
        lambda limits: examine(tmp_path / "one", limits),
        lambda limits: examine_bytes(WHOLE, limits),
    ):
        examined(ArrivalLimits(file_bytes=len(WHOLE), pixel_samples=64))
        with pytest.raises(Quarantined):
            examined(ArrivalLimits(file_bytes=len(WHOLE) - 1))
        with pytest.raises(Quarantined):
            examined(ArrivalLimits(pixel_samples=63))
    for bomb in ({"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": "2000000000"}):
        assert reason_of(instance(syntax="rle", **bomb)) is Quarantine.UNSAFE_STRUCTURE


def test_a_deflated_bomb_is_refused_and_a_deflated_instance_is_not():
    deflated = instance(syntax="deflated_le")
    assert examine_bytes(deflated).sop_uid == uid_of(1)
    begin = 144 + struct.unpack_from("<I", deflated, 140)[0]
    body = zlib.decompress(deflated[begin:], -15)
    deflater = zlib.compressobj(9, wbits=-15)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 1 << 26) + bytes(1 << 26)
    before = body.index(struct.pack("<HH", 0x7FE0, 0x10))
    bomb = deflated[:begin] + deflater.compress(body[:before] + padding) + deflater.flush()
    assert len(bomb) < 1 << 18
    assert reason_of(bomb, file_bytes=1 << 20) is Quarantine.UNSAFE_STRUCTURE


def test_lengths_that_lie_are_refused_although_pydicom_would_read_them():
    length = struct.unpack_from("<I", WHOLE, 140)[0]
    assert reason_of(WHOLE[:140] + struct.pack("<I", length + 4) + WHOLE[144:]) is Quarantine.UNSAFE_STRUCTURE
    requests = [{"RequestedProcedureID": "7", "ScheduledProcedureStepID": "8"}]
    data = instance(RequestAttributesSequence=requests)
    at = data.index(struct.pack("<HHI", 0xFFFE, 0xE000, 0)[:4]) + 4
    longer = struct.unpack_from("<I", data, at)[0] + 2
    assert reason_of(data[:at] + struct.pack("<I", longer) + data[at + 4 :]) is Quarantine.UNSAFE_STRUCTURE
    deep = [{"RequestedProcedureID": "7"}]
    for _ in range(40):
        deep = [{"ContentSequence": deep}]
    assert reason_of(instance(RequestAttributesSequence=deep)) is Quarantine.UNSAFE_STRUCTURE


def test_texts_are_decoded_bounded_and_free_of_control_characters():
    hostile = "Änne\x1b[31m\r\n\u202egnp\u2028x\x00" + "y" * 500
    arrival = examine_bytes(
        instance(
            SpecificCharacterSet="ISO_IR 192", StudyDescription=hostile, PatientName="山田^太郎=" + "z" * 900
        )
    )
    assert arrival.description == ("Änne[31mgnpx" + "y" * 500)[:64]
    assert arrival.patient_name.startswith("山田^太郎=") and len(arrival.patient_name) == 194
    latin = examine_bytes(instance(SpecificCharacterSet="ISO_IR 100", StudyDescription="Schädel"))
    assert latin.description == "Schädel"


@given(st.binary(max_size=200))
def test_no_bytes_put_a_control_character_into_a_text(noise):
    at = LATIN.index(NAME.encode())
    replaced = LATIN[:at] + (noise + b" " * len(NAME))[: len(NAME)] + LATIN[at + len(NAME) :]
    text = examine_bytes(replaced).patient_name
    assert all(unicodedata.category(c)[0] != "C" for c in text) and len(text) <= 194


@pytest.mark.parametrize(
    ("attributes", "stat"),
    [
        ({"RequestedProcedurePriority": "HIGH"}, True),
        ({"RequestedProcedurePriority": "ROUTINE"}, False),
        ({"RequestedProcedurePriority": "STATION"}, False),
        ({"StudyPriorityID": "HIGH"}, True),
        ({"StudyPriorityID": "MED"}, False),
        ({"RequestAttributesSequence": [{"RequestedProcedurePriority": "STAT"}]}, True),
    ],
)
def test_urgency_is_what_the_order_says(attributes, stat):
    assert examine_bytes(instance(**attributes)).stat is stat


def test_an_object_without_pixels_arrives():
    arrival = examine(Path(str(get_testdata_file("reportsi.dcm"))))
    assert (arrival.modality, arrival.rows, arrival.columns, arrival.frames) == ("SR", 0, 0, 0)


def test_an_enhanced_object_arrives_without_a_position():
    enhanced = instance(
        pixels=np.zeros((5, 8, 8), np.uint16),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        ImagePositionPatient=["0", "0", "3"],
        SharedFunctionalGroupsSequence=[{"PixelMeasuresSequence": [{"SpacingBetweenSlices": "1.25"}]}],
    )
    arrival = examine_bytes(enhanced)
    assert (arrival.frames, arrival.position_mm, arrival.spacing_between_mm) == (5, None, 1.25)


@given(st.binary(max_size=600))
def test_any_bytes_are_told_or_refused_in_silence(noise):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (noise, b"\0" * 128 + b"DICM" + noise, WHOLE[:400] + noise):
            with suppress(Quarantined):
                examine_bytes(data)


@given(st.data())
def test_any_damage_is_told_or_refused_in_silence(data):
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(128, len(WHOLE) - 129))] = data.draw(st.integers(0, 255))
    with suppress(Quarantined):
        arrival = examine_bytes(bytes(damaged))
        assert all(map(is_uid, (arrival.study_uid, arrival.series_uid, arrival.sop_uid, arrival.sop_class)))


def test_pipes_folders_and_missing_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / NAME):
        with pytest.raises(Quarantined) as caught:
            examine(path)
        assert NAME not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_threads_do_not_undo_each_others_silence():
    """Warnings are kept in by filters of the process: afterwards they are as they were."""
    before = (list(warnings.filters), warnings.showwarning)
    odd = instance(PatientBirthDate="notadate", InstanceNumber="1.5.5")
    threads = [threading.Thread(target=lambda: [examine_bytes(odd) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (list(warnings.filters), warnings.showwarning) == before


def test_the_transfer_syntaxes_that_are_agreed_on_are_those_that_are_decoded():
    assert TRANSFER_SYNTAXES[0] == "1.2.840.10008.1.2.1"
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES) == 16
    assert "1.2.840.10008.1.2.4.100" not in TRANSFER_SYNTAXES  # MPEG-2
