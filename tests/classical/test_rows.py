"""A patient's row: no longer than 1, the mean over his images, alone, and nothing of what is not finite."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.classical import learner as learning
from fedimg.classical import learner_of, open_mean, patient_rows, rounds_of
from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model
from fedimg.models.classical_config import CLASSICAL, ClassicalConfig

BOUNDED = sorted(CLASSICAL - {"svm"})
OWN = ClassicalConfig(features="pixels", projected=0, trees=3, depth=3, bins=5, clusters=3, components=2)


def built(name, classes=3, size=4):
    config = ModelConfig(name=name, classes=classes, image_size=(1, size), classical=OWN)
    network = build_model(config, 0)
    return network, learner_of(network, config), rounds_of(config)[1] or 6


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(BOUNDED),
    classes=st.integers(2, 4),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 50.0, 1e20]),
    seed=st.integers(0, 2**32 - 1),
    round_share=st.floats(0, 1),
    values=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_no_image_adds_a_row_longer_than_one(name, classes, scale, seed, round_share, values):
    """Whatever the features are, and wherever the model stands."""
    network, learner, rounds = built(name, classes)
    chance = np.random.default_rng(seed)
    number = 1 + int(round_share * (rounds - 1))
    vector = network.initial + values * chance.normal(size=network.initial.shape)
    if "tree" in name or "boosting" in name:  # splits are features and edges of theirs
        vector = network.initial.copy()
    features = np.float32(scale * chance.normal(size=(20, 4))).astype(np.float64)
    rows = learner.rows(vector, number, features, chance.integers(0, classes, 20))
    assert rows.shape == (20, learner.update_size)
    assert np.linalg.norm(rows, axis=1).max() <= 1 + 1e-12


def test_rows_of_grown_trees_are_no_longer_than_one_and_as_long(fitted, examples):
    features, labels = examples(300, 4, 3, 1)
    model = fitted("gradient_boosting", features, labels, classes=3, trees=3, depth=3, bins=6)
    for number in range(2, model.rounds + 1):
        rows = model.learner.rows(model.server.vector, number, features.astype(np.float64), labels)
        lengths = np.linalg.norm(rows, axis=1)
        assert lengths.max() <= 1 + 1e-12
    tree = fitted("decision_tree", features, labels, classes=3)
    rows = tree.learner.rows(tree.server.vector, 2, features.astype(np.float64), labels)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_a_patient_counts_once_however_many_images_he_has(name, site):
    network, learner, rounds = built(name)
    chance = np.random.default_rng(0)
    features, labels = chance.normal(size=(9, 4)), chance.integers(0, 3, 9)
    data = site(features, labels, [1, 4, 0, 3, 1])
    number = min(2, rounds)
    (rows,) = patient_rows(learner, network.initial, number, data)
    each = learner.rows(network.initial, number, np.float32(features).astype(np.float64), labels)
    expected = [each[:1].mean(axis=0), each[1:5].mean(axis=0), each[5:8].mean(axis=0), each[8]]
    assert np.abs(rows - expected).max() < 1e-15
    (some,) = patient_rows(learner, network.initial, number, data, np.array([1, 2, 4]))
    assert np.array_equal(some, rows[[1, 3]])


def test_blocks_do_not_change_the_rows_and_are_as_small_as_asked(site, monkeypatch):
    network, learner, _ = built("ridge")
    chance = np.random.default_rng(1)
    data = site(chance.normal(size=(40, 4)), chance.integers(0, 3, 40), [2] * 15 + [10])
    whole = np.concatenate(list(patient_rows(learner, network.initial, 1, data)))
    monkeypatch.setattr(learning, "_BLOCK", 6 * learner.update_size)
    parts = list(patient_rows(learner, network.initial, 1, data))
    assert [len(part) for part in parts] == [3] * 5 + [
        1
    ]  # who has more images than a block holds comes in parts
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-15


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_who_has_a_feature_that_is_not_finite_adds_nothing(name, bad, site):
    network, learner, rounds = built(name)
    features, labels = np.ones((4, 4)), np.array([0, 1, 2, 0])
    features[1, 2] = bad
    data = site(features, labels, [1, 2, 1])
    number = min(2, rounds)
    (rows,) = patient_rows(learner, network.initial, number, data)
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2]]).all()
    mean = open_mean(learner, network.initial, number, data, 8)
    assert np.allclose(mean, rows[[0, 2]].sum(axis=0) / 8)


@pytest.mark.parametrize("name", sorted(CLASSICAL))
@pytest.mark.parametrize("value", [-1e15, -7.0, 1e15, 4.0, 0.5])
def test_whatever_a_coordinator_sends_every_patient_gets_a_row(name, value, site):
    """An error in some patients' way through the model would tell where their images are."""
    network, learner, rounds = built(name)
    chance = np.random.default_rng(2)
    data = site(chance.normal(size=(30, 4)), chance.integers(0, 3, 30))
    for number in (1, rounds):
        vector = np.where(chance.random(network.initial.shape) < 0.5, value, network.initial)
        told = []
        (rows,) = patient_rows(learner, vector, number, data, failed=told.append)
        assert rows.shape == (30, learner.update_size)
        assert told == []


