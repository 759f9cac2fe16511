"""Pictures and NIfTI through the same intake: no text of theirs comes along."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, admitted, run_intake
from fedimg.values import Quarantine, SourceItem

NAME, NUMBER = "QUIRRELL^ANNABETH", "MRN5550123"


def pixels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(32), np.arange(32)) / 5)
    return (wave + rng.normal(0, 5, wave.shape)).astype(np.uint16)


@pytest.fixture
def home(tmp_path) -> SiteHome:
    return SiteHome.create(tmp_path / "home", simulated=True)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def tree(home: SiteHome) -> dict[str, bytes]:
    files = (path for path in home.released.rglob("*") if path.is_file())
    return {path.relative_to(home.released).as_posix(): path.read_bytes() for path in files}


def assert_nothing_of_the_patient(home: SiteHome) -> None:
    """Every file of the home and every name in it, in any case; the numbers and dates too."""
    for path in home.root.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for word in ("quirrell", "annabeth", "mrn5550123", "5550123", "20120309", "19500607"):
            assert word.encode() not in content.lower(), path.name
            assert word not in str(path.relative_to(home.root)).lower()


def test_pictures_become_captures_without_their_text_chunks(home, source):
    path = source / "Quirrell 5550123.png"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Description", NAME)
    values = (pixels(3) // 8).astype(np.uint8)
    Image.fromarray(values).save(path, pnginfo=chunks)
    item = SourceItem(path, "image", patient_id=NUMBER, label=1)
    result = run_intake([item, SourceItem(path, "image", label=1)], home)
    assert dict(result.quarantined) == {Quarantine.NO_PATIENT_ID: 1}
    read = pydicom.dcmread(home.released / result.records[0].path)
    assert read.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert np.array_equal(read.pixel_array, values)
    assert_nothing_of_the_patient(home)


def test_a_site_may_refuse_pictures(home, source):
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(source / "a.png")
    item = SourceItem(source / "a.png", "image", patient_id="7", label=0)
    result = run_intake([item], home, IntakeConfig(allow_secondary_capture=False))
    assert dict(result.quarantined) == {Quarantine.OBJECT_TYPE: 1}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_geometry_and_loses_its_text(home, source, suffix):
    volume = np.random.default_rng(0).integers(0, 900, (12, 10, 8)).astype(np.int16)
    image = nibabel.Nifti1Image(volume, np.diag([1.5, 1.5, 3.0, 1.0]))
    image.header["descrip"] = b"QUIRRELL ANNABETH 5550123"
    image.header["db_name"] = b"QUIRRELL"
    path = source / f"quirrell_annabeth{suffix}"
    nibabel.save(image, path)
    result = run_intake([SourceItem(path, "nifti", patient_id=NUMBER, label=1)], home)
    (record,) = result.records
    assert record.kind == "nifti"
    read = nibabel.load(home.released / record.path)
    assert np.array_equal(np.asarray(read.dataobj), volume)
    assert np.allclose(read.affine, image.affine)
    assert_nothing_of_the_patient(home)
    assert admitted(home) == (record,)


def test_a_patients_number_in_the_voxels_is_held_back(home, source):
    raw = np.frombuffer(b" " + NUMBER.encode() + b" " * 5, np.uint8)
    voxels = np.resize(raw, 64).reshape((4, 4, 4), order="F")  # as they lie in the file
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), source / "a.nii.gz")
    result = run_intake([SourceItem(source / "a.nii.gz", "nifti", patient_id=NUMBER, label=0)], home)
    assert dict(result.quarantined) == {Quarantine.RESIDUAL_IDENTIFIER: 1}
    assert tree(home) == {}
