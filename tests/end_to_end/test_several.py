"""Several tasks of one network as whole runs on the generated hospitals: each is learnt, measured and released."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedimg.cli import main
from fedimg.client_round import load
from fedimg.config import compose
from fedimg.coordination.terms import own_network, terms_of
from fedimg.home import SiteHome
from fedimg.simulation import simulate

SMALL = (
    "sites=3",
    "compare=false",
    "data.cohort.phantom_public_patients=24",
    "data.cohort.max_studies=1",
    "data.cohort.image_size=64",
    "imaging=small",
    "evaluation.every=10",
    "evaluation.bootstrap=50",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
)
HEADLINES = {"classification/auroc", "regression/mae", "segmentation/dice"}


def learnt(tmp_path, *overrides):
    config = compose(["experiment=several", *SMALL, f"runs={tmp_path / 'runs'}", *overrides])
    run = simulate(config)
    page = (run.path / "report.html").read_text()
    assert "NaN" not in page
    return config, run, json.loads((run.path / "summary.json").read_text()), page


def test_a_class_a_number_and_an_outline_are_learnt_at_once(tmp_path, capsys):
    config, run, summary, page = learnt(
        tmp_path,
        "data.cohort.patients_per_hospital=24",
        "secagg=none",
        "rounds=30",
        "training.local_epochs=4",
    )
    assert (summary["task"], summary["headline"]) == ("several", "classification/auroc")
    test = summary["test"]
    assert summary["test_intervals"].keys() == test.keys()
    # 72 patients; a constant has .5, 0 and 0
    assert test["classification/auroc"] > 0.85
    assert test["regression/r2"] > 0.3
    assert test["segmentation/dice"] > 0.4
    assert "Dice (segmentation)" in page
    assert "AUROC (classification) on the public test set" in page
    exact = held_out(config, run).metrics
    for name, close in (
        ("classification/auroc", 0.03),
        ("regression/mae", 1e-3),
        ("segmentation/dice", 0.03),
    ):
        # the release weighs patients, a classification's outputs weigh images
        weighed = 0.1 if name == "classification/auroc" else close
        assert summary["site_evaluation"][name] == pytest.approx(exact[name].value, abs=weighed)
    assert main(["verify", str(run.path)]) == 0
    assert main(["runs", "show", str(run.path)]) == 0
    capsys.readouterr()


def held_out(config, run):
    """The released model on the sites' held-out patients."""
    terms = terms_of(config, run.path.name)
    network = own_network(terms)
    vector = network.layout.flatten(load_file(run.path / "model.safetensors")).double().numpy()
    parts = [
        load(SiteHome.open(run.path / "sites" / f"hospital-{k}"), terms, network).validation
        for k in (1, 2, 3)
    ]
    outputs = np.concatenate([network.outputs(vector, part.images) for part in parts])
    labels = np.concatenate([part.labels.numpy() for part in parts])
    first = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.first_image) for part in parts]))])
    return terms.measure.of_outputs(outputs, labels, first, bootstrap=10, seed=0)


@pytest.mark.parametrize(
    "extra",
    [
        ("privacy=per_site", "secagg=none"),
        ("privacy=distributed", "secagg=pairwise"),
        ("privacy=per_site", "secagg=none", "model=scattering", "model.heads=[classification,regression]",
         "training.head_weights=[1,0.05]", "data.cohort.modalities=[CR]"),
    ],
)  # fmt: skip
def test_all_heads_go_through_the_lane_of_privacy_in_one_release(tmp_path, extra):
    """One charge a step and one an evaluation, whatever the number of heads; the record verifies."""
    few = ("data.cohort.patients_per_hospital=20", "rounds=3", "privacy.delta=1e-3", "privacy.sampling_rate=0.5", "privacy.epsilon=8")  # fmt: skip
    _, run, summary, _ = learnt(tmp_path, *few, *extra)
    assert summary["privacy"]["private"]
    assert all(0 < site["epsilon"] <= 8 for site in summary["sites"].values())
    assert summary["headline"] in summary["test"]
    assert summary["site_evaluation_round"] == 3
    record = json.loads((run.path / "record.json").read_text())["record"]
    steps = 3 * compose(["experiment=several", *SMALL, *few, *extra]).training.local_steps
    for site in record["sites"]:
        assert site["part"]["charged"] == {"train": steps, "evaluate": 1}
    assert main(["verify", str(run.path)]) == 0


def test_sites_whose_images_lack_outlines_take_part_with_what_they_have(tmp_path):
    """Without outlines of lesions the run goes on, and the other heads learn from the same images."""
    config, run, _, _ = learnt(
        tmp_path,
        "data.cohort.patients_per_hospital=8",
        "secagg=none",
        "rounds=1",
        "data.cohort.modalities=[CR]",
    )
    terms = replace(terms_of(config, run.path.name), validation_fraction=0.0)
    network = own_network(terms)
    homes = [SiteHome.open(run.path / "sites" / f"hospital-{k}") for k in (1, 2, 3)]
    labels = torch.cat([load(home, terms, network).train.labels for home in homes])
    of_class, number, outline = (labels[:, head.labels] for head in network.heads)
    missing = torch.isnan(outline)
    assert (missing.all(dim=1) == (of_class[:, 0] == 1)).all()  # a radiograph's lesion is drawn by nobody
    assert missing.any()
    assert not missing.all()
    assert not outline[~missing].any()
    assert ((number >= 0) & (number <= 1)).all()
