import numpy as np
import pytest

from fedimg.dicom import authoring
from fedimg.errors import DataError
from fedimg.sources import load
from fedimg.values import Quarantine


@pytest.fixture
def hospital(write_dicom):
    """Two patients, three studies, four files, and one that is no DICOM."""
    write_dicom("x/1.dcm", "P1", study=1, instance=1)
    write_dicom("x/2.dcm", "P1", study=1, instance=2)
    write_dicom("y/3.dcm", "P1", study=2, instance=3)
    write_dicom("y/4", "P2", study=3, instance=4)


def labels(manifests):
    return {i.path.name: i.label for m in manifests.values() for i in m.items}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"path": "x/1.dcm", "label": "1"}, {"path": "y/4", "label": "negative"}], [1, None, None, 0]),
        ([{"sop_instance_uid": "1.2.3.1.1.2", "label": "1"}], [None, 1, None, None]),
        ([{"study_instance_uid": "1.2.3.1", "label": "1"}, {"study_instance_uid": "1.2.3.3", "label": "0"}],
         [1, 1, None, 0]),
        ([{"patient_id": "P1", "label": "1"}, {"patient_id": "P2", "label": "0"}], [1, 1, 1, 0]),
        # The most specific column is what a row is about.
        ([{"patient_id": "P1", "study_instance_uid": "1.2.3.2", "label": "1"}], [None, None, 1, None]),
    ],
)  # fmt: skip
def test_rows_may_name_files_instances_studies_or_patients(
    hospital, write_table, config, tmp_path, rows, expected
):
    write_table(rows)
    found = labels(load(config("dicom"), tmp_path, 2, 0))
    assert [found[name] for name in ("1.dcm", "2.dcm", "3.dcm", "4")] == expected


def test_division_is_by_the_patient_of_the_header_and_the_intake_asks_it_again(
    hospital, write_table, config, tmp_path
):
    write_table([{"patient_id": "P1", "label": "1"}, {"patient_id": "P2", "label": "0"}])
    manifests = load(config("dicom"), tmp_path, 2, 0)
    shares = sorted(sorted(i.path.name for i in m.items) for s, m in manifests.items() if s != "public")
    assert shares == [["1.dcm", "2.dcm", "3.dcm"], ["4"]]
    assert all(i.patient_id is None for m in manifests.values() for i in m.items)
    assert "with labels from a table" in manifests["site-1"].card


def test_the_same_number_from_two_issuers_is_two_patients(write_dicom, write_table, config, tmp_path):
    for k in range(8):
        write_dicom(f"{k}.dcm", "1", study=k, instance=k, IssuerOfPatientID=f"H{k}")
    write_table([{"patient_id": "1", "label": "1"}])
    manifests = load(config("dicom"), tmp_path, 8, 0)
    assert [len(m.items) for s, m in manifests.items() if s != "public"] == [1] * 8


def test_one_hospital_needs_no_site_column_and_unreadable_files_come_along(
    hospital, folder, write_table, config, tmp_path
):
    (folder / "README").write_text("no DICOM")
    write_table([{"patient_id": "P1", "label": "1"}, {"patient_id": "P2", "label": "0"}])
    manifests = load(config("dicom", partition="manifest"), tmp_path, 4, 0)
    assert set(manifests) == {"site-1"}
    assert labels(manifests)["README"] is None
    assert len(manifests["site-1"].items) == 5


def test_unlabelled_files_go_where_their_patient_is(hospital, write_table, config, tmp_path):
    write_table(
        [{"path": "x/1.dcm", "label": "1", "site": "south"}, {"path": "y/4", "label": "0", "site": "north"}]
    )
    manifests = load(config("dicom", partition="manifest"), tmp_path, 4, 0)
    assert sorted(i.path.name for i in manifests["south"].items) == ["1.dcm", "2.dcm", "3.dcm"]
    assert [i.path.name for i in manifests["north"].items] == ["4"]


def test_a_patient_at_two_sites_is_seen_through_the_headers(hospital, write_table, config, tmp_path):
    write_table(
        [
            {"study_instance_uid": f"1.2.3.{k}", "label": "1", "site": s}
            for k, s in ((1, "n"), (2, "s"), (3, "s"))
        ]
    )
    manifests = load(config("dicom", partition="manifest"), tmp_path, 4, 0)
    held = manifests["s"].held_back[Quarantine.PATIENT_AT_TWO_SITES]
    assert [i.path.name for i in held] == ["3.dcm"]


