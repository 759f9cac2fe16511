"""`dciodvfy` (Debian's dicom3tools) finds nothing in a release that the input did not have.

A finding is an error or a warning of the program, without the values it quotes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hospital import take
from images import J2K, JPEG_LS, RLE, SHARED, SHIPPED, cr, ct, in_syntax, mr, us
from rawdicom import EXPLICIT, IMPLICIT

from tests.system import program


def findings(path: Path) -> set[str]:
    """Errors and warnings, quoted values and counts taken out."""
    ran = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, check=False, timeout=60)
    found = set()
    for line in (ran.stderr + ran.stdout).decode("latin-1").splitlines():
        if line.startswith(("Error", "Warning")):
            found.add(re.sub(r"<[^>]*>|\d+ (?:bytes|dec)|= 0x\w+|\d+", "…", line))
    return found


def new(folder: Path, data: bytes, profile: str) -> Iterator[str]:
    given = folder / "given.dcm"
    folder.mkdir(exist_ok=True)
    given.write_bytes(data)
    taken = take(folder, data, profile=profile)
    for number, released in enumerate(taken.released):
        path = folder / f"released-{number}.dcm"
        path.write_bytes(released)
        yield from sorted(findings(path) - findings(given))


MADE = {"CT": ct, "MR": mr, "CR": cr, "US": us}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG_LS, J2K, RLE])
@pytest.mark.parametrize("modality", MADE)
def test_a_plain_file(tmp_path, profile, modality, syntax):
    file = in_syntax(MADE[modality](), syntax)
    assert list(new(tmp_path, file.to_bytes(), profile)) == []
    assert take(tmp_path / "again", file, profile=profile).only


REAL = [
    SHIPPED / "CT_small.dcm",
    SHIPPED / "MR_small.dcm",
    SHIPPED / "MR_small_jpeg_ls_lossless.dcm",
    SHIPPED / "693_J2KI.dcm",
    SHIPPED / "examples_ybr_color.dcm",
    SHIPPED / "examples_palette.dcm",
    SHIPPED / "examples_rgb_color.dcm",
    SHARED / "dicom_rtstruct/tests/mock_data/ct_1.dcm",
    SHARED / "dicom_seg_dcmqi/data/segmentations/ct-3slice/01.dcm",
    SHARED / "dicom_highdicom/data/test_files/ct_image.dcm",
    SHARED / "dicom_highdicom/data/test_files/dx_image.dcm",
    SHARED / "dicom_mr_2vendor/In/20180918Si/mr_0003/epi_pe_ap-00001.dcm",
    SHARED / "dicom_mr_2vendor/In/20180918GE/mr_0004/axial_epi_fmri_interleaved_i_to_s-00001.dcm",
    SHARED / "dcm4che/CT-JPEGLosslessSV1.dcm",
    SHARED / "dcm4che/MR-JPEGLosslessSV1.dcm",
    SHARED / "dcm4che/YBR_FULL-RLE.dcm",
    SHARED / "dcm4che/jpeg-ls-Palette.dcm",
    SHARED / "deid-data/GREYSCALE_IMAGE.dcm",
    SHARED / "deid-data/RGB_IMAGE.dcm",
    SHARED / "presidio/0_ORIGINAL_compressed.dcm",
    SHARED / "presidio/2_ORIGINAL.dcm",
    SHARED / "pydicom-data/RG1_J2KI.dcm",
    SHARED / "pydicom-data/RG3_J2KI.dcm",
    SHARED / "pydicom-data/US1_UNCR.dcm",
    SHARED / "pydicom-data/US1_J2KR.dcm",
    SHARED / "pydicom-data/color-pl.dcm",
    SHARED / "pydicom-data/eCT_Supplemental.dcm",
    SHARED / "pydicom-data/emri_small.dcm",
    SHARED / "pydicom-data/MR-SIEMENS-DICOM-WithOverlays.dcm",
]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_real_file(tmp_path, profile, path):
    if not path.exists():
        pytest.skip(f"needs {path.name} of ../shared/data/dicom, which is not here")
    assert list(new(tmp_path, path.read_bytes(), profile)) == []


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US"])
def test_a_file_of_the_generated_cohort(tmp_path, profile, modality):
    from images import ct_pixels, octets

    from fedimg.dicom.authoring import encode_image

    pixels = octets(96) if modality == "US" else ct_pixels(96)
    attributes = {"PatientID": "P-1", "PatientName": "A^B", "BodyPartExamined": "CHEST"}
    data = encode_image(modality=modality, pixels=pixels, attributes=attributes)
    assert list(new(tmp_path, data, profile)) == []