def test_who_makes_a_learner_fail_adds_nothing_and_the_others_do(site):
    network, learner, _ = built("decision_tree")
    labels = np.array([0, 1, 9, 2])  # no class 9: its cell is nowhere
    data, told = site(np.ones((4, 4)), labels, [1, 2, 1]), []
    (rows,) = patient_rows(learner, network.initial, 1, data, failed=told.append)
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2]]).all()
    assert {type(fault) for fault in told} == {IndexError}


def test_a_sum_of_more_values_than_a_site_can_hold_is_refused():
    own = ClassicalConfig(features="pixels", projected=0, depth=12, bins=256)
    config = ModelConfig(name="decision_tree", image_size=(8, 8), classical=own)
    with pytest.raises(ConfigError, match="values in a round"):
        learner_of(build_model(config, 0), config)


@pytest.mark.parametrize("name", sorted(CLASSICAL))
@pytest.mark.parametrize("sites", [(), (0,)])
def test_a_site_without_patients_adds_zeros(name, sites, site):
    network, learner, _ = built(name)
    data = site(np.zeros((0, 4)), [], sites)
    assert list(patient_rows(learner, network.initial, 1, data)) == []
    assert not open_mean(learner, network.initial, 1, data, 5).any()


@pytest.mark.parametrize("name", sorted(CLASSICAL))
@pytest.mark.parametrize("noise", [1.0, 100.0])
def test_noise_leaves_a_model_of_finite_numbers_that_scores(name, noise, fitted, examples):
    """Also where it drowns everything: counts below zero, curvature without a sign."""
    features, labels = examples(60, 4, 3, 2)
    model = fitted(name, features, labels, noise=noise, classes=3, trees=2, components=2)
    scores = model.probabilities(features)
    assert np.isfinite(model.server.vector).all()
    assert np.isfinite(scores).all()
    assert np.allclose(scores.sum(axis=1), 1)


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_a_model_learns_and_a_checkpoint_is_the_model(name, fitted, examples):
    features, labels = examples(800, 5, 2, 3)
    model = fitted(name, features, labels, trees=20, depth=4, clusters=24, components=4)
    right = (model.probabilities(features).argmax(axis=1) == labels).mean()
    assert right > 0.62, right  # half of it by chance
    again = type(model.server)(model.learner, model.network.initial)
    again.restore(model.server.state())
    assert np.array_equal(again.vector, model.server.vector)


def test_features_are_public_draws_that_keep_lengths(examples):
    config = ModelConfig(name="ridge", image_size=(28, 28), classical=ClassicalConfig(projected=32))
    one, two, other = build_model(config, 5), build_model(config, 5), build_model(config, 6)
    images = torch.sin(torch.arange(3 * 784, dtype=torch.float32)).reshape(3, 1, 28, 28)
    assert torch.equal(one.features(images), two.features(images))
    assert not torch.equal(one.features(images), other.features(images))
    assert one.feature_shape == (32,)
    pixels = ModelConfig(
        name="ridge",
        image_size=(1, 6),
        classical=ClassicalConfig(
            features="pixels", projected=0, kernel="rbf", kernel_features=4096, gamma=0.1
        ),
    )
    x, _ = examples(6, 6, 2, 4)
    found = build_model(pixels, 0).features(torch.from_numpy(x).reshape(6, 1, 1, 6)).numpy()
    gram = np.exp(-0.1 * ((x[:, None] - x[None]) ** 2).sum(axis=2))
    assert np.abs(found @ found.T / 4096 - gram).max() < 0.1  # four deviations of 1/√4096 and more
