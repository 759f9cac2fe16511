"""The manifest tells the truth about the files, and the files are a function of (seed, hospital, patient)."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fedimg.cohort import CohortConfig, generate_cohort, generate_hospital
from fedimg.cohort.hospital import COLUMNS
from fedimg.dicom import pixels
from fedimg.dicom.reader import read_dataset
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

SMALL = CohortConfig(hospitals=2, patients_per_hospital=5, phantom_public_patients=3, broken_files=0)


def contents(root) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_file_has_its_row_and_every_row_its_file(folders):
    for folder in folders.values():
        with (folder.root / "manifest.csv").open(encoding="utf-8") as file:
            assert tuple(next(csv.reader(file))) == COLUMNS
        files = {str(p.relative_to(folder.root)) for p in folder.root.rglob("*.dcm")}
        masks = {row["mask"] for row in folder.rows if row["mask"]}
        assert {row["path"] for row in folder.rows} | masks == files
        assert len({row["path"] for row in folder.rows}) == len(folder.rows)


def test_rows_agree_with_the_headers(folders):
    for site, folder in folders.items():
        for row in folder.whole:
            dataset = folder.dataset(row)
            assert (dataset.PatientID, dataset.Modality) == (row["patient_id"], row["modality"])
            assert row["site"] == site and row["split"] == ("public" if site == "public" else "train")
            assert row["label"] in ("0", "1")


def test_hospitals_have_patients_of_one_to_four_images_and_all_modalities(hospitals):
    for folder in hospitals:
        by_patient: dict[str, Counter] = {}
        for row in folder.whole:
            if not row["path"].endswith("COPY.dcm"):
                by_patient.setdefault(row["patient_id"], Counter())[row["label"]] += 1
        sizes = [sum(labels.values()) for labels in by_patient.values()]
        assert min(sizes) >= 1 and max(sizes) <= 4 and len(set(sizes)) > 2
        assert len({row["modality"] for row in folder.rows}) >= 3
    specialities = [Counter(row["modality"] for row in f.rows).most_common(1)[0][0] for f in hospitals]
    assert specialities[:2] == ["CT", "MR"]


def test_about_half_of_the_patients_have_a_lesion(folders):
    sick = healthy = 0
    for folder in folders.values():
        labels: dict[str, bool] = {}
        for row in folder.whole:
            labels[row["patient_id"]] = labels.get(row["patient_id"], False) or row["label"] == "1"
        sick += sum(labels.values())
        healthy += len(labels) - sum(labels.values())
    # Binomial(n ≈ 104, ½): beyond 4.5 standard deviations with probability 7e-6
    assert abs(sick - healthy) < 4.5 * np.sqrt(sick + healthy)


def test_every_whole_file_is_read_by_the_intakes_own_reader(folders):
    shapes = set()
    for folder in folders.values():
        for row in folder.whole:
            image = pixels.decode(folder.root / row["path"])
            shapes.add((row["modality"], image.pixels_DHW.shape))
            assert image.modality == row["modality"] and image.pixels_DHW.std() > 0
    assert shapes == {
        ("CT", (1, 64, 64)),
        ("MR", (1, 64, 64)),
        ("CR", (1, 64, 64)),
        ("US", (1, 128, 128)),
        ("US", (2, 128, 128)),
    }


def test_every_broken_file_is_broken_as_stated(hospitals):
    for folder in hospitals:
        rows = {row["path"]: row for row in folder.rows}
        assert sorted(folder.broken.values()) == [
            "duplicate",
            "no_label",
            "no_patient_id",
            "text",
            "truncated",
        ]
        for path, fault in folder.broken.items():
            whole = folder.root / path
            if fault in ("truncated", "text"):
                with pytest.raises(Quarantined) as caught:
                    read_dataset(whole)
                expected = Quarantine.UNREADABLE if fault == "truncated" else Quarantine.NOT_AN_IMAGE
                assert caught.value.reason is expected
            elif fault == "duplicate":
                twins = [p for p in whole.parent.iterdir() if p.read_bytes() == whole.read_bytes()]
                assert len(twins) == 2
            else:
                dataset = read_dataset(whole)
                assert (dataset.PatientID == "") == (fault == "no_patient_id")
                assert (rows[path]["label"] == "") == (fault == "no_label")


def test_scanners_and_their_noise_differ_between_hospitals(hospitals):
    machines, noise = set(), []
    for folder in hospitals:
        rows = [row for row in folder.whole if row["modality"] == "CT"]
        machines |= {
            (d.Manufacturer, d.ManufacturerModelName, d.PixelSpacing[0]) for d in map(folder.dataset, rows)
        }
        air = [folder.dataset(row).pixel_array[:8, :8] for row in folder.whole if row["modality"] == "MR"]
        noise += [np.median([corner.std() for corner in air])] if air else []
    assert len(machines) == len(hospitals)
    assert len(noise) >= 3 and max(noise) > 1.3 * min(noise)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_hospital(tmp_path / name, SMALL, 1, seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert not set(a.values()) & set(c.values())


def test_a_patient_does_not_depend_on_how_many_others_there_are(tmp_path):
    generate_hospital(tmp_path / "a", SMALL, 0, 1)
    generate_hospital(tmp_path / "b", replace(SMALL, patients_per_hospital=3), 0, 1)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    few = {path: digest for path, digest in b.items() if path.endswith(".dcm")}
    assert few and few.items() <= a.items()


def test_the_whole_cohort_is_its_hospitals_whatever_the_number_of_processes(tmp_path):
    found = generate_cohort(tmp_path / "all", replace(SMALL, workers=2), 1)
    assert sorted(found) == ["hospital-1", "hospital-2", "public"]
    generate_hospital(tmp_path / "second", SMALL, 1, 1)
    generate_hospital(tmp_path / "public", SMALL, 0, 1, "public")
    assert contents(found["hospital-2"]) == contents(tmp_path / "second")
    assert contents(found["public"]) == contents(tmp_path / "public")


def test_folders_are_the_owners_only(folders):
    assert {folder.root.stat().st_mode & 0o777 for folder in folders.values()} == {0o700}


def test_patients_of_different_hospitals_are_different_people(folders):
    patients = [row["patient_id"] for f in folders.values() for row in f.rows if row["patient_id"]]
    by_site = Counter(
        patient
        for f in folders.values()
        for patient in {row["patient_id"] for row in f.rows if row["patient_id"]}
    )
    assert len(by_site) == len(set(patients)) and set(by_site.values()) == {1}


def test_a_single_modality_is_a_cohort_too(tmp_path):
    config = replace(SMALL, modalities=("MR",), slices=1, image_size=32, broken_files=1)
    generate_hospital(tmp_path, config, 0, 0)
    with (tmp_path / "manifest.csv").open(encoding="utf-8") as file:
        assert {row["modality"] for row in csv.DictReader(file)} == {"MR"}
