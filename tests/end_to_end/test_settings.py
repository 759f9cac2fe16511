"""What stands under "Settings" in a report, against what the run is given to use."""

from dataclasses import replace

import pytest
import torch

from fedimg.config import compose
from fedimg.coordination import settings
from fedimg.errors import ConfigError, FederationError
from fedimg.training import train_private
from fedimg.values import NoisedSum


class Session:
    """A session whose noised gradient is all ones, so that one step moves by the learning rate."""

    class plan:
        expected_batch_size = 1.0

    def gradient_step(self, params, dataset, network):
        return NoisedSum(torch.ones(2, dtype=torch.float64).numpy(), 1.0, "1-0")


@pytest.mark.parametrize("private_rate", ["0.3", "null"])
def test_a_private_run_prints_the_rate_that_its_steps_take(private_rate):
    config = compose([f"training.private_learning_rate={private_rate}", "training.local_steps=1"])
    moved = train_private(None, torch.zeros(2), None, Session(), config.training)
    assert float(dict(settings.rows(config))["local learning rate"]) == pytest.approx(-float(moved[0]))


def test_an_open_run_prints_what_open_training_uses():
    shown = dict(settings.rows(compose(["privacy=none", "training.batch_size=7", "training.local_epochs=3"])))
    assert shown["local learning rate"] == "0.02"
    assert (shown["batch size"], shown["local epochs"]) == ("7 images", "3")
    assert not {"clip norm C", "local steps a round", "sampling"} & shown.keys()


def test_a_private_run_prints_its_sampling_and_no_batch_of_open_training():
    shown = dict(settings.rows(compose(["privacy.sampling_rate=0.25"])))
    assert shown["sampling"] == "each patient with probability 0.25 in a step"
    assert not {"batch size", "local epochs"} & shown.keys()
    config = compose([])
    by_size = dict(settings.rows(replace(config, privacy=replace(config.privacy, sampling_rate=None))))
    assert by_size["sampling"] == "64 patients expected in a step"


def test_the_term_of_fedprox_is_named_where_it_acts():
    assert dict(settings.rows(compose(["training=fedprox"])))["FedProx μ"] == "0.01"
    assert "FedProx μ" not in dict(settings.rows(compose([])))


def test_how_the_recipe_came_to_be_is_told():
    shown = dict(
        settings.rows(compose(["experiment=scattering_private", "imaging=augmented", "aggregation.ema=0.9"]))
    )
    assert shown["experiment"] == "scattering_private"
    assert shown["settings chosen on"].startswith("public photographs of garments")
    assert shown["features' centre"] == "learnt in the first 40 rounds"
    assert shown["server momentum"] == "0.9"
    assert shown["released model"] == "debiased average of the rounds' models, β = 0.9"
    assert shown["augmented copies of an image"] == "4"
    plain = dict(settings.rows(compose(["aggregation=fedavg"])))
    assert plain.keys().isdisjoint(
        {
            "experiment",
            "settings chosen on",
            "server momentum",
            "released model",
            "augmented copies of an image",
        }
    )


def test_modalities_and_features_are_told_with_their_public_bounds():
    asked = (
        "imaging.unit=patient",
        "imaging.together=[CT,MR]",
        "imaging.augmentation.modality_dropout=0.25",
        "model=cnn",
        "data.features={marker: [0, 5]}",
    )
    shown = dict(settings.rows(compose(list(asked))))
    assert shown["one example a patient, of"] == "CT, MR"
    assert shown["numbers beside the image"] == "marker (0 to 5)"
    assert shown["modality taken for missing"] == "each at a rate of 0.25"


def test_robust_aggregation_runs_and_is_refused_where_updates_are_not_seen_one_by_one(small_run, config):
    run = small_run("sites=3", "rounds=2", "aggregation.robust=median")
    assert run.summary["test"]["auroc"] >= 0
    assert "median, against 1" in (run.path / "report.html").read_text()
    for wrong in (
        ("secagg=pairwise",),
        ("privacy=client_level",),
        ("privacy=none", "engine.fused=true"),
    ):
        with pytest.raises(ConfigError, match="updates that the coordinator sees one by one"):
            config("sites=3", "aggregation.robust=median", *wrong)
    with pytest.raises(FederationError, match=r"updates of at least 3 sites for aggregation\.robust=median"):
        small_run("sites=2", "rounds=2", "aggregation.robust=median")
