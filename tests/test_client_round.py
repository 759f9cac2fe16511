"""Joining and answering: what a site refuses, it refuses before data is read, and the wire carries an absence."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedimg import client_round
from fedimg.client_round import Terms
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.errors import BudgetExhausted, ConfigError, LedgerError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.imaging.config import AugmentationConfig, ImagingConfig
from fedimg.models import ModelConfig
from fedimg.operator_log import read_operator_log
from fedimg.privacy.calibration import TRAIN
from fedimg.privacy.ledger import Head, Ledger, LedgerTerms
from fedimg.privacy.request import PrivacyRequest
from fedimg.site_data import Loaded
from fedimg.training import LocalTraining
from fedimg.training.rehearsal import Rehearsal
from fedimg.values import NoisedUpdate, OpenUpdate, RoundInstructions, SiteDataset

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
    def fails(self, _part, _dummies):
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


def loaded(home, classes=(0, 1), patients=12):
    """Patients of one generated image each, a third of them held out."""
    images = torch.randn(patients, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([classes[n % len(classes)] for n in range(patients)], dtype=torch.int64)
    names = tuple(f"p{n:02d}" for n in range(patients))
    whole = SiteDataset(images, labels, names, np.arange(patients + 1, dtype=np.int64))
    rows = np.arange(patients, dtype=np.int64)
    train, held = whole.of_patients(rows[rows % 3 > 0]), whole.of_patients(rows[rows % 3 == 0])
    keys = LedgerKeys(home.site_key)
    return Loaded(train, held, Counter(), 1.0, {name: keys.of("", name) for name in names})


def joined(home, terms=TERMS, **kind):
    return client_round.join(home, "a", terms, torch.device("cpu"), loaded(home, **kind))


def question(site, number=1, task="train", shift=0.0):
    vector = np.asarray(site.network.initial, dtype=np.float64) + shift
    return RoundInstructions(site.terms.run_id, number, task, site.terms.digest, vector).to_bytes()


class Opened:
    """Every path that this process opens below a folder, while it is watched."""

    def __init__(self, root):
        self.root, self.paths, self.watching = str(root), [], False
        sys.addaudithook(self._heard)  # for good, and silent outside of the block

    def _heard(self, event, arguments):
        if self.watching and event in ("open", "sqlite3.connect", "os.listdir", "os.scandir"):
            path = str(arguments[0])
            if path.startswith(self.root):
                self.paths.append(path[len(self.root) + 1 :])

    def __enter__(self):
        self.watching = True
        return self

    def __exit__(self, *exception):
        self.watching = False


def test_the_third_run_of_a_study_that_does_not_fit_is_refused_before_any_data_is_read(home, monkeypatch):
    """At order 8 a run costs 1.54 of 3.39, at least 0.65 with the most noise that it may be given: two fit. The spy hears every file that is opened."""
    home.ledger.unlink()
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(4.6, 1e-5, 8)).disconnect()
    home.ledger_keys.touch(0o600)
    loads = []
    load = client_round.load
    monkeypatch.setattr(client_round, "load", lambda *a: loads.append(1) or load(*a))
    with Opened(home.root) as first:
        for number in (1, 2):
            join(home, replace(TERMS, run_id=f"run-{number}"))
    assert len(loads) == 2
    assert "ledger-keys.jsonl" in first.paths  # so the spy does hear it where data are read
    with (
        Opened(home.root) as spy,
        pytest.raises(BudgetExhausted, match="room for ε = 2 in this site's ledger"),
    ):
        join(home, replace(TERMS, run_id="run-3"))
    assert len(loads) == 2
    allowed = ("policy.yaml", "ledger.sqlite", "restored.json")
    assert spy.paths
    assert all(path.startswith(allowed) for path in spy.paths), spy.paths
    assert reserved(home) == {"run-1", "run-2"}


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ("min_patients: 500", "at least 500 (this site's policy, min_patients)"),
        ("max_epsilon: 1.5", "ε at most 1.5 (this site's policy, max_epsilon)"),
        ("max_delta: 1.0e-6", "δ at most 1e-06 (this site's policy, max_delta)"),
        (
            "min_noise_multiplier: 50",
            "a noise multiplier of at least 50 (this site's policy, min_noise_multiplier)",
        ),
        ("allowed_models: [scattering]", "one of scattering (this site's policy, allowed_models)"),
        ("deid_profiles: [share]", "one of share (this site's policy, deid_profiles)"),
        ("declared_patients: 20000", "δ at most 1/(10 · declared patients) = 5e-06"),
        ("max_epsilom: 1", "known policy keys"),
        ("max_epsilon: [", "a readable site policy"),
    ],
)
def test_a_policy_that_became_stricter_declines_the_next_round_and_says_why_to_the_operator_only(
    home, lines, rule
):
    site = joined(home)
    assert client_round.answer(site, question(site)) is not None
    before = site.ledger.head
    home.policy.write_text(("" if "declared" in lines else "declared_patients: 100\n") + lines + "\n")
    assert client_round.answer(site, question(site, 2)) is None
    assert site.ledger.head == before
    told = read_operator_log(home.root)[-1]
    assert str(told["expected"]).startswith(rule)
    assert told["step"] == "round 2, train"
    with pytest.raises((PolicyRefused, ConfigError)) as refusal:
        joined(home)
    assert refusal.value.expected.startswith(rule)
    site.ledger.disconnect()


@pytest.mark.parametrize("kind", ["whole", "empty", "one class", "withdrawn", "exhausted"])
def test_a_site_with_nobody_left_sends_noise_like_any_other(home, kind):
    """Same shape, same releases, same constants; only the ledger's own records know."""
    site = joined(
        home, patients=0 if kind == "empty" else 12, classes=(1,) if kind == "one class" else (0, 1)
    )
    keys = sorted(LedgerKeys(home.site_key).of("", name) for name in loaded(home).ledger_keys)
    digest = LedgerKeys(home.site_key).digest
    if kind == "withdrawn":
        site.ledger.withdraw(keys, digest)
    if kind == "exhausted":  # merged from so many records that one more release is too much
        for number in range(12):
            site.ledger.merge([(keys[number], keys[0])], digest)
        site.ledger._terms = LedgerTerms(1.3, 1e-5, 8)
    train = NoisedUpdate.from_bytes(
        client_round.answer(site, question(site)), site.network.number_of_parameters
    )
    scores = NoisedUpdate.from_bytes(client_round.answer(site, question(site, 2, "evaluate")), 16)
    assert len(train.releases) == len(scores.releases) == 1
    assert np.isfinite(train.vector).all()
    # a step along a noised sum ÷ (q · n̄): σC/(q n̄) a coordinate at rate 0.1, within 5 % at some 1000 of them
    expected = 0.1 * site.plan.noise_multiplier * TERMS.privacy.l2_clip_norm / site.plan.expected_batch_size
    assert train.vector.std() == pytest.approx(expected, rel=0.25)
    there = [len(site.roll.present(release)) for release in ("train", "evaluate")]
    assert there == ([8, 4] if kind in ("whole", "one class") else [0, 0])
    assert not read_operator_log(home.root)
    site.ledger.disconnect()


