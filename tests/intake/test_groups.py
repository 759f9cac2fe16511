"""Groups of patients at the intake: codes in the home's labels, and in nothing that is released, signed or logged."""

from __future__ import annotations

import json
import stat

import pytest

from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, admitted, run_intake
from fedimg.intake.labels import Label, LabelFile, read_labels
from fedimg.subgroups import UNKNOWN, age_code, maker_code, sex_code
from fedimg.values import SourceItem

CONFIG = IntakeConfig(project="trial", workers=0)
HEADER = {"PatientSex": "F", "PatientAge": "037Y", "Manufacturer": "SIEMENS Healthineers QUIRRELL"}
CODES = sex_code("F"), age_code("037Y"), maker_code("Siemens")


@pytest.fixture
def home(tmp_path):
    return SiteHome.create(tmp_path / "home", simulated=True)


def item(path, **changes):
    return SourceItem(path, "dicom", label=1, **changes)


def test_what_a_header_says_is_known_to_the_home_alone(home, slice_of):
    result = run_intake([item(slice_of(1, **HEADER))], home, CONFIG)
    (record,) = admitted(home)
    assert record.groups == CODES == result.records[0].groups
    assert stat.S_IMODE(home.labels.stat().st_mode) == 0o600
    codes = json.dumps(list(CODES), separators=(",", ":"))
    assert codes in home.labels.read_text()
    for path in (path for path in home.root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert b"SIEMENS" not in content.upper() or path.name == "policy.yaml", path
        if path != home.labels:
            assert codes.encode() not in content, path
            assert b'"groups"' not in content, path


def test_the_release_and_its_receipt_are_the_same_whatever_a_table_says(tmp_path, slice_of):
    path, seen = slice_of(1, **HEADER), []
    for number, groups in enumerate((UNKNOWN, (2, 3, 1))):
        home = SiteHome.create(tmp_path / f"home-{number}", simulated=True, insecure_seed="one")
        run_intake([item(path, groups=groups)], home, CONFIG)
        (record,) = admitted(home)
        receipt = json.loads(home.receipts.read_text().splitlines()[0])
        seen.append((record.sha256, record.path, receipt["body"] if "body" in receipt else receipt["sha256"]))
        assert record.groups == (groups if any(groups) else CODES)
    assert seen[0] == seen[1]


def test_a_table_s_word_counts_more_and_what_it_leaves_out_is_the_header_s(home, slice_of):
    path = slice_of(1, **HEADER)
    run_intake([item(path, groups=(2, 0, 0))], home, CONFIG)
    assert admitted(home)[0].groups == (2, *CODES[1:])
    # a second intake makes nothing anew, and takes a corrected table up
    again = run_intake([item(path, groups=(3, 0, 1))], home, CONFIG)
    assert again.resumed == 1
    assert admitted(home)[0].groups == (3, CODES[1], 1)
    assert run_intake([item(path)], home, CONFIG).records[0].groups == (3, CODES[1], 1)


def test_a_strange_header_holds_no_file_back(home, slice_of):
    paths = [
        slice_of(1, PatientAge="-37Y", Manufacturer="DOE^JANE " * 7, PatientSex="QUIRRELL"),
        slice_of(2, PatientBirthDate="20991231", StudyDate="20120309"),
        slice_of(3, Manufacturer="x" * 64),
    ]
    result = run_intake([item(path) for path in paths], home, CONFIG)
    assert not result.quarantined
    other = maker_code("acme")
    assert {(r.groups[0], r.groups[2]) for r in result.records} == {(0, other), (0, 0)}
    assert result.records[1].groups == UNKNOWN
    assert "DOE" not in home.labels.read_text()


@pytest.mark.parametrize("groups", [[1, 2], [1, 2, 999], "FMX", [1.0, 2, 3], None, {"sex": 1}])
def test_a_line_with_other_groups_is_none(tmp_path, groups):
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"instance": "a", "label": 0, "split": "train", "groups": groups}) + "\n")
    assert read_labels(path) == {}


def test_groups_come_back_as_they_were_put_and_show_in_no_text(tmp_path):
    path, label = tmp_path / "labels.jsonl", Label(1, "train", groups=(1, 5, 2))
    with LabelFile(path) as labels:
        labels.put("a", label)
        labels.put("b", Label(0, "train"))
        labels.flush()
    assert read_labels(path) == {"a": label, "b": Label(0, "train")}
    assert "5" not in repr(label)
