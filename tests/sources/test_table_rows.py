"""Rows of numbers as examples: named columns between public bounds, divided by patient, declared public or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.patients import dataset_from_arrays
from fedimg.sources.config import DataConfig
from fedimg.sources.table_rows import load

COLUMNS = {"age": (20.0, 90.0), "chol": (100.0, 400.0)}
HEADER = "patient_id,site,split,age,chol,label,note\n"


def table(tmp_path, lines, header=HEADER):
    file = tmp_path / "t.csv"
    file.write_text(header + "".join(line + "\n" for line in lines))
    return DataConfig(
        name="tabular", path=str(file), columns=COLUMNS, declared_public=True, declared_patients=3
    )


LINES = (
    "p1,north,,55,250,1,secret remark",
    "p1,north,,20,,1,x",
    "p2,south,,120,100,0,x",
    "p3,public,public,90,400,0,x",
)


def test_named_columns_come_between_their_bounds_and_say_where_a_cell_was_empty(tmp_path):
    found = load(table(tmp_path, LINES), 4, 0)
    assert set(found) == {"north", "south", "public"}
    north = found["north"].arrays
    assert north.images.shape == (2, 1, 1, 4)
    assert np.allclose(north.images[:, 0, 0], [[0.5, 0.5, 0, 0], [0, 0.5, 0, 1]])
    assert np.allclose(found["south"].arrays.images[0, 0, 0], [1, 0, 0, 0])  # beyond the bound is the bound
    assert north.labels.tolist() == [1, 1]
    assert len(set(north.patient_keys)) == 1  # two rows of one patient are one unit
    assert "p1" not in "".join(north.patient_keys)
    assert found["north"].unit == "patient"
    assert found["north"].dropped_columns == 1
    assert "secret" not in repr(found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_whatever_the_numbers_features_are_shares(tmp_path_factory, ages):
    folder = tmp_path_factory.mktemp("table")
    lines = [f"p{n},a,,{age!r},200,0,x" for n, age in enumerate(ages)]
    arrays = load(table(folder, lines), 1, 0)["a"].arrays
    assert ((arrays.images >= 0) & (arrays.images <= 1)).all()
    data = dataset_from_arrays(
        arrays.images, arrays.labels, arrays.patient_keys, ImagingConfig(image_size=(1, 4))
    )
    assert data.number_of_patients == len(ages)


def test_a_patient_at_two_sites_is_held_back_from_the_second(tmp_path):
    found = load(table(tmp_path, ["p1,a,,50,200,0,x", "p1,b,,50,200,0,x", "p2,b,,50,200,1,x"]), 2, 0)
    assert len(found["a"].arrays.labels) == 1
    assert found["b"].arrays.labels.tolist() == [1]


def test_without_patient_numbers_each_row_is_a_unit(tmp_path):
    config = table(tmp_path, ["50,200,0", "60,300,1"], "age,chol,label\n")
    found = load(config, 1, 0)["site-1"]
    assert found.unit == "image"
    assert len(set(found.arrays.patient_keys)) == 2


def test_a_number_is_learnt_from_its_own_column(tmp_path):
    config = table(tmp_path, ["50,200,3.5", "60,300,-1"], "age,chol,score\n")
    found = load(DataConfig(**{**vars(config), "value": "score"}), 1, 0)["site-1"]
    assert found.arrays.labels.dtype == np.float32
    assert found.arrays.labels.tolist() == [3.5, -1]


@pytest.mark.parametrize(
    ("line", "words"),
    [("p1,a,,old,200,1,x", "number in each cell"), ("p1,a,,50,200,,x", "label in every row")],
)
def test_a_row_that_cannot_be_used_is_named_by_its_number_alone(tmp_path, line, words):
    with pytest.raises(DataError, match="row 2") as refused:
        load(table(tmp_path, [line]), 1, 0)
    assert words in str(refused.value)
    assert "old" not in str(refused.value).replace("threshold", "")


def test_a_table_that_nobody_declares_public_is_refused(tmp_path):
    config = table(tmp_path, LINES)
    with pytest.raises(ConfigError, match="identity boundary"):
        load(DataConfig(**{**vars(config), "declared_public": False}), 1, 0)
    with pytest.raises(ConfigError, match=r"data\.columns"):
        load(DataConfig(**{**vars(config), "columns": {}}), 1, 0)


@pytest.mark.parametrize("columns", [{"Age": (0.0, 1.0)}, {"age": (1.0, 1.0)}, {"age": (0.0, float("inf"))}])
def test_columns_have_plain_names_and_bounds(columns):
    with pytest.raises(ConfigError, match=r"data\.columns"):
        DataConfig(name="tabular", columns=columns)
