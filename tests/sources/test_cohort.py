from dataclasses import replace

import pytest

from fedimg.cohort import CohortConfig
from fedimg.dicom.reader import read_dataset
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import DataError
from fedimg.sources import DataConfig, load

SMALL = CohortConfig(
    patients_per_hospital=6, phantom_public_patients=4, image_size=32, slices=2, max_studies=1, broken_files=1
)
CONFIG = DataConfig(name="cohort", cohort=SMALL)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("source")


def test_every_hospital_is_a_site_with_files_labels_masks_and_a_public_card(workdir):
    manifests = load(CONFIG, workdir, 2, 0)
    assert set(manifests) == {"public", "hospital-1", "hospital-2"}
    for site, manifest in manifests.items():
        assert manifest.public_data
        assert manifest.classes == ("no lesion", "lesion")
        assert manifest.unit == "patient"
        assert {item.split for item in manifest.items} == {"public" if site == "public" else "train"}
        assert all(item.path.is_file() for item in manifest.items)
        assert all(item.patient_id is None for item in manifest.items)  # the intake asks the header
        assert all(item.drawn is None for item in manifest.items)
        assert not manifest.held_back
    assert manifests["hospital-1"].declared_patients == {"hospital-1": 6}  # as configured, not as counted
    assert manifests["public"].declared_patients is None
    # One file of each hospital is unlabelled on purpose.
    assert sum(item.label is None for item in manifests["hospital-2"].items) == 1
    assert {item.label for item in manifests["hospital-1"].items} == {0, 1, None}


def patients_of(items):
    found = set()
    for item in items:
        try:
            found.add(str(read_dataset(item.path).get("PatientID")))
        except Quarantined:
            continue
    return found - {""}


def test_no_patient_is_at_two_sites_however_the_cohort_is_divided(workdir):
    for partition in ("manifest", "iid", "dirichlet"):
        manifests = load(replace(CONFIG, partition=partition), workdir, 2, 0)
        seen = [patients_of(manifest.items) for manifest in manifests.values()]
        assert sum(map(len, seen)) == len(set.union(*seen))


def test_a_cohort_is_generated_once_and_anew_for_another_seed(workdir, monkeypatch):
    first = load(CONFIG, workdir, 2, 0)

    def forbidden(*args):
        raise AssertionError("the cohort was there already")

    monkeypatch.setattr("fedimg.sources.cohort.generate_cohort", forbidden)
    assert load(CONFIG, workdir, 2, 0) == first
    assert load(replace(CONFIG, cohort=replace(SMALL, workers=2)), workdir, 2, 0) == first
    for other in ((2, 1), (3, 0)):
        with pytest.raises(AssertionError, match="there already"):
            load(CONFIG, workdir, *other)


def test_a_full_disk_is_said_and_leaves_no_half_cohort(tmp_path, monkeypatch):
    def full(root, config, seed):
        (root / "hospital-1").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedimg.sources.cohort.generate_cohort", full)
    with pytest.raises(DataError, match="space for the generated hospitals; found No space left on device"):
        load(CONFIG, tmp_path, 2, 0)
    assert list(tmp_path.iterdir()) == []
