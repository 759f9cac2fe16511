"""CT and MR of one head: what shows where, what is missing, and whether their headers lay one over the other."""

import csv

import numpy as np
import pytest

from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.cohort.beside import Beside
from fedimg.dicom import pixels
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.together import prepare_together, windowed

CONFIG = CohortConfig(
    hospitals=1,
    patients_per_hospital=12,
    modalities=("CT", "MR"),
    paired=True,
    signs=("CT", "MR"),
    missing=0.25,
    slices=3,
    lesion_diameter=(0.2, 0.25),
    noise=0.0,
    broken_files=0,
)
TOGETHER = ImagingConfig(dimensions=3, unit="patient", together=("CT", "MR"), image_size=(3, 64, 64))


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Patient → modality → rows of its slices, with the folder."""
    root = tmp_path_factory.mktemp("paired")
    generate_hospital(root, CONFIG, 0, 3)
    found = {}
    with (root / "manifest.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["patient_id"], {}).setdefault(row["modality"], []).append(row)
    return root, found


def test_some_patients_lack_one_modality_and_none_both(patients):
    _, found = patients
    kinds = [frozenset(own) for own in found.values()]
    assert len(found) == 12 and {"CT", "MR"} in kinds and len(set(kinds)) > 1
    assert all(len({row["label"] for rows in own.values() for row in rows}) == 1 for own in found.values())


def volume(root, rows):
    return windowed([pixels.decode(root / row["path"]) for row in rows], TOGETHER)


def outline(plane):
    """(top, bottom, left, right) of what is brighter than air: the scalp is, in both."""
    there = plane > plane.min() + 0.3 * np.ptp(plane)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return np.array([rows[0], rows[-1], columns[0], columns[-1]])


def test_headers_lay_the_two_heads_over_each_other(patients):
    root, found = patients
    together, apart = [], []
    for own in found.values():
        if len(own) < 2:
            continue
        ct, mr = (volume(root, own[m]) for m in ("CT", "MR"))
        assert ct.image.frame == mr.image.frame != ""
        made = prepare_together([ct, mr], TOGETHER).image_CDHW
        together.append(np.abs(outline(made[0][1]) - outline(made[1][1])).max())
        apart.append(np.abs(outline(ct.values_DHW[1]) - outline(mr.values_DHW[1])).max())
    # to a pixel or two, by the scanners' blur; as they are stored, four and more
    assert max(together) <= 2 and np.mean(apart) > np.mean(together) + 2, (together, apart)


def test_a_finding_shows_in_one_of_them_and_lies_in_both(patients):
    root, found = patients
    sick = [own for own in found.values() if len(own) == 2 and own["CT"][0]["label"] == "1"]
    assert sick
    signs = set()
    for own in sick:
        rises = {}
        for modality, rows in own.items():
            row = next(row for row in rows if row["box_x0"])
            box = [int(row[f"box_{name}"]) for name in ("x0", "y0", "x1", "y1")]
            image = pixels.decode(root / row["path"]).pixels_DHW[0]
            inside = image[box[1] : box[3], box[0] : box[2]]
            rises[modality] = np.percentile(inside, 90) - np.percentile(inside, 5)
        shown = {"CT": rises["CT"] > 100, "MR": rises["MR"] > 350}
        signs.add(frozenset(m for m, there in shown.items() if there))
    assert frozenset() not in signs


def test_draws_are_a_patients_own_and_signs_are_balanced():
    config = CohortConfig(signs=("CR", "table"), modalities=("CR",), missing=0.5)
    drawn = [Beside.draw([0, 1, n], config, sick=True) for n in range(400)]
    assert drawn[7] == Beside.draw([0, 1, 7], config, sick=True)
    assert sum(one.sign == "CR" for one in drawn) == 200
    of_table = [one.marker for one in drawn if one.sign == "table"]
    of_image = [one.marker for one in drawn if one.sign == "CR"]
    assert np.mean(of_table) - np.mean(of_image) == pytest.approx(
        2.0, abs=0.2
    )  # ½ ÷ √200 · √2 each, 4 of them
    empty = np.mean([one.empty for one in drawn])
    assert abs(empty - 0.5) < 4.5 * (0.25 / 800) ** 0.5
    assert drawn[0].cells(50)[0] in ("", "50")
