"""Joining: what a site refuses, it refuses before anything is reserved."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedimg import client_round
from fedimg.client_round import Terms
from fedimg.errors import ConfigError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.imaging.config import AugmentationConfig, ImagingConfig
from fedimg.models import ModelConfig
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.request import PrivacyRequest
from fedimg.training import LocalTraining
from fedimg.training.rehearsal import Rehearsal

POLICY = "declared_patients: 100\nmin_noise_multiplier: {least}\n"
TERMS = Terms(
    run_id="run",
    rounds=2,
    model=ModelConfig(name="cnn", width=4, image_size=(16, 16)),
    training=LocalTraining(),
    imaging=ImagingConfig(image_size=(16, 16)),
    privacy=PrivacyRequest(rounds=2, epsilon=2.0, delta=1e-5, sampling_rate=0.2, engine="vmap"),
    deid_profile="train",
    validation_fraction=0.2,
    bins=8,
    seed=0,
)


@pytest.fixture
def home(tmp_path):
    made = SiteHome.create(tmp_path / "home", simulated=False)
    made.policy.write_text(POLICY.format(least=0.3))
    Ledger.create(made.ledger, made.signing_key, LedgerTerms(4.0, 1e-5, 8)).disconnect()
    return made


def join(home, terms=TERMS):
    site = client_round.join(home, "a", terms, torch.device("cpu"))
    site.ledger.disconnect()
    return site


def reserved(home):
    ledger = Ledger.open(home.ledger, home.signing_key)
    runs = set(ledger.statement.runs)
    ledger.disconnect()
    return runs


def test_joining_reserves_the_run_once(home):
    join(home)
    join(home)
    assert reserved(home) == {"run"}


def test_what_fails_on_a_dummy_patient_fails_before_anything_is_reserved(home, monkeypatch):
    def fails(self, _dummies):
        raise RuntimeError("no rule for this operator")

    monkeypatch.setattr(Rehearsal, "_train_private", fails)
    with pytest.raises(ConfigError, match="RuntimeError: no rule for this operator"):
        join(home)
    assert reserved(home) == set()
    assert not (home.root / "plans").exists()


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, training=LocalTraining(class_weights=(1.0, 2.0, 3.0))),
        replace(
            TERMS,
            model=ModelConfig(name="scattering", image_size=(16, 16)),
            imaging=ImagingConfig(image_size=(16, 16), augmentation=AugmentationConfig(copies=2)),
        ),
    ],
    ids=["class weights", "augmentation behind frozen features"],
)
def test_settings_that_do_not_fit_together_are_refused_before_anything_is_reserved(home, terms):
    with pytest.raises(ConfigError):
        join(home, terms)
    assert reserved(home) == set()


def test_a_plan_is_judged_again_by_a_policy_that_became_stricter(home):
    join(home)
    home.policy.write_text(POLICY.format(least=50.0))
    with pytest.raises(PolicyRefused, match="a noise multiplier of at least 50"):
        join(home)