def test_a_number_missing_in_the_header_may_stand_in_the_table(write_dicom, write_table, config, tmp_path):
    write_dicom("1.dcm", "", study=1)
    write_dicom("2.dcm", "P2", study=2)
    write_table([{"path": f"{k}.dcm", "label": "1", "patient_id": f"P{k}"} for k in (1, 2)])
    items = load(config("dicom"), tmp_path, 1, 0)["site-1"].items
    assert {i.path.name: i.patient_id for i in items} == {"1.dcm": "P1", "2.dcm": None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "x/1.dcm", "label": "1", "patient_id": "Doe"}], "agrees with the files on who the patient is"),
        ([{"path": "x/9.dcm", "label": "1"}], "a file for every row; found 1 rows whose file is absent"),
        ([{"path": "../1.dcm", "label": "1"}], "without `..` or links; found another one in row 2"),
        ([{"study_instance_uid": "", "label": "1"}], "study_instance_uid in every row; found none in row 2"),
        ([{"site": "n", "label": "1"}], "one of the columns path, sop_instance_uid, study_instance_uid, patient_id"),
        ([{"path": "x/1.dcm", "klass": "1"}], "found no column label"),
        ([{"patient_id": "P1", "label": "1"}, {"patient_id": "P1", "label": "0"}], "row 3, which contradicts"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_naming_rows_only(hospital, write_table, config, tmp_path, rows, message):
    write_table(rows)
    with pytest.raises(DataError, match=message) as refusal:
        load(config("dicom"), tmp_path, 1, 0)
    for secret in ("Doe", "P1", "9.dcm", "klass", str(tmp_path)):
        assert secret not in str(refusal.value)


def test_an_empty_folder_is_refused(config, tmp_path, write_table):
    write_table([{"patient_id": "P1", "label": "1"}])
    with pytest.raises(DataError, match="at least one input; found none"):
        load(config("dicom"), tmp_path, 1, 0)


def test_masks_label_the_images_they_refer_to(folder, write_dicom, config, tmp_path):
    shape = {"modality": "CT", "PixelSpacing": [1, 1], "SliceThickness": 1, "FrameOfReferenceUID": "1.2.9",
             "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}  # fmt: skip
    slices = [
        write_dicom(f"s{k}.dcm", instance=k, ImagePositionPatient=[0, 0, k], InstanceNumber=k, **shape)
        for k in (1, 2, 3)
    ]
    write_dicom("apart.dcm", "P2", study=2, instance=9, ImagePositionPatient=[0, 0, 9], **shape)
    mask = np.zeros((3, 8, 8), bool)
    mask[1, 2:5, 2:5] = True
    authoring.write_segmentation(folder / "seg.dcm", slices, mask)
    found = labels(load(config("dicom", label_from="seg"), tmp_path, 1, 0))
    assert found == {"s1.dcm": 0, "s2.dcm": 1, "s3.dcm": 0, "apart.dcm": None}


def test_real_masks_label_the_real_slices(folder, config, tmp_path):
    import shutil
    from pathlib import Path

    source = Path(__file__).parents[3] / "shared/data/dicom/dicom_seg_dcmqi/data/segmentations"
    if not source.is_dir():
        pytest.skip("../shared/data/dicom/dicom_seg_dcmqi is absent")
    for path in [source / "liver.dcm", *(source / "ct-3slice").iterdir()]:
        shutil.copy(path, folder)
    manifests = load(config("dicom", label_from="seg"), tmp_path, 1, 0)
    # dcmqi's liver segmentation covers all three slices.
    assert labels(manifests) == {"01.dcm": 1, "02.dcm": 1, "03.dcm": 1}
    assert "DICOM SEG masks" in manifests["site-1"].card


def test_a_generated_hospital_is_taken_as_it_was_written(hospital, write_table, config, tmp_path):
    """Its manifest.csv serves where no labels.csv is, and names `public` as the site of public rows."""
    rows = [
        {"path": "x/1.dcm", "label": "1", "site": "hospital-1", "split": "train"},
        {"path": "y/4", "label": "0", "site": "public", "split": "public"},
    ]
    write_table(rows, name="manifest.csv")
    manifests = load(config("dicom", partition="manifest"), tmp_path, 2, 0)
    assert set(manifests) == {"hospital-1", "public"}
    assert [item.path.name for item in manifests["public"].items] == ["4"]
    write_table([{"path": "x/1.dcm", "label": "0"}])
    assert (
        labels(load(config("dicom", partition="manifest"), tmp_path, 2, 0))["1.dcm"] == 0
    )  # labels.csv goes first


def test_without_a_table_the_error_says_what_to_write(hospital, config, tmp_path):
    with pytest.raises(DataError, match=r"by default labels\.csv in data\.path"):
        load(config("dicom"), tmp_path, 2, 0)
