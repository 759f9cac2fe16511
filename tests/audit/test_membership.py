"""Membership inference: against mechanisms whose leak is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fedimg.audit import membership
from fedimg.audit.generated import radiographs
from fedimg.audit.membership import (
    Shadows,
    claimed_curve,
    contradicts,
    likelihood_ratios,
    measured,
    patient_scores,
)
from fedimg.audit.recipe import Recipe, plan_for
from fedimg.models import ModelConfig, build_model
from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.training import LocalTraining


def shadows_of(shift, models=32, patients=1000, seed=0):
    """Scores N(patient's own mean, 1), `shift` higher under models with the patient."""
    generator = np.random.default_rng(seed)
    order = np.argsort(generator.random((models, patients)), axis=0)
    inside = order < models // 2
    own = generator.normal(0, 5, patients)
    return Shadows(own + shift * inside + generator.normal(size=(models, patients)), inside)


def test_the_attack_comes_close_to_the_best_one_on_a_gaussian_leak():
    """N(0,1) against N(2,1): the best attack has AUROC Φ(√2); 31 other models make it a little worse."""
    found = measured(shadows_of(2.0), 1e-5, np.random.default_rng(0))
    best = norm.cdf(np.sqrt(2))
    assert best - 0.02 < found.auroc <= best + 0.005
    (low, one) = found.rates
    for at in (low, one):
        allowed = norm.sf(norm.isf(at.aimed) - 2)
        assert at.false_positive.low < at.aimed < at.false_positive.high
        assert 0.6 * allowed < at.true_positive.value < 1.3 * allowed
    # μ = 2 is ε = 8.4 at 10⁻⁵: the bound from two thresholds is below it, and not empty
    assert 2 < found.epsilon_low < 8.4


def test_without_a_leak_nothing_is_found():
    """Chance of a false alarm of the bound: 5 %, were the seed not fixed."""
    found = measured(shadows_of(0.0), 1e-5, np.random.default_rng(0))
    assert abs(found.auroc - 0.5) < 0.02
    assert found.epsilon_low == 0


def test_the_target_is_never_among_its_own_shadow_models():
    """A score that is moved moves its own ratio only through itself, and the other models' through the means."""
    shadows = shadows_of(1.0, models=8, patients=50)
    before = likelihood_ratios(shadows)
    shadows.statistics[3, 7] += 1e3
    after = likelihood_ratios(shadows)
    others = np.arange(50) != 7
    assert np.array_equal(before[3, others], after[3, others])


def test_a_patient_is_in_exactly_half_of_the_models(monkeypatch):
    trained = []

    class Recorded:
        network = None

        def trained(self, dataset, _entropy):
            trained.append(set(dataset.patient_keys))
            return np.zeros(1)

    monkeypatch.setattr(membership, "patient_scores", lambda *_: np.zeros(30))
    shadows = membership.shadow_models(
        Recorded(), radiographs(30, 0), 8, InsecureSeededEntropy(0, "membership")
    )
    assert np.array_equal(shadows.inside.sum(axis=0), np.full(30, 4))
    for k, keys in enumerate(trained):
        assert keys == {f"generated-00-{u:06d}" for u in np.flatnonzero(shadows.inside[k])}


def test_a_patients_score_is_the_mean_over_their_images():
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(32, 32)), 0)
    dataset = radiographs(6, 0)
    grouped = type(dataset)(dataset.images, dataset.labels, ("a", "b"), np.array([0, 4, 6]))
    vector = network.initial + 0.1 * np.random.default_rng(0).normal(size=network.number_of_parameters)
    single = patient_scores(network, vector, dataset)
    p = network.probabilities(vector, dataset.images)[np.arange(6), dataset.labels.numpy()]
    assert single == pytest.approx(np.log(p / (1 - p)), rel=1e-4, abs=1e-5)
    assert patient_scores(network, vector, grouped) == pytest.approx([single[:4].mean(), single[4:].mean()])


def test_a_leak_is_held_against_the_claimed_curve():
    """A full-batch step with σ = ½ is μ = 2 to the attacker: claimed with σ = ½ it stands, with σ = 1 it falls."""
    found = measured(shadows_of(2.0), 1e-5, np.random.default_rng(0))
    honest = replace(plan_for(8.4, 1e-5, 1000, 1, 1.0, 0.1), noise_multiplier=0.5)
    assert claimed_curve(honest).power(0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=1e-3)
    assert not contradicts(found, honest)
    assert contradicts(found, replace(honest, noise_multiplier=1.0))


def test_a_recipe_trains_and_a_private_one_is_noised():
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(32, 32)), 0)
    dataset = radiographs(24, 0)
    open_ = Recipe(network, LocalTraining(batch_size=8), 1)
    plan = plan_for(4.0, 1e-3, 24, 2, 0.5, 0.1)
    private = Recipe(network, LocalTraining(), 2, plan)
    assert plan.epsilon <= 4
    first = open_.trained(dataset, InsecureSeededEntropy(0, "a"))
    assert np.array_equal(first, open_.trained(dataset, InsecureSeededEntropy(0, "a")))
    assert not np.array_equal(first, network.initial)
    noised = [private.trained(dataset, InsecureSeededEntropy(seed, "a")) for seed in (0, 1)]
    # the difference of two runs is noise, mostly: √(2·steps)·σ·C·rate ÷ (q·n) on each parameter
    spread = np.std(noised[0] - noised[1])
    step = private.training.learning_rate / (0.5 * 24)
    assert spread == pytest.approx(np.sqrt(2 * 2) * plan.noise_multiplier * 0.1 * step, rel=0.15)
    assert torch.isfinite(torch.from_numpy(noised[0])).all()
