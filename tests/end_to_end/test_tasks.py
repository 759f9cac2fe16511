"""Every task as a whole run on the generated hospitals: it learns, is measured, and its sites' release says the same."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from fedimg.client_round import load
from fedimg.config import compose
from fedimg.coordination.terms import own_network, terms_of
from fedimg.home import SiteHome
from fedimg.simulation import simulate

SMALL = (
    "sites=3",
    "compare=false",
    "data.cohort.patients_per_hospital=24",
    "data.cohort.phantom_public_patients=24",
    "data.cohort.modalities=[CR]",
    "data.cohort.max_studies=1",
    "imaging=small",
    "evaluation.every=4",
    "evaluation.bootstrap=50",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
    "secagg=none",
)
"""Radiographs of 32 pixels, a lesion in half of them."""


FORTY = "data.cohort.patients_per_hospital=40"


def learnt(tmp_path, experiment, *overrides):
    config = compose([f"experiment={experiment}", *SMALL, f"runs={tmp_path / 'runs'}", *overrides])
    run = simulate(config)
    page = (run.path / "report.html").read_text()
    assert "NaN" not in page
    return config, run, json.loads((run.path / "summary.json").read_text()), page


def test_voxels_are_learnt_and_their_overlap_is_measured(tmp_path):
    slices = (
        "data.cohort.modalities=[CT]",
        "data.cohort.patients_per_hospital=16",
        "model.width=4",
        "rounds=10",
    )
    config, run, summary, page = learnt(tmp_path, "segmentation", *slices)
    assert (summary["task"], summary["headline"]) == ("segmentation", "dice")
    assert summary["test"]["dice"] > 0.5  # 48 patients, ten rounds; an empty map has 0
    low, high = summary["test_intervals"]["dice"]
    assert low <= summary["test"]["dice"] <= high
    assert "hd95_voxels" in summary["test"]
    assert "Dice on the public test set" in page
    assert summary["site_evaluation"]["dice"] == pytest.approx(
        held_out(config, run).metrics["dice"].value,
        abs=0.5 / (config.evaluation.bins - 1),  # half a bin of Dice
    )


def held_out(config, run):
    """The released model on the sites' held-out patients, who are in the data of nobody else here."""
    terms = terms_of(config, run.path.name)
    network = own_network(terms)
    vector = load_file(max((run.path / "checkpoints").glob("*.safetensors")))["parameters"].double().numpy()
    parts = [
        load(SiteHome.open(run.path / "sites" / f"hospital-{k}"), terms, network).validation
        for k in (1, 2, 3)
    ]
    outputs = np.concatenate([network.outputs(vector, part.images) for part in parts if len(part.images)])
    labels = np.concatenate([part.labels.numpy() for part in parts if len(part.images)])
    counts = np.concatenate([np.diff(part.first_image) for part in parts])
    first = np.concatenate([[0], np.cumsum(counts)])
    return terms.measure.of_outputs(outputs, labels, first, bootstrap=10, seed=0)


def test_findings_are_located_and_their_release_says_so_too(tmp_path):
    config, run, summary, _ = learnt(tmp_path, "detection", "model.width=4", "rounds=8")
    assert summary["test"]["sensitivity_at_1"] > 0.6
    assert 0 <= summary["test"]["ap50"] <= summary["test"]["ap10"] <= 1
    exact = held_out(config, run).metrics["sensitivity_at_1"].value
    assert summary["site_evaluation"]["sensitivity_at_1"] == pytest.approx(exact, abs=0.1)


def test_a_number_is_learnt_in_its_own_units(tmp_path):
    config, run, summary, _ = learnt(tmp_path, "regression", "rounds=15", FORTY)
    diameters = summary["test"]
    assert diameters["r2"] > 0.5  # a constant has 0
    assert diameters["mae"] < 15
    assert summary["site_evaluation"]["mae"] == pytest.approx(
        held_out(config, run).metrics["mae"].value, rel=1e-4
    )


def test_several_findings_are_learnt_at_once(tmp_path):
    _, _, summary, page = learnt(tmp_path, "multilabel", "rounds=12", FORTY)
    assert summary["test"]["auroc"] > 0.7
    assert {"auroc_0", "auroc_1"} <= summary["test"].keys()
    assert "AUROC, large lesion" in page


@pytest.mark.parametrize(
    ("experiment", "extra"),
    [
        (
            "segmentation_private",
            ("privacy=per_site", "data.cohort.modalities=[CT]", "imaging.image_size=[32,32]"),
        ),
        (
            "detection",
            ("privacy=distributed", "secagg=pairwise", "model=filter_bank", "model.task=detection"),
        ),
        ("regression", ("privacy=per_site",)),
        ("multilabel", ("privacy=distributed", "secagg=pairwise")),
    ],
)
def test_every_task_goes_through_the_lane_of_privacy(tmp_path, experiment, extra):
    """Charged, noised and released like any other: ε as declared, and a report that says where noise hides a figure."""
    few = ("rounds=3", "privacy.delta=1e-3", "privacy.sampling_rate=0.5", "privacy.epsilon=8")
    _, _, summary, _ = learnt(tmp_path, experiment, *few, *extra)
    assert summary["privacy"]["private"]
    assert all(0 < site["epsilon"] <= 8 for site in summary["sites"].values())
    assert summary["headline"] in summary["test"]
    assert summary["site_evaluation_round"] == 3
