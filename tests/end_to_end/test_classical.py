"""Whole runs of classical models: the same lane as gradients, and without noise the model of pooled data."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from fedimg import server_round
from fedimg.classical import learner_of, open_mean
from fedimg.cli import main
from fedimg.client_round import load
from fedimg.config import compose
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import ConfigError
from fedimg.home import SiteHome
from fedimg.models.classical_config import CLASSICAL
from fedimg.simulation import simulate
from fedimg.simulation.references import pooled

RUN = (
    "sites=3",
    "compare=false",
    "data.cohort.patients_per_hospital=8",
    "data.cohort.phantom_public_patients=6",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CR]",
    "imaging.image_size=[32,32]",
    "model.classical.projected=10",
    "privacy.delta=1e-3",
    "evaluation.bootstrap=20",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
)
SHORT = {
    "decision_tree": ("rounds=2", "model.classical.depth=2"),
    "gradient_boosting": ("rounds=5", "model.classical.depth=2", "model.classical.trees=2"),
    "kmeans": ("rounds=3",),
    "logistic": ("rounds=3",),
    "svm": ("rounds=3",),
}


@pytest.fixture
def run_of(tmp_path):
    def run(name, *overrides):
        asked = [*RUN, f"experiment={name}", *SHORT.get(name, ()), f"runs={tmp_path / 'runs'}", *overrides]
        config = compose(asked)
        return config, simulate(config)

    return run


def last(path):
    file = max((path / "checkpoints").glob("*.safetensors"))
    return load_file(file)["parameters"].double().numpy()


def data_of(config, path):
    terms = terms_of(config, path.name)
    network = own_network(terms)
    homes = [SiteHome.open(path / "sites" / f"hospital-{k}") for k in (1, 2, 3)]
    return network, terms, pooled([load(home, terms, network) for home in homes]).train


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_a_federation_without_privacy_learns_what_pooled_data_would(run_of, name):
    """Through the sites' homes, their wire and the coordinator; sums of three sites of 8 declared patients each."""
    config, run = run_of(name, "privacy=none", "secagg=none")
    network, terms, everything = data_of(config, run.path)
    learner, vector = learner_of(network, terms.model), network.initial
    for number in range(1, terms.rounds + 1):
        mean = open_mean(learner, vector, number, everything, 24)
        vector = learner.updated(vector, number, mean)
    assert np.abs(last(run.path) - vector).max() < 1e-8
    assert {"auroc", "f1"} <= run.summary["test"].keys()


@pytest.mark.parametrize("name", ["ridge", "decision_tree", "kmeans"])
def test_secure_sums_bring_the_same_model(run_of, name):
    config, run = run_of(name, "privacy=none", "secagg=pairwise")
    network, terms, everything = data_of(config, run.path)
    learner, vector = learner_of(network, terms.model), network.initial
    for number in range(1, terms.rounds + 1):
        vector = learner.updated(vector, number, open_mean(learner, vector, number, everything, 24))
    assert np.abs(last(run.path) - vector).max() < 1e-8


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("ridge", "per_site"),
        ("gradient_boosting", "per_site"),
        ("svm", "distributed"),
        ("kmeans", "distributed"),
    ],
)
def test_with_privacy_each_round_is_one_charged_release_and_the_record_holds(run_of, name, mode):
    config, run = run_of(name, f"privacy={mode}", "privacy.sampling_rate=1.0")
    assert main(["verify", str(run.path)]) == 0
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [len(row["sites"]) for row in rows] == [3] * config.rounds
    assert max(rows[-1]["epsilon"].values()) <= config.privacy.epsilon
    assert np.isfinite(last(run.path)).all()


def test_the_noise_of_a_run_is_that_of_its_plan(run_of, monkeypatch):
    """Statistics of 300 runs' worth of cells: the released mean less the true one has the plan's deviation."""
    received = []
    checked = server_round.receive

    def receive(*arguments):
        found = checked(*arguments)
        received.append(found[0])
        return found

    monkeypatch.setattr(server_round, "receive", receive)
    config, run = run_of("extra_trees", "privacy=per_site", "secagg=none", "evaluation.site_evaluations=0")
    terms = terms_of(config, run.path.name)
    network = own_network(terms)
    learner = learner_of(network, terms.model)
    (updates,) = received
    assert [update.site for update in updates] == ["hospital-1", "hospital-2", "hospital-3"]
    for update in updates:
        home = SiteHome.open(run.path / "sites" / update.site)
        plan = json.loads((home.root / "plans" / f"{run.path.name}.json").read_text())
        std = (plan.get("plan") or plan)["noise_multiplier"] / 8
        true = open_mean(learner, network.initial, 1, load(home, terms, network).train, 8)
        noise = (update.vector - true) / std
        cells = len(noise)
        assert cells == 30 * 64 * 2
        # 5 deviations of the mean and of the variance of so many normal numbers
        assert abs(noise.mean()) < 5 / cells**0.5
        assert abs(noise.std() - 1) < 5 / (2 * cells) ** 0.5


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("rounds=2", "rounds=1"),
        ("aggregation=fedadam", "aggregation"),
        ("aggregation.weights=uniform", "aggregation"),
        ("training.local_steps=2", "local_steps"),
        ("privacy=client_level", "client_level"),
        ("imaging=augmented", "augmented"),
        ("engine.fused=true", "fused"),
        ("training.class_weights=[1,2]", "class_weights"),
    ],
)
def test_what_a_sum_of_statistics_cannot_take_is_refused_by_name(override, named):
    with pytest.raises(ConfigError, match=named):
        compose(["experiment=ridge", override])


def test_a_projection_to_more_numbers_than_there_are_is_refused():
    too_many = ["imaging.image_size=[8,8]", "model.classical.projected=4096", "secagg=none"]
    with pytest.raises(ConfigError, match="projected"):
        own_network(terms_of(compose(["experiment=ridge", *too_many]), "run"))


def test_audits_of_gradients_refuse_a_run_that_has_none(run_of, capsys):
    """They would train other models than the run did, and say that those pass."""
    _, run = run_of("extra_trees", "privacy=per_site", "secagg=none")
    for audit in ("membership", "inversion"):
        assert main(["audit", audit, str(run.path)]) == 2
        assert "model=extra_trees, which follows from sums" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_to_the_same_model(run_of):
    config, run = run_of("decision_tree", "privacy=none", "secagg=none", "insecure_test_mode=true")
    whole = last(run.path)

    def stop(stage, done, _total):
        if (stage, done) == ("rounds", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        simulate(config, stop)
    resumed = simulate(compose([f"resume={stopped.value.run_path}"]))
    assert np.array_equal(last(resumed.path), whole)
