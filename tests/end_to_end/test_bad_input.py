"""Own DICOM files with everything wrong that a folder can hold: who is told what, and who goes on."""

import csv
import stat
from pathlib import Path

import numpy as np
import pytest

from fedimg import durable
from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.config import compose
from fedimg.dicom.authoring import write_image
from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.operator_log import read_operator_log
from fedimg.simulation import simulate
from server.runs import RunState, list_runs

COHORT = CohortConfig(
    patients_per_hospital=12, phantom_public_patients=4, image_size=64, modalities=("CR",), broken_files=0
)


@pytest.fixture
def folder(tmp_path):
    """Three hospitals' files under one roof: a good one, a one-class one, and one with nothing usable."""
    root = tmp_path / "archive"
    rows = []
    for number, site in enumerate(("good", "one-class")):
        generate_hospital(root / site, COHORT, number, 0)
        rows += listed(root, site, site)
    generate_hospital(root / "held", COHORT, 2, 0, "public")
    rows += [row | {"site": "", "split": "public"} for row in listed(root, "held", "")]
    rows = [row for row in rows if row["site"] != "one-class" or row["label"] == "0"]
    damage(root, rows)
    (root / "unlabelled.dcm").write_bytes((root / rows[0]["path"]).read_bytes())
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "patient_id", "label", "site", "split", "referring_doctor"])
        writer.writeheader()
        writer.writerows(row | {"referring_doctor": "Dr Nobody"} for row in rows)
    return root


def listed(root, folder, site):
    with (root / folder / "manifest.csv").open() as stream:
        return [
            {
                "path": f"{folder}/{row['path']}",
                "patient_id": row["patient_id"],
                "label": row["label"],
                "site": site,
                "split": "train",
            }
            for row in csv.DictReader(stream)
        ]


