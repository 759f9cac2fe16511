"""CT and MR as one example, and a table beside images, as whole runs: what both know, and one alone cannot."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from fedimg.client_round import load
from fedimg.cohort.beside import Beside
from fedimg.config import agreed, compose
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import ConfigError, MessageError
from fedimg.home import SiteHome
from fedimg.simulation import simulate

SMALL = (
    "sites=3",
    "compare=false",
    "data.cohort.patients_per_hospital=50",
    "data.cohort.phantom_public_patients=80",
    "data.cohort.noise=0.5",
    "rounds=15",
    "evaluation.every=15",
    "evaluation.bootstrap=20",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
    "secagg=none",
)


def learnt(tmp_path, *overrides):
    config = compose([*SMALL, f"runs={tmp_path / 'runs'}", f"state={tmp_path / 'state'}", *overrides])
    run = simulate(config)
    assert "NaN" not in (run.path / "report.html").read_text()
    return config, run, json.loads((run.path / "summary.json").read_text())


def ceiling(config, what, seed=0):
    """What an AUROC on the public set can be for who sees the findings that show in `what` alone, and guesses the others.

    It is 1 for findings that show and ½ for others; who has no such modality is not in that set at all.
    """
    cohort = config.data.cohort
    drawn = [
        Beside.draw([seed, 1 << 20, n], cohort, sick=True) for n in range(cohort.phantom_public_patients)
    ]
    shown = np.mean([one.sign == what for one in drawn if one.left_out != what])
    return shown + (1 - shown) / 2


def test_two_modalities_know_what_one_cannot_and_some_patients_lack_one(tmp_path):
    config, run, summary = learnt(tmp_path, "experiment=multimodal")
    # one modality has .75 of it, on the average over cohorts; with one missing in a tenth of patients .95 is the most
    assert summary["test"]["auroc"] > 0.88
    terms = terms_of(config, run.path.name)
    site = load(SiteHome.open(tmp_path / "state" / "hospital-1"), terms, own_network(terms))
    # of the cohort's spare patients, whose one file is broken, those count who have the other modality
    assert 50 < site.train.number_of_patients + site.validation.number_of_patients <= 54
    alone, _, only = learnt(tmp_path, "experiment=multimodal", "imaging.together=[CT]")
    assert alone.model.channels == 2
    # a standard error of .05 for 78 patients (Hanley and McNeil 1982), of findings that happen to be more often in CT
    assert only["test"]["auroc"] < ceiling(alone, "CT") + 0.1
    assert only["test"]["auroc"] < summary["test"]["auroc"] - 0.05


IMAGE_ONLY = (
    *("model=scattering", "imaging=small", "privacy=none", "aggregation=fedavg"),
    *("data.cohort.modalities=[CR]", "data.cohort.signs=[CR,table]", "data.cohort.max_studies=1"),
    *(
        "training.learning_rate=0.002",
        "training.momentum=0.9",
        "training.local_epochs=3",
        "training.batch_size=16",
    ),
)
"""`experiment=image_and_table`, but for the table."""


def test_an_image_and_a_table_know_what_an_image_alone_cannot(tmp_path):
    config, _, summary = learnt(tmp_path, "experiment=image_and_table")
    assert config.model.features == 2
    assert summary["test"]["auroc"] > 0.9  # .75 for either alone, on the average over cohorts
    alone, _, only = learnt(tmp_path / "alone", *IMAGE_ONLY)
    assert alone.data.cohort == config.data.cohort and alone.training == config.training
    assert only["test"]["auroc"] < ceiling(alone, "CR") + 0.1
    assert only["test"]["auroc"] < summary["test"]["auroc"] - 0.05


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=image_and_table", "privacy=distributed", "secagg=pairwise"),
        ("experiment=image_and_table", "model=cnn", "model.width=4", "privacy=per_site"),
        (
            *("experiment=multimodal", "model=cnn", "model.width=4", "privacy=per_site"),
            *("imaging.augmentation.modality_dropout=0.3", "imaging.augmentation.copies=2"),
            *("imaging.augmentation.rotation_degrees=5", "data.features={marker: [0, 5]}"),
        ),
    ],
)
def test_they_go_through_the_lane_of_privacy(tmp_path, overrides):
    """Charged, noised and released like any other."""
    few = ("rounds=2", "privacy.delta=1e-3", "privacy.sampling_rate=0.5", "privacy.epsilon=8")
    sizes = ("data.cohort.patients_per_hospital=16", "data.cohort.phantom_public_patients=12")
    _, _, summary = learnt(
        tmp_path, *overrides, *few, *sizes, "training.local_steps=1", "training.momentum=0"
    )
    assert summary["privacy"]["private"]
    assert all(0 < site["epsilon"] <= 8 for site in summary["sites"].values())
    assert summary["site_evaluation_round"] == 2
    assert 0 <= summary["test"]["auroc"] <= 1


SETTINGS = """
# chest.yaml: fedimg simulate settings=chest.yaml
defaults:
  - data: images
  - model: scattering
  - imaging: small
  - privacy: none
