"""A bad file gets a reason: never a crash, never another exception, never a word of its content."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from fedimg.dicom import authoring
from fedimg.dicom.reader import ReadLimits, parse, pixel_shape, read_dataset, whole_number
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom"
PIXELS = np.arange(48, dtype=np.uint16).reshape(6, 8)
NAME = "Featherstonehaugh"


def image(**attributes) -> bytes:
    syntax = attributes.pop("syntax", "explicit_le")
    return authoring.encode_image(
        modality="CT",
        pixels=PIXELS,
        attributes={
            "PatientName": NAME,
            "RequestAttributesSequence": [{"RequestedProcedureID": "7", "ScheduledProcedureStepID": "8"}],
            **attributes,
        },
        transfer_syntax=syntax,
    )


WHOLE = image()


def reason_of(data: bytes, **limits) -> Quarantine:
    with pytest.raises(Quarantined) as caught:
        parse(data, ReadLimits(**limits))
    assert NAME not in str(caught.value)
    return caught.value.reason


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def test_a_good_file_is_read_with_its_elements_still_raw():
    dataset = parse(WHOLE)
    assert dataset.is_original_encoding
    assert isinstance(dataset.get_item(0x00280010), pydicom.dataelem.RawDataElement)
    assert pixel_shape(dataset).values == PIXELS.size
    assert (dataset.pixel_array == PIXELS).all()


def test_a_file_cut_anywhere_is_refused():
    reasons = {reason_of(WHOLE[:end]) for end in range(len(WHOLE))}
    assert reasons == {Quarantine.UNREADABLE, Quarantine.NOT_AN_IMAGE}


@pytest.mark.parametrize("syntax", ["implicit_le", "explicit_be", "deflated_le", "rle", "jpeg_ls"])
def test_a_file_of_any_syntax_cut_in_its_pixels_is_refused(syntax):
    data = image(syntax=syntax)
    assert reason_of(data[: len(data) - 20]) is Quarantine.UNREADABLE


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused_in_silence(noise):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (noise, b"\0" * 128 + b"DICM" + noise, WHOLE[:400] + noise):
            with suppress(Quarantined):
                parse(data)


@given(st.data())
def test_any_damage_within_is_read_or_refused_in_silence(data):
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(128, len(WHOLE) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Quarantined):
        parse(bytes(damaged))


def test_what_is_no_dicom_is_called_so(tmp_path):
    letter = tmp_path / f"{NAME}.dcm"
    letter.write_text(f"Dear colleague, thank you for sending {NAME}.\n" * 30)
    with pytest.raises(Quarantined) as caught:
        read_dataset(letter)
    assert str(caught.value) == (
        "expected an image; found bytes that are not DICOM (not_an_image); "
        "leave this file out of the input folder"
    )
    assert reason_of(b"") is Quarantine.NOT_AN_IMAGE


def test_folders_pipes_and_missing_files_do_not_hang_the_intake(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / NAME):
        with pytest.raises(Quarantined) as caught:
            read_dataset(path)
        assert str(path) not in str(caught.value) and NAME not in str(caught.value)


def test_sizes_are_capped_before_memory_is_spent(tmp_path):
    path = tmp_path / "large.dcm"
    path.write_bytes(WHOLE)
    with pytest.raises(Quarantined, match="limit 100 "):
        read_dataset(path, ReadLimits(file_bytes=100))
    assert reason_of(WHOLE, pixel_samples=47) is Quarantine.UNSAFE_STRUCTURE
    assert parse(WHOLE, ReadLimits(pixel_samples=48))
    bomb = image(syntax="rle", Rows=65535, Columns=65535)  # 4.3 giga pixels in a kilobyte
    assert reason_of(bomb) is Quarantine.UNSAFE_STRUCTURE


def test_a_deflated_bomb_is_stopped_while_it_inflates():
    head = WHOLE[: WHOLE.index(struct.pack("<HH", 8, 8))].replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1
    )
    at = head.index(b"1.2.840.10008.1.2.1.99")
    head = head[: at - 2] + struct.pack("<H", 22) + head[at:]
    body = element(0x00080016, b"UI", b"1.2\0") + b"\x10\x00\x10\x00UN\0\0" + struct.pack("<I", 1 << 24)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = head + deflater.compress(body + b"\0" * (1 << 24)) + deflater.flush()
    assert len(bomb) < 1 << 16
    assert reason_of(bomb, file_bytes=1 << 20) is Quarantine.UNSAFE_STRUCTURE
    with pytest.raises(Quarantined, match="an image without pixel data"):  # inflated, and read
        parse(bomb, ReadLimits(file_bytes=1 << 25))


def test_sequences_nested_without_end_are_refused():
    level = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    start = WHOLE[: WHOLE.index(struct.pack("<HH", 0x28, 2))]
    assert reason_of(start + level * 20_000) is Quarantine.UNREADABLE


def test_a_dicomdir_never_passes():
    path = Path(str(get_testdata_file("DICOMDIR")))
    assert reason_of(path.read_bytes()) is Quarantine.OBJECT_TYPE


def test_wrong_group_lengths_do_not_matter():
    at = WHOLE.index(struct.pack("<HH2sH", 2, 0, b"UL", 4)) + 8
    wrong = WHOLE[:at] + struct.pack("<I", 9999) + WHOLE[at + 4 :]
    group = element(0x00280000, b"UL", struct.pack("<I", 3))
    at = wrong.index(struct.pack("<HH", 0x28, 2))
    assert (parse(wrong[:at] + group + wrong[at:]).pixel_array == PIXELS).all()


@pytest.mark.parametrize("syntax", ["explicit_le", "implicit_le", "explicit_be"])
def test_a_bare_data_set_without_meta_is_read(syntax):
    data = image(syntax=syntax)
    length = struct.unpack_from("<I", data, 140)[0]
    bare = parse(data[144 + length :])
    assert (bare.Rows, bare.Columns, str(bare.PatientName)) == (6, 8, NAME)
    assert not bare.file_meta


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 0}, Quarantine.UNSAFE_STRUCTURE),
        ({"Rows": 7}, Quarantine.UNREADABLE),
        ({"NumberOfFrames": "one"}, Quarantine.UNSAFE_STRUCTURE),
        ({"NumberOfFrames": "-1"}, Quarantine.UNSAFE_STRUCTURE),
        ({"NumberOfFrames": "99999999999"}, Quarantine.UNSAFE_STRUCTURE),
        ({"Columns": [8, 8]}, Quarantine.UNSAFE_STRUCTURE),
        ({"BitsAllocated": 64}, Quarantine.UNREADABLE),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, reason):
    assert reason_of(image(**changes)) is reason


def test_rows_without_pixels_are_a_broken_file_but_a_report_is_not():
    dataset = parse(WHOLE)
    del dataset.PixelData
    assert reason_of(authoring.encoded(dataset)) is Quarantine.UNREADABLE
    report = Path(str(get_testdata_file("reportsi.dcm")))
    assert read_dataset(report).Modality == "SR"


def test_a_number_is_read_without_touching_the_raw_element():
    dataset = parse(image(NumberOfFrames="1"))
    assert whole_number(dataset, "NumberOfFrames") == 1
    assert dataset.get_item(0x00280008).is_raw
    with pytest.raises(Quarantined, match="pixel data without NumberOfTimeSlices"):
        whole_number(dataset, "NumberOfTimeSlices")


def test_a_refusal_crosses_process_pools():
    refusal = Quarantined(Quarantine.DUPLICATE, "the same image twice")
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.reason, again.detail, str(again)) == (refusal.reason, refusal.detail, str(refusal))


def test_every_file_of_pydicoms_collection_is_read_or_refused():
    folder = Path(str(get_testdata_file("CT_small.dcm"))).parent
    read = refused = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            dataset = read_dataset(path)
        except Quarantined:
            refused += 1
        else:
            read += 1
            assert "PixelData" not in dataset or pixel_shape(dataset).values
    assert read >= 100 and refused >= 5


def test_every_real_file_is_read_or_refused():
    if not DATA.is_dir():
        pytest.skip("../shared/data/dicom is not here")
    outcomes = {True: 0, False: 0}
    for path in sorted(p for p in DATA.rglob("*") if p.is_file() and p.suffix not in (".json", ".zip")):
        try:
            read_dataset(path)
        except Quarantined:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
    assert outcomes[True] > outcomes[False] > 0


def test_pydicom_says_nothing_into_the_applications_log(caplog):
    with caplog.at_level("DEBUG"):
        broken = BytesIO(WHOLE[:-40] + b"\xfe\xff\x00\xe0").getvalue()
        assert reason_of(broken) is Quarantine.UNREADABLE
    assert NAME not in caplog.text and not caplog.records
