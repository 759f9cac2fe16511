"""Ready findings as files: manifest, outlines and headers agree, and an intake takes all of them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import warnings
from collections import defaultdict

import numpy as np
import pydicom
import pytest

from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.cohort.exams import BY_FINDING
from fedimg.cohort.hospital import COLUMNS
from fedimg.dicom.authoring import segmentation_masks
from fedimg.errors import ConfigError

FINDINGS = sorted(BY_FINDING)
OF = {
    finding: CohortConfig(
        hospitals=4,
        patients_per_hospital=6,
        finding=finding,
        modalities=(exam.modality,),
        image_size=96,
        slices=16,
        max_studies=1,
        broken_files=0,
    )
    for finding, exam in BY_FINDING.items()
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Finding → its second hospital, whose CT is signed and whose CR is inverted, and its rows."""
    found = {}
    for finding, config in OF.items():
        root = tmp_path_factory.mktemp(finding)
        generate_hospital(root, config, 1, 3)
        with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            found[finding] = root, list(csv.DictReader(file))
    return found


def dataset(root, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(root / path)


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_study_s_number_stands_in_a_column_of_its_own(folders, finding):
    _, rows = folders[finding]
    exam = BY_FINDING[finding]
    assert tuple(rows[0]) == (*COLUMNS, exam.measure)
    by_patient = defaultdict(list)
    for row in rows:
        by_patient[row["patient_id"]].append(row)
    assert len(by_patient) == 6
    for own in by_patient.values():
        assert len(own) == (16 if exam.modality == "CT" else 1)
        assert len({row[exam.measure] for row in own}) == 1
        sick, number = any(row["label"] == "1" for row in own), float(own[0][exam.measure])
        assert sick == (number > (0.5 if exam.outlined else 0))
        assert bool(own[0]["mask"]) == (sick or exam.outlined)
    assert {row["label"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("finding", FINDINGS)
def test_outlines_and_boxes_are_of_their_images(folders, finding):
    root, rows = folders[finding]
    for row in rows:
        if not row["mask"]:
            continue
        image = dataset(root, row["path"])
        mask = segmentation_masks(root / row["mask"])[image.SOPInstanceUID]
        assert mask.any() == bool(row["box_x0"])
        if not mask.any():
            assert row["label"] == "0"
            continue
        rows_of, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(row[f"box_{name}"]) for name in ("x0", "y0", "x1", "y1")]
        assert box == [columns[0], rows_of[0], columns[-1] + 1, rows_of[-1] + 1]
        spacing = float(image.get("PixelSpacing", image.get("ImagerPixelSpacing"))[0])
        assert 2 * np.sqrt(mask.sum() / np.pi) * spacing == pytest.approx(
            float(row["lesion_diameter_mm"]), rel=0.01, abs=0.01
        )


@pytest.mark.parametrize("finding", FINDINGS)
def test_headers_say_the_exam_and_lie_in_order(folders, finding):
    root, rows = folders[finding]
    exam = BY_FINDING[finding]
    first = rows[0]["patient_id"]
    images = [dataset(root, row["path"]) for row in rows if row["patient_id"] == first]
    for image in images:
        assert (image.Modality, image.BodyPartExamined) == (exam.modality, exam.body_part)
        assert (image.Rows, image.Columns) == (96, 96)
        centre = 4095 - exam.window[0] if image.PhotometricInterpretation == "MONOCHROME1" else exam.window[0]
        assert float(image.WindowCenter) == centre
    if exam.depth_mm is not None:
        heights = [float(image.ImagePositionPatient[2]) for image in images]
        assert heights == sorted(heights)
        assert np.ptp(heights) == pytest.approx(exam.depth_mm, abs=0.01)
        # the second machine's field is 380 mm
        assert float(images[0].PixelSpacing[0]) == pytest.approx(380 * exam.field / 96, rel=1e-4)


@pytest.mark.parametrize("finding", ["haemorrhage", "infarct", "calcium"])
def test_density_is_there_after_the_scanner_too(folders, finding):
    root, rows = folders[finding]
    inside = []
    for row in rows:
        if row["label"] == "1":
            image = dataset(root, row["path"])
            values = image.pixel_array * float(image.get("RescaleSlope", 1)) + float(image.RescaleIntercept)
            mask = segmentation_masks(root / row["mask"])[image.SOPInstanceUID]
            inside += list(values[mask])
    # the middle of what was drawn, blurred into what lies beside it; single pixels have noise
    low, high = {"haemorrhage": (48, 85), "infarct": (14, 27), "calcium": (110, 900)}[finding]
    assert low < np.median(inside) < high


def test_dciodvfy_finds_no_error(folders):
    verifier = shutil.which("dciodvfy")
    if verifier is None:
        pytest.skip("needs dciodvfy (Debian's dicom3tools), which is not here")
    for root, rows in folders.values():
        row = next(row for row in rows if row["mask"])
        for path in (row["path"], row["mask"]):
            found = subprocess.run([verifier, str(root / path)], capture_output=True, text=True, check=False)
            assert not [line for line in found.stderr.splitlines() if line.startswith("Error")]


def test_an_outline_of_a_projection_says_whose_and_claims_no_place(folders):
    root, rows = folders["cardiomegaly"]
    outline = dataset(root, rows[0]["mask"])
    (segment,) = outline.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "80891009"
    assert "FrameOfReferenceUID" not in outline
    assert "PixelMeasuresSequence" not in outline.SharedFunctionalGroupsSequence[0]
    assert outline.PatientOrientation == ["L", "F"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"finding": "fracture"}, "finding out of lesion, nodule"),
        ({"finding": "nodule"}, "its exam's modality alone"),
        ({"finding": "cardiomegaly", "modalities": ("CT",)}, "its exam's modality alone"),
        ({"finding": "nodule", "modalities": ("CT",), "signs": ("CT", "table")}, "neither signs nor paired"),
    ],
)
def test_a_finding_without_its_exam_is_refused(changes, rule):
    with pytest.raises(ConfigError, match=rule):
        CohortConfig(**changes)