def test_who_has_withdrawn_is_in_no_sum_of_a_running_and_of_a_resumed_run(home, monkeypatch):
    sampled = []
    gather = client_round.ReleaseSession.gradient_step.__globals__["gather"]

    def heard(dataset, patients, *rest):
        sampled.append({dataset.patient_keys[int(u)] for u in patients})
        return gather(dataset, patients, *rest)

    monkeypatch.setitem(client_round.ReleaseSession.gradient_step.__globals__, "gather", heard)
    terms = replace(TERMS, privacy=replace(TERMS.privacy, sampling_rate=1.0, epsilon=4.0))
    home.ledger.unlink()
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(20.0, 1e-5, 8)).disconnect()
    site, keys = joined(home, terms), LedgerKeys(home.site_key)
    client_round.answer(site, question(site))
    other = Ledger.open(home.ledger, home.signing_key)
    other.withdraw([keys.of("", "P01")], keys.digest)  # as the list spells it: numbers are normalised
    other.disconnect()
    client_round.answer(site, question(site, 2))
    site.ledger.disconnect()
    again = joined(home, terms)
    client_round.answer(again, question(again, 2, shift=0.1))  # another question: sampled anew
    again.ledger.disconnect()
    everyone = set(site.data.train.patient_keys)
    assert sampled == [everyone, everyone - {"p01"}, everyone - {"p01"}]
    assert again.plan == site.plan


