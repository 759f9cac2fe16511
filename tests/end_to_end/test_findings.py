"""Each ready finding as a small whole run: its files pass the intake, and the score and the outline are learnt."""

import json

import pytest

from fedimg.cohort.exams import BY_FINDING
from fedimg.config import compose
from fedimg.config.keys import conf_folder
from fedimg.coordination import finding_file
from fedimg.simulation import simulate

SMALL = (
    "sites=2",
    "compare=false",
    "data.cohort.broken_files=0",
    "evaluation.every=40",
    "evaluation.bootstrap=20",
    "evaluation.validation_fraction=0.2",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
    "secagg=none",
    "seed=1",
)
LEARNT = {
    "cardiomegaly": (
        "data.cohort.patients_per_hospital=40",
        "data.cohort.phantom_public_patients=40",
        "data.cohort.image_size=64",
        "imaging.image_size=[32,32]",
        "rounds=5",
        "training.local_epochs=8",
    ),
}
FEW = (
    "data.cohort.patients_per_hospital=3",
    "data.cohort.phantom_public_patients=2",
    "evaluation.validation_fraction=0.0",
    "evaluation.site_evaluations=0",
    "rounds=1",
    "training.local_epochs=1",
)


def run(tmp_path, finding, *overrides):
    config = compose([f"experiment={finding}", *SMALL, *overrides, f"runs={tmp_path}"])
    made = simulate(config)
    return made, json.loads((made.path / "summary.json").read_text())


@pytest.mark.parametrize("finding", sorted(LEARNT))
def test_a_finding_is_scored_and_outlined(tmp_path, finding):
    _, summary = run(tmp_path, finding, *LEARNT[finding])
    assert summary["headline"] == "classification/auroc"
    # chance is .5 and 0; some forty patients, of whom a quarter misplaced would be .75
    assert summary["test"]["classification/auroc"] > 0.75
    assert summary["test"]["segmentation/dice"] > 0.15


@pytest.mark.parametrize("finding", sorted(BY_FINDING))
def test_next_to_no_file_of_a_finding_is_held_back(tmp_path, finding):
    """Not as a head: voxels stay at the site. Of plaques and vessels a slice in two hundred is taken for text, and no more."""
    made, _ = run(tmp_path, finding, *FEW)
    files = 16 if BY_FINDING[finding].modality == "CT" else 1
    for name in ("hospital-1", "hospital-2"):
        home = made.path / "sites" / name
        assert not list((home / "quarantine").iterdir())
        assert 3 * files - 2 <= len((home / "labels.jsonl").read_text().split()) <= 3 * files


@pytest.mark.parametrize("finding", sorted(BY_FINDING))
def test_every_finding_has_an_experiment_and_codes_for_its_release(finding):
    exam = BY_FINDING[finding]
    config = compose([f"experiment={finding}"])
    assert (config.data.cohort.finding, config.data.cohort.modalities) == (finding, (exam.modality,))
    assert config.model.heads[0] == "classification" and "segmentation" in config.model.heads
    assert config.data.value in (None, exam.measure)
    said = finding_file.read(finding)
    (coded,) = said.coded()
    assert coded.of_class == exam.classes[1]
    assert exam.modality in said.modalities and said.body_parts == (exam.body_part,)
    assert said.least_images <= config.data.cohort.slices
    assert (conf_folder() / "findings" / f"{finding}.yaml").is_file()