data:
  path: {folder}
  features: {{age: [0, 100], marker: [0, 5]}}   # columns of labels.csv, with public bounds
  declared_public: true
  declared_patients: 18
training: {{learning_rate: 0.002, momentum: 0.9, local_epochs: 3}}
rounds: 6
compare: false
"""


def test_a_folder_of_images_with_a_table_of_features_by_one_file_alone(tmp_path):
    """The marker says it all; a cell is empty, one is no number, one beyond every bound, and none stops a site."""
    rng = np.random.default_rng(0)
    rows = [("path", "patient_id", "label", "age", "marker", "site", "split")]
    (tmp_path / "images").mkdir()
    bad = {3: "", 4: "not done", 5: "inf", 6: "1e9"}
    chest = np.kron(rng.uniform(60, 180, (4, 4)), np.ones((16, 16)))
    for n in range(60):
        label, split = n % 2, "public" if n >= 36 else "train"
        Image.fromarray((chest + rng.normal(0, 4, (64, 64))).clip(0, 255).astype(np.uint8)).save(
            tmp_path / "images" / f"{n}.png"
        )
        marker = bad.get(n, f"{rng.normal(1.5 + 2 * label, 0.4):.2f}")
        rows.append(
            (f"{n}.png", f"P{n}", label, rng.integers(20, 90), marker, ("north", "south")[n % 4 // 2], split)
        )
    with (tmp_path / "images" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    settings = tmp_path / "chest.yaml"
    settings.write_text(SETTINGS.format(folder=tmp_path / "images"))
    _, run, summary = learnt_by(tmp_path, f"settings={settings}")
    assert set(summary["sites"]) == {"north", "south"}
    assert summary["test"]["auroc"] > 0.9  # the images are one and the same, but for noise
    labels = (run.path / "sites" / "north" / "labels.jsonl").read_text()
    assert '"features":{"age":' in labels and "not done" not in labels and "1e9" not in labels
    # what a site was asked to release is all that the run's folder has of it
    outside = [p for p in run.path.rglob("*") if p.is_file() and "sites" not in p.parts]
    assert not any(b'marker":' in p.read_bytes() for p in outside if p.suffix in (".json", ".html", ".cbor"))


def learnt_by(tmp_path, *overrides):
    config = compose([*overrides, f"runs={tmp_path / 'runs'}", "deid.workers=0", "audit.battery=false",
                      "audit.empirical=false", "evaluation.bootstrap=20", "evaluation.every=6", "secagg=none"])  # fmt: skip
    run = simulate(config)
    return config, run, json.loads((run.path / "summary.json").read_text())


def test_several_modalities_of_data_without_files_are_refused():
    together = ("imaging.unit=patient", "imaging.together=[CT,MR]")
    with pytest.raises(ConfigError, match="data of files, which say what modality they are"):
        compose(["data=medmnist", *together])
    with pytest.raises(ConfigError, match=r"model.channels=4 and model.features=1.*found 3 and 1"):
        compose([*together, "data.features={age: [0, 100]}", "model.channels=3"])
    assert compose([*together, "data.features={age: [0, 100]}"]).imaging.shape[0] == 6


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model", {"channels": 3}),
        ("model", {"features": 0}),
        ("imaging", {"together": ["CT"]}),
        ("imaging", {"features": {"Jane Doe": [0, 1]}}),
        ("imaging", {"features": {"age": [0, 0]}}),
        ("imaging", {"unit": "hospital"}),
    ],
)
def test_a_site_takes_terms_of_modalities_that_fit_together_and_no_others(section, change):
    asked = ("experiment=multimodal", "model=cnn", "data.features={age: [0, 100]}", "secagg=none")
    terms = terms_of(compose([*asked, "imaging.augmentation.modality_dropout=0.2"]), "run-1")
    values = agreed.plain(terms)
    assert agreed.read(values) == terms and agreed.read(values).digest == terms.digest
    with pytest.raises(MessageError, match="the terms of a run"):
        agreed.read(values | {section: values[section] | change})