def damage(root, rows):
    """Add a site `broken` whose every file is unusable, one way each."""

    def add(name, patient):
        rows.append(
            {
                "path": f"broken/{name}",
                "patient_id": patient,
                "label": "1",
                "site": "broken",
                "split": "train",
            }
        )

    (root / "broken").mkdir()
    whole = (root / rows[0]["path"]).read_bytes()
    (root / "broken" / "short.dcm").write_bytes(whole[: len(whole) // 2])
    add("short.dcm", "P1")
    (root / "broken" / "letter.dcm").write_text("Dear colleague, about Douglas Davidson")
    add("letter.dcm", "P2")
    blank = np.full((32, 32), 7, np.uint16)
    for name, pixels in (("blank.dcm", blank), ("tiny.dcm", blank[:4, :4])):
        header = {"PatientID": name, "PatientName": "Davidson^Douglas"}
        write_image(root / "broken" / name, modality="CR", pixels=pixels, attributes=header)
        add(name, name)


def run_on(folder, tmp_path, *overrides):
    return simulate(
        compose(
            [
                "data=dicom",
                f"data.path={folder}",
                "data.declared_patients=100",
                "data.declared_public=true",
                "imaging.image_size=[32,32]",
                "rounds=2",
                "compare=false",
                "privacy.delta=1e-3",
                "evaluation.bootstrap=10",
                f"runs={tmp_path / 'runs'}",
                *overrides,
            ]
        )
    )


def test_every_site_goes_on_and_each_operator_learns_what_was_wrong(folder, tmp_path, capsys):
    run = run_on(folder, tmp_path)
    said = capsys.readouterr().err.splitlines()
    home = run.path / "sites" / "broken"
    assert "3 sites by the source's own division, not sites=4; data.partition=iid divides by patient" in said
    taken_in, loaded = [line for line in said if line.startswith("broken:")]
    assert "1 unreadable" in taken_in
    assert "1 pixels blank" in loaded
    assert all(line.endswith(f"see `fedimg site log {home}`") for line in (taken_in, loaded))
    assert any(line.startswith("error: expected at least one example to train on at broken") for line in said)
    assert "one-class: all of its examples are negative; alone it could learn nothing" in said
    assert not any(line.startswith("good: all of") for line in said)
    # An empty and a one-class site send noise like any other: that they are does not show.
    assert list(run.summary["sites"]) == ["broken", "good", "one-class"]
    assert len({site["noise_multiplier"] for site in run.summary["sites"].values()}) == 1
    assert "auroc" in run.summary["test"]
    counts = {}
    for line in read_operator_log(home):
        if "counts" not in line:
            assert line["expected"] == "at least one example to train on at broken"
            continue
        if line["step"] == "intake":
            assert line["positions"].keys() == line["counts"].keys()
        for reason, count in line["counts"].items():
            counts[reason] = counts.get(reason, 0) + count
    del counts["no_label"]  # files that no row of the table names
    assert counts == {"unreadable": 1, "not_an_image": 1, "pixels_blank": 1, "wrong_shape": 1}


def test_no_patient_stands_in_anything_that_is_written(folder, tmp_path):
    run = run_on(folder, tmp_path)
    for path in run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Davidson" not in content, path.name
            assert b"Dr Nobody" not in content, path.name


def test_counts_and_pictures_of_patients_stand_in_the_sites_own_report_only(folder, tmp_path):
    run = run_on(folder, tmp_path, "data.declared_public=false")
    shared = (run.path / "report.html").read_text()
    assert "data:image/png" not in shared
    assert "site log" in shared
    for name in ("good", "broken"):
        own = run.path / "sites" / name / "report.html"
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
        assert f"sites/{name}/report.html" in shared
        page = own.read_text()
        assert f"De-identification at {name}" in page
        # Its broken files are held back, each with its reason; the good site shows originals.
        assert ("unreadable" in page, "data:image/png" in page) == (name == "broken", True)
    assert not list(run.path.glob("public/report.html"))


def test_a_patient_at_two_sites_trains_at_one(folder, tmp_path, capsys):
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    moved = next(row for row in rows if row["site"] == "good")
    again = folder / "again.dcm"
    again.write_bytes((folder / moved["path"]).read_bytes())
    with (folder / "labels.csv").open("a", newline="") as stream:
        csv.DictWriter(stream, rows[0]).writerow(moved | {"path": "again.dcm", "site": "one-class"})
    run = run_on(folder, tmp_path)
    assert "patient at two sites" in capsys.readouterr().err
    held = {
        site: sum(
            line["counts"].get("patient_at_two_sites", 0)
            for line in read_operator_log(run.path / "sites" / site)
            if "counts" in line
        )
        for site in ("good", "one-class")
    }
    assert sorted(count > 0 for count in held.values()) == [False, True]


def test_privacy_without_a_declared_size_is_refused_with_the_remedy(folder, tmp_path):
    with pytest.raises(DataError, match=r"data\.declared_patients"):
        run_on(folder, tmp_path, "data.declared_patients=null")


def test_a_number_of_classes_that_the_data_do_not_have_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"add model\.classes=2"):
        run_on(folder, tmp_path, "model.classes=3")


def test_a_full_disk_at_one_site_ends_its_part_and_not_the_run(folder, tmp_path, monkeypatch):
    real = durable.os.fsync

    def full_at_one_site(handle):
        if "/sites/good/outbox/" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(durable.os, "fsync", full_at_one_site)
    run = run_on(folder, tmp_path, "secagg=none")  # three sites that are added up need all three
    assert run.summary["missing"] == {"1": ["good"], "2": ["good"]}
    told = read_operator_log(run.path / "sites" / "good")
    assert told[-1]["errno"] == "No space left on device"


def test_data_of_patients_have_a_row_a_site_without_a_count(folder, tmp_path):
    """`privacy.md` §1: how many files a site could use depends on its patients."""
    run = run_on(folder, tmp_path, "data.declared_public=false")
    page = (run.path / "report.html").read_text()
    assert "intake" not in run.summary
    assert "fedimg site log &lt;this run&gt;/sites/broken" in page
    assert "Quarantined, by reason" not in page


def test_a_run_without_a_single_usable_example_is_an_error(folder, tmp_path):
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["site"] == "broken")
    with pytest.raises(DataError, match="at least one site with examples to train on"):
        run_on(folder, tmp_path)


def test_a_model_that_cannot_take_the_images_says_so_before_a_file_is_read(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.dimensions to equal imaging\.dimensions = 2; found 3"):
        run_on(folder, tmp_path, "model.dimensions=3", "model.image_size=[16,32,32]")
    assert not (tmp_path / "runs").exists()


def test_a_delta_that_no_site_allows_is_refused_before_a_file_is_read(folder, tmp_path):
    with pytest.raises(
        PolicyRefused, match=r"asked at broken and 2 more.*set privacy\.delta to at most 0\.001"
    ):
        run_on(folder, tmp_path, "privacy.delta=0.1")
    (run,) = (tmp_path / "runs").iterdir()
    (listed_run,) = list_runs(tmp_path / "runs")
    assert listed_run.state == RunState.FAILED
    assert "set privacy.delta to at most 0.001" in listed_run.failure
    assert not list(run.glob("sites/*/receipts.jsonl"))
