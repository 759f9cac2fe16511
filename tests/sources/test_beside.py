"""Numbers and modalities that a table has beside its images: whatever stands in a cell, no site fails of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.sources import DataConfig, load
from fedimg.sources.said import features_of

BOUNDS = {"age": (0.0, 100.0), "marker": (0.0, 5.0)}


def row(path, patient="P1", label="0", **more):
    return {"path": path, "patient_id": patient, "label": label} | more


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_a_cell_is_a_plain_number_within_the_bounds_or_missing(text, number):
    found = dict(features_of({"age": text, "marker": repr(number)}, BOUNDS))
    assert found["marker"] == min(max(number, 0.0), 5.0)
    assert 0 <= found.get("age", 0) <= 100


@pytest.mark.parametrize(
    "cell",
    ["", "NaN", "nan", "inf", "-inf", "1e999", "1_000", "3,5", "0x10", "١٢", "55 years", "Doe, Jane", "1e5000",
     "--3", ".", "9" * 5000, "1\x00"],
)  # fmt: skip
def test_a_bad_cell_is_a_missing_one(cell):
    found = dict(features_of({"age": cell, "marker": "1.5"}, BOUNDS))
    assert found == {"marker": 1.5}


@pytest.mark.parametrize(("cell", "value"), [("63", 63), ("-4", 0), ("1e3", 100), ("+.5", 0.5), ("7.", 7)])
def test_numbers_are_clipped_to_the_public_bounds(cell, value):
    assert dict(features_of({"age": cell}, BOUNDS)) == {"age": value}


def test_the_table_of_a_folder_says_features_and_modality(config, write_files, write_table, tmp_path):
    write_files("a.nii.gz", "b.nii.gz", "c.nii.gz")
    write_table(
        [
            row("a.nii.gz", age="50", marker="x", sequence="flair", name="Doe"),
            row("b.nii.gz", age="", marker="9", sequence="T1"),
            row("c.nii.gz", age="3", marker="1", sequence="see letter of 3 May"),
        ]
    )
    asked = config("nifti", features=BOUNDS, modality="sequence")
    found = {i.path.name[0]: i for i in load(asked, tmp_path, 1, 0)["site-1"].items}
    assert found["a"].features == (("age", 50.0),) and found["a"].modality == "FLAIR"
    assert found["b"].features == (("marker", 5.0),) and found["b"].modality == "T1"
    assert found["c"].modality == ""
    plain = load(config("nifti"), tmp_path, 1, 0)["site-1"]
    assert plain.dropped_columns == 4  # age, marker, sequence and the name: what was not asked for stays out
    assert all(i.features == () and i.modality == "" for i in plain.items)


@pytest.mark.parametrize("key", ["patient_id", "study_instance_uid", "sop_instance_uid"])
def test_a_dicom_table_has_features_by_whatever_its_rows_are_about(
    config, write_dicom, write_table, tmp_path, key
):
    for number in (1, 2):
        write_dicom(f"{number}.dcm", f"P{number}", number, number)
    names = {
        "patient_id": ["P1", "P2"],
        "study_instance_uid": ["1.2.3.1", "1.2.3.2"],
        "sop_instance_uid": ["1.2.3.1.1.1", "1.2.3.2.1.2"],
    }[key]
    write_table([{key: names[0], "label": "0", "age": "40"}, {key: names[1], "label": "1", "age": "?"}])
    items = load(config("dicom", features={"age": (0.0, 100.0)}), tmp_path, 1, 0)["site-1"].items
    assert sorted(i.features for i in items) == [(), (("age", 40.0),)]


def test_a_column_that_is_not_there_is_told_before_anything_is_taken_in(
    config, write_files, write_table, tmp_path
):
    write_files("a.png")
    write_table([row("a.png")])
    with pytest.raises(DataError, match="no column age"):
        load(config(features={"age": (0.0, 100.0)}), tmp_path, 1, 0)
    with pytest.raises(DataError, match="no column sequence"):
        load(config(modality="sequence"), tmp_path, 1, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "images", "features": {"site": (0.0, 1.0)}}, "columns that nothing else is read from"),
        ({"name": "images", "features": {"age": (0.0, 1.0)}, "modality": "label"}, "nothing else"),
        ({"name": "images", "features": {"age": (1.0, 0.0)}}, r"data\.features"),
        ({"name": "images", "features": {"age": (0.0, math.inf)}}, r"data\.features"),
        ({"name": "images", "modality": "Sequence Name"}, r"data\.modality"),
        ({"name": "medmnist", "features": {"age": (0.0, 1.0)}}, "data=medmnist, which does not read it"),
        ({"name": "dicom", "label_from": "seg", "features": {"age": (0.0, 1.0)}}, r"data\.labels"),
        ({"name": "cohort", "modality": "kind"}, "data=cohort, which does not read it"),
    ],
)
def test_what_cannot_be_read_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)


def test_the_cohort_has_two_features_and_no_others(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.features out of age, marker"):
        load(DataConfig(features={"weight": (0.0, 200.0)}), tmp_path, 1, 0)
