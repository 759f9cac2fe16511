"""Homes and folders as cases: sizes that were planted come back, and a bad file stops no other."""

from __future__ import annotations

import csv
import stat

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedimg.cli import main
from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.measurements import REGISTRY
from fedimg.imaging.measurements.registry import group_of
from fedimg.imaging.rules import rulebook
from fedimg.intake import IntakeConfig, run_intake
from fedimg.measuring import home as rules_of_home
from fedimg.measuring.samples import Sample, of_folder
from fedimg.measuring.table import WARNING, as_csv, chosen, measured
from fedimg.values import Drawn, SourceItem

SPACING = (0.5, 2.0, 4.0)  # of (x, y, z)


@pytest.fixture
def folder(tmp_path):
    """Two volumes with a box of 3 × 4 × 5 voxels drawn, a picture, and files that are none."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        affine = np.diag([*SPACING, 1])
        nibabel.save(
            nibabel.Nifti1Image(generator.normal(size=(12, 10, 8)), affine), images / f"{name}.nii.gz"
        )
        drawn = np.zeros((12, 10, 8), np.uint8)
        drawn[2:5, 3:7, 1:6] = 1
        nibabel.save(nibabel.Nifti1Image(drawn, affine), masks / f"{name}.nii.gz")
    Image.fromarray(generator.integers(0, 255, (16, 16)).astype(np.uint8)).save(images / "p.png")
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(images / "wrong.png")
    Image.fromarray(np.full((3, 3), 255, np.uint8)).save(masks / "wrong.png")
    (images / "text.txt").write_text("no image")
    (images / "=cmd.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = nibabel.Nifti1Image(np.full((5, 5, 5), np.nan), np.eye(4))
    nibabel.save(broken, images / "nan.nii")
    return images, masks


def rows_of(text):
    first, _, rest = text.partition("\n")
    assert first == WARNING
    return {row["file"]: row for row in csv.DictReader(rest.splitlines())}


def test_a_folder_is_measured_in_millimetres_and_bad_files_have_their_reason(folder, tmp_path, capsys):
    images, masks = folder
    out = tmp_path / "out.csv"
    assert main(["measure", str(images), "--masks", str(masks), "--out", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = rows_of(out.read_text())
    assert len(rows) == 7
    for name in ("a.nii.gz", "b.nii.gz"):
        assert float(rows[name]["lesion_volume_ml"]) == pytest.approx(3 * 4 * 5 * np.prod(SPACING) / 1000)
        assert float(rows[name]["lesion_longest_diameter_mm"]) == pytest.approx(np.hypot(1.5, 8), abs=1.2)
        assert rows[name]["reason"] == ""
    assert rows["p.png"]["lesion_volume_ml"] == ""  # nobody drew, nobody knows a pixel's size
    assert float(rows["p.png"]["image_mean"]) > 0
    reasons = {name: row["reason"] for name, row in rows.items() if row["reason"]}
    assert reasons == {
        "wrong.png": "wrong_shape",
        "text.txt": "not_an_image",
        "'=cmd.png": "not_an_image",
        "nan.nii": "pixels_not_finite",
    }
    said = capsys.readouterr()
    assert "3 of 7 files measured" in said.out
    assert "p.png" not in said.out + said.err
    # again, over its own table; over no other file
    assert main(["measure", str(images), "--out", str(out), "--names", "image"]) == 0
    other = tmp_path / "labels.csv"
    other.write_text("path,mask\n")
    assert main(["measure", str(images), "--out", str(other)]) == 2
    assert other.read_text() == "path,mask\n"
    assert main(["measure", str(images), "--out", str(images / "out.csv")]) == 2


def test_a_table_names_the_masks_and_a_bad_row_stops_no_other(folder, tmp_path):
    images, masks = folder
    (masks / "a.nii.gz").rename(images / "drawn.nii.gz")
    rows = [
        ("a.nii.gz", "drawn.nii.gz"),
        ("../masks/b.nii.gz", ""),
        ("absent.png", ""),
        ("p.png", "/etc/passwd"),
    ]
    (images / "labels.csv").write_text("path,mask\n" + "".join(f"{p},{m}\n" for p, m in rows))
    samples = of_folder(images, None, ("lesion",), frozenset())
    table = measured(samples, ("lesion_volume_ml", "image_mean"))
    assert [row.get("reason", "") for row in table.rows] == ["", "unusable", "unreadable", "unusable"]
    assert table.measured == 1
    assert table.rows[0]["lesion_volume_ml"] == pytest.approx(60 * np.prod(SPACING) / 1000)


def test_classes_of_masks_are_regions(tmp_path):
    images, masks = tmp_path / "i", tmp_path / "m"
    images.mkdir()
    masks.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)).save(
        images / "x.png"
    )
    drawn = np.zeros((40, 60), np.uint8)
    drawn[5:35, 5:55] = 2  # thorax
    drawn[20:30, 20:45] = 1  # heart
    Image.fromarray(drawn).save(masks / "x.png")
    out = tmp_path / "out.csv"
    asked = ["measure", str(images), "--masks", str(masks), "--out", str(out), "--regions", "heart,thorax"]
    assert main([*asked, "--names", "cardiothoracic_ratio"]) == 0
    assert float(rows_of(out.read_text())["x.png"]["cardiothoracic_ratio"]) == pytest.approx(25 / 50)
    assert main([*asked, "--regions", "heart,liver"]) == 2


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """A home with generated CT and radiographs, boxes and masks drawn."""
    root = tmp_path_factory.mktemp("hospital")
    settings = CohortConfig(
        hospitals=1,
        patients_per_hospital=6,
        modalities=("CT", "CR"),
        max_studies=1,
        broken_files=0,
        image_size=64,
    )
    generate_hospital(root / "files", settings, 0, 3)
    home, items = SiteHome.create(root / "home", simulated=True), []
    with (root / "files" / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            drawn = Drawn(masks=(root / "files" / row["mask"],)) if row["mask"] else None
            label = int(row["label"]) if row["label"] else None
            items.append(SourceItem(root / "files" / row["path"], "dicom", None, label, drawn=drawn))
    run_intake(items, home, IntakeConfig(workers=0))
    return home


def test_a_home_is_measured_slice_by_slice_or_as_series_and_rules_answer(hospital, tmp_path):
    out = hospital.root / "measured.csv"  # a home may keep its own table
    assert main(["measure", str(hospital.root), "--out", str(out), "--rules", "lesion", "--series"]) == 0
    whole = rows_of(out.read_text())
    single = tmp_path / "single.csv"
    assert main(["measure", str(hospital.root), "--out", str(single), "--names", "lesion,acquisition"]) == 0
    slices = rows_of(single.read_text())
    assert len(slices) > len(whole)
    assert not any(row["reason"] for row in (*whole.values(), *slices.values()))
    measured_ct = [row for row in whole.values() if row["hu_mean"] and float(row["lesion_volume_ml"]) > 0]
    assert measured_ct
    assert all(row["rule"] and row["rule_class"] in "01" for row in whole.values())
    assert any(row["tube_voltage_kv"] for row in slices.values())
    # a series' lesion is that of its slices together, times the distance of slices over one slice's own depth
    thick = sum(float(row["lesion_volume_ml"] or 0) > 0 for row in slices.values())
    assert thick >= len(measured_ct)


def test_rules_of_a_home_see_the_examples_that_a_network_is_given(hospital):
    book = rulebook(
        {
            "classes": 2,
            "rules": [
                {"name": "bright", "if": "image_mean > 0 and lesion_volume_ml >= 0", "class": 1, "score": 0.8}
            ],
            "otherwise": {"class": 0, "score": 0.6},
        }
    )
    for imaging in (ImagingConfig(), ImagingConfig(dimensions=3, unit="series", image_size=(4, 32, 32))):
        found = rules_of_home.decide(hospital, imaging, "train", book)
        assert found.held_back == 0
        assert found.first_image[-1] == len(found.labels) == len(found.scores)
        assert (np.diff(found.first_image) > 0).all()
        assert {tuple(np.round(one, 6)) for one in found.scores} <= {(0.2, 0.8), (0.6, 0.4)}
        assert set(found.labels) <= {0, 1}


def test_a_receipt_that_does_not_hold_is_a_row_with_a_reason(hospital, tmp_path):
    path = next(path for path in sorted(hospital.released.rglob("*")) if path.is_file())
    before = path.read_bytes()
    try:
        path.chmod(0o600)
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        out = tmp_path / "out.csv"
        assert main(["measure", str(hospital.root), "--out", str(out), "--names", "image_mean"]) == 0
        assert [row["reason"] for row in rows_of(out.read_text()).values() if row["reason"]] == ["unusable"]
    finally:
        path.write_bytes(before)


@given(st.text(max_size=30))
def test_a_name_is_one_cell_of_one_line_and_no_formula(name):
    def fails():
        raise ValueError(name)

    text = as_csv(measured([Sample(name, fails)], ("image_mean",)))
    lines = text.splitlines()
    assert len(lines) == 3
    (row,) = csv.DictReader(lines[1:])
    assert row["reason"] == "unsafe_structure"
    assert row["file"][:1] not in ("=", "+", "-", "@")


def test_names_and_groups_are_chosen_in_the_registrys_order():
    assert set(chosen(None)) == {
        name for name in REGISTRY if group_of(name) not in ("intensity", "shape", "texture")
    }
    assert chosen("radiomics,hu") == tuple(
        name for name in REGISTRY if group_of(name) in ("intensity", "shape", "texture", "hu")
    )
    with pytest.raises(ConfigError, match="did you mean lesion_volume_ml"):
        chosen("lesion_volum_ml")


def test_the_names_are_listed_without_any_image(capsys):
    assert main(["measure", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in REGISTRY)


def test_no_folder_and_no_image_are_refused(tmp_path):
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError):
            of_folder(place, None, ("lesion",), frozenset())
