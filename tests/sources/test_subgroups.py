"""Columns of a table that say a patient's groups: named in the configuration, closed by public lists."""

import pytest

from fedimg.errors import ConfigError, DataError
from fedimg.sources import DataConfig, load
from fedimg.subgroups import UNKNOWN, age_code, maker_code

COLUMNS = {"sex": "gender", "age_band": "years", "scanner": "vendor"}


def row(path, patient="P1", **more):
    return {"path": path, "patient_id": patient, "label": "0"} | more


def test_named_columns_become_codes_and_all_else_is_dropped(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png", "c.png")
    write_table(
        [
            row("a.png", gender="Female", years="37", vendor="GE Healthcare", race="x"),
            row("b.png", "P2", gender="jane doe", years="-4", vendor="DOE^JANE", race="y"),
            row("c.png", "P3", gender="", years="", vendor="", race="z"),
        ]
    )
    found = load(config(subgroups=COLUMNS), tmp_path, 1, 0)["site-1"]
    assert [one.groups for one in found.items] == [
        (1, age_code("37"), maker_code("ge")),
        (0, 0, maker_code("acme")),
        UNKNOWN,
    ]
    assert found.dropped_columns == 1
    plain = load(config(), tmp_path, 1, 0)["site-1"]
    assert {one.groups for one in plain.items} == {UNKNOWN}
    assert plain.dropped_columns == 4


def test_a_column_that_a_table_lacks_is_refused(config, write_files, write_table, tmp_path):
    """A name with a typo would make everybody unknown, and nobody would notice."""
    write_files("a.png")
    write_table([row("a.png", gender="M")])
    with pytest.raises(DataError, match="no column years, vendor"):
        load(config(subgroups=COLUMNS), tmp_path, 1, 0)


def test_of_dicom_files_too(config, write_dicom, write_table, tmp_path):
    write_dicom("a.dcm")
    write_dicom("b.dcm", "P2", 2, 2)
    write_table([{"path": "a.dcm", "label": "1", "gender": "F", "years": "", "vendor": ""}])
    items = load(config("dicom", subgroups=COLUMNS), tmp_path, 1, 0)["site-1"].items
    assert {one.path.name: one.groups for one in items} == {"a.dcm": (1, 0, 0), "b.dcm": UNKNOWN}


@pytest.mark.parametrize(
    "subgroups", [{"race": "race"}, {"sex": "label"}, {"sex": "path"}, {"sex": "No Such"}, {"sex": ""}]
)
def test_other_entries_are_refused(subgroups):
    with pytest.raises(ConfigError, match=r"data\.subgroups"):
        DataConfig("images", path="x", subgroups=subgroups)


@pytest.mark.parametrize("name", ["cohort", "medmnist", "tabular"])
def test_sources_without_such_a_table_refuse_the_key(name):
    with pytest.raises(ConfigError, match=r"data\.subgroups"):
        DataConfig(name, subgroups={"sex": "gender"})
