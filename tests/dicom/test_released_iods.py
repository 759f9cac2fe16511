"""Released headers still are objects of their class: dciodvfy finds no error that the input did not have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import marks
from fedimg.dicom.encoder import PIXEL_DATA, Element, encode_file
from fedimg.dicom.profile import PROFILES, load_profile
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.reader import pixel_shape, read_dataset
from fedimg.dicom.refusal import contained
from fedimg.dicom.walk import Walk
from tests.system import program

PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")
SUBJECT = PSEUDONYMS.subject("", "4711")
DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom"
SHARED = [
    "deid-data/ctbrain1.dcm",  # CT
    "dicom_seg_dcmqi/data/segmentations/24x38x3/image/IMG0001.dcm",  # CT
    "dcm4che/MR-JPEGLosslessSV1.dcm",  # MR
    "pydicom-data/MR-SIEMENS-DICOM-WithOverlays.dcm",  # MR
    "pydicom-data/emri_small.dcm",  # Enhanced MR
    "pydicom-data/eCT_Supplemental.dcm",  # Enhanced CT
    "presidio/2_ORIGINAL.dcm",  # CR
    "pydicom-data/RG1_J2KI.dcm",  # CR
    "pydicom-data/US1_UNCR.dcm",  # US
    "deid-data/RGB_IMAGE.dcm",  # US
    "pydicom-data/gdcm-US-ALOKA-16.dcm",  # US
]
SHIPPED = ["CT_small.dcm", "MR_small.dcm", "color-pl.dcm"]


def real_files() -> list[Path]:
    shipped = [Path(get_testdata_file(name, download=False)) for name in SHIPPED if _shipped(name)]
    return shipped + [DATA / name for name in SHARED if (DATA / name).exists()]


def _shipped(name: str) -> bool:
    return (Path(pydicom.__file__).parent / "data" / "test_files" / name).exists()


def errors(verifier: str, path: Path) -> set[str]:
    done = subprocess.run(
        [verifier, "-new", path], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    return {line.strip() for line in lines if line.startswith("Error")}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.name)
def test_dciodvfy_finds_no_error_that_the_input_did_not_have(path, name, tmp_path):
    verifier = program("dciodvfy")
    profile = load_profile(name)
    with contained():
        dataset = read_dataset(path)
        shape = pixel_shape(dataset)
        kept = {element.tag: element for element in Walk(profile, PSEUDONYMS).run(dataset, SUBJECT)}
        marks.add_constants(dataset, kept, profile, SUBJECT, clean_pixels=True)
    size = shape.values * shape.bits_allocated // 8
    kept[PIXEL_DATA] = Element(PIXEL_DATA, "OW", bytes(size + size % 2))
    # What the pixel layers write anew with the pixels, here zeros of the same size.
    colour = b"RGB " if shape.samples == 3 else kept[0x00280004].value
    kept[0x00280004] = Element(0x00280004, "CS", colour)
    sop_class, instance = (kept[tag].value.decode().strip("\0") for tag in (0x00080016, 0x00080018))
    elements = sorted(kept.values(), key=lambda element: element.tag)
    written = encode_file(elements, "1.2.840.10008.1.2.1", sop_class, instance)
    marks.seal(written, PSEUDONYMS)
    released = tmp_path / "released.dcm"
    released.write_bytes(written.data)
    assert errors(verifier, released) - errors(verifier, path) == set()