def test_a_patient_without_a_record_is_left_out_and_the_operator_is_told(home):
    data = loaded(home)
    keys = {name: key for name, key in data.ledger_keys.items() if name != "p01"}
    site = client_round.join(home, "a", TERMS, torch.device("cpu"), replace(data, ledger_keys=keys))
    client_round.answer(site, question(site))
    assert len(site.roll.present("train")) == 7
    told = read_operator_log(home.root)[-1]
    assert (told["expected"], told["found"]) == ("a ledger key of each patient", "1 without")
    site.ledger.disconnect()


def test_a_ledger_older_than_the_head_that_the_server_keeps_does_not_join(home):
    join(home)
    with pytest.raises(LedgerError, match="it was rolled back"):
        client_round.join(home, "a", TERMS, torch.device("cpu"), loaded(home), Head(99, b"?" * 32))


def test_a_run_without_privacy_leaves_out_who_has_withdrawn(home):
    home.policy.write_text("declared_patients: 100\nallow_non_private: true\n")
    keys = LedgerKeys(home.site_key)
    terms = replace(TERMS, privacy=replace(TERMS.privacy, mode="none"))
    site = joined(home, terms)
    site.ledger.withdraw([keys.of("", name) for name in site.data.train.patient_keys], keys.digest)
    answered = client_round.answer(site, question(site))
    update = OpenUpdate.from_bytes(answered, site.network.number_of_parameters)
    assert not update.vector.any()  # nobody is left to learn from
    site.ledger.disconnect()


def test_a_hospital_that_lost_its_ledger_takes_part_in_no_run_without_privacy_either(home):
    """Who has withdrawn stands in it and nowhere else."""
    home.policy.write_text("declared_patients: 100\nallow_non_private: true\n")
    home.ledger.unlink()
    with pytest.raises(LedgerError, match="found no ledger file"):
        joined(home, replace(TERMS, privacy=replace(TERMS.privacy, mode="none")))


CENTRED = replace(
    TERMS,
    rounds=4,
    model=ModelConfig(name="scattering", image_size=(16, 16), centring_rounds=2),
    training=LocalTraining(private_learning_rate=1.0),
    privacy=PrivacyRequest(rounds=4, epsilon=2.0, delta=1e-5, sampling_rate=0.2),
)


def features_of(home):
    """Patients with features of the right length, whatever they are of."""
    given, size = loaded(home), 81 * 4 * 4

    def with_features(part):
        values = torch.randn(len(part.labels), size, generator=torch.Generator().manual_seed(5))
        return replace(part, images=values)

    return replace(given, train=with_features(given.train), validation=with_features(given.validation))


def test_a_centring_round_releases_and_charges_like_any_other_and_moves_the_centre_alone(home):
    site = client_round.join(home, "a", CENTRED, torch.device("cpu"), features_of(home))
    size, features = site.network.number_of_parameters, 81 * 4 * 4
    before = np.asarray(site.network.initial)
    for number in (1, 2, 3):
        update = client_round.train(site, RoundInstructions("run", number, "train", CENTRED.digest, before))
        moved = (np.arange(size) >= size - features) == (number <= 2)
        assert ((update.vector != 0) == moved).all()
        assert len(update.releases) == 1
        assert site.ledger.statement.runs["run"].charged[TRAIN] == number
    site.ledger.disconnect()


def test_the_noise_of_a_centring_round_is_that_of_its_radius(home):
    """σ·C on every coordinate of the clipped sum is σ·√F of the features' own units: 0.1 % of cases lie outside."""
    site = client_round.join(home, "a", CENTRED, torch.device("cpu"), features_of(home))
    start = np.asarray(site.network.initial)
    vector = client_round.train(site, RoundInstructions("run", 1, "train", CENTRED.digest, start)).vector
    site.ledger.disconnect()
    expected = site.plan.noise_multiplier * math.sqrt(81 * 16) / site.plan.expected_batch_size
    centre = vector[-81 * 16 :]
    assert np.std(centre) == pytest.approx(expected, rel=0.08)


def test_terms_whose_loss_is_another_tasks_cannot_be_made_so_no_site_can_be_asked_for_them():
    voxels = replace(TERMS.model, name="segresnet", task="detection", width=8)
    with pytest.raises(ConfigError, match=r"losses: centre_heat_map"):
        replace(TERMS, model=voxels)
