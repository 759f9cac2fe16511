"""What leaves a site, and what it keeps, is made of its noised sums: the same sums of other patients give the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedimg import client_round, training
from fedimg.heterogeneity.kept import KeptSite
from fedimg.operator_log import read_operator_log
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import ReleaseSession
from fedimg.training import head_of
from fedimg.values import NoisedSum, NoisedUpdate
from tests.heterogeneity.conftest import patients_of

ROUNDS, STEPS = 3, 2
PRIVATE = (
    "privacy=per_site", "secagg=none", f"rounds={ROUNDS}", f"training.local_steps={STEPS}",
    "privacy.sampling_rate=0.5", "privacy.epsilon=8", "privacy.engine=vmap", "model.width=4",
    "training.learning_rate=0.05", "training.algorithm.personal_epochs=1",
)  # fmt: skip
ALL = ("scaffold", "feddyn", "fedbn", "local_head", "ditto", "fine_tuned_head")


def hospital(seed, patients=24):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(patients) % 2
    images = torch.randn(patients, 1, 16, 16, generator=generator) + labels.view(-1, 1, 1, 1)
    return patients_of(images, labels)


def parts(seed):
    return {f"site-{k}": hospital(10 * seed + k) for k in range(2)}


def noised(number, size):
    """The n-th release of the run, whoever's patients are in it."""
    return 0.5 * np.random.default_rng(number).normal(size=size)


@pytest.fixture
def observed(federation, monkeypatch):
    """Run with releases that do not depend on data: answers sent, where gradients and histograms were taken, states."""

    def run(algorithm, seed, folder):
        releases, asked_at, sent = [], [], []

        def release(self, kind, clipped, _noise_multiplier):
            name, size = self._charged(kind), len(clipped().vector)
            releases.append(noised(len(releases), size))
            self._releases.append(name)
            return NoisedSum(releases[-1], 1.0, name)

        step, histograms = ReleaseSession.gradient_step, client_round._histograms

        def gradient_step(self, params, dataset, network):
            asked_at.append(params.numpy().tobytes())
            return step(self, params, dataset, network)

        def counted(site, instructions, there):
            asked_at.append(instructions.vector.tobytes())
            return histograms(site, instructions, there)

        def listening(outgoing):
            answers = made.exchange(outgoing)
            sent.append(dict(answers))
            return answers

        with monkeypatch.context() as patched:
            patched.setattr(ReleaseSession, "release", release)
            patched.setattr(ReleaseSession, "gradient_step", gradient_step)
            patched.setattr(client_round, "_histograms", counted)
            everyone = parts(seed)
            held = {name: part.of_patients(np.arange(6)) for name, part in everyone.items()}
            # the same homes' keys would be a difference of their own: names of releases are random
            made = federation(everyone, f"training={algorithm}", *PRIVATE, held=held, folder=folder)
            made.train(listening)
        return made, releases, asked_at, sent

    return run


def vectors(sent):
    """What the messages hold but for the names of releases, which are random."""
    found = []
    for answers in sent:
        for data in answers.values():
            update = NoisedUpdate.from_bytes(data, None)
            found.append(
                (update.site, update.round, update.kind, update.vector.tobytes(), len(update.releases))
            )
    return found


@pytest.mark.parametrize("algorithm", ALL)
def test_nothing_of_patients_goes_round_the_noise(observed, algorithm):
    _, first, at_first, sent_first = observed(algorithm, 0, "first")
    made, second, at_second, sent_second = observed(algorithm, 1, "second")
    assert [v.tobytes() for v in first] == [v.tobytes() for v in second]
    assert vectors(sent_first) == vectors(sent_second)
    assert at_first == at_second  # gradients and histograms are taken of models that say nothing of patients
    assert len(second) == 2 * (ROUNDS * STEPS + 1)  # one charge a step, one an evaluation: no more, no fewer
    for site in made.sites.values():
        charged = site.ledger.statement.runs["run"].charged
        assert (charged["train"], charged["evaluate"]) == (ROUNDS * STEPS, 1)


def test_parameters_moved_without_noise_would_be_seen(observed, monkeypatch):
    """FedBN as it is written without privacy: own parameters follow exact gradients. The next sums depend on them."""
    private = training.private_update

    def update(network, start, dataset, session, config, correction=None):
        vector = private(network, start, dataset, session, config, correction)
        exact = training.train_open(network, start, dataset, config, session._entropy) - start
        return np.where(network.normalisation, exact.double().numpy(), vector)

    monkeypatch.setattr(training, "private_update", update)
    _, _, at_first, sent_first = observed("fedbn", 0, "first")
    _, _, at_second, sent_second = observed("fedbn", 1, "second")
    assert vectors(sent_first)[:2] == vectors(sent_second)[:2]  # in round 1 nothing shows yet
    assert at_first[: 2 * STEPS] == at_second[: 2 * STEPS]
    assert at_first != at_second


@pytest.mark.parametrize("algorithm", ["ditto", "fine_tuned_head"])
def test_personal_models_are_of_the_patients_and_stay(observed, algorithm):
    found = []
    for seed in (0, 1):
        made, _, asked_at, sent = observed(algorithm, seed, f"homes-{seed}")
        folder = made.sites["site-0"].home.root / "heterogeneity" / "run"
        personal = (folder / "personal.safetensors").read_bytes()
        found.append(personal)
        # histograms are of the global model, which nobody's images have touched but through noise
        assert (
            asked_at[-1]
            == asked_at[-2]
            == made.server.optimizer.released.astype(np.float32).astype(np.float64).tobytes()
        )
        assert (folder / "personal.safetensors").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(personal not in data for answers in sent for data in answers.values())
    assert found[0] != found[1]


def test_a_personal_model_that_cannot_be_trained_shows_to_the_operator_only(observed, monkeypatch):
    _, _, at_sound, sound = observed("ditto", 0, "sound")

    def fails(*_arguments, **_named):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "train_along", fails)
    made, _, at_failed, failed = observed("ditto", 0, "failed")
    assert (vectors(failed), at_failed) == (vectors(sound), at_sound)
    home = made.sites["site-0"].home
    assert "the personal model, left as it was" in str(read_operator_log(home.root))


def test_scaffolds_and_feddyns_states_are_what_the_noised_sums_say(observed):
    """Recomputed from the recorded sums: y ← y − η(g̃ − cᵢ + c), cᵢ⁺ the mean of g̃; θ ← θ − η(g̃ − λ + α(θ − θ₀))."""
    for algorithm in ("scaffold", "feddyn"):
        made, releases, _, _ = observed(algorithm, 0, algorithm)
        rate, alpha = made.config.training.private_learning_rate, made.config.training.algorithm.alpha
        divisor = made.sites["site-0"].plan.expected_batch_size
        gradients = [vector / divisor for vector in releases[: 2 * ROUNDS * STEPS]]
        size = made.network.number_of_parameters
        x = made.network.initial.copy()
        server, own = np.zeros(size), [np.zeros(size), np.zeros(size)]
        for number in range(ROUNDS):
            moved, changed = [], []
            for k in range(2):
                y, taken = x.copy(), []
                for step in range(STEPS):
                    g = gradients[(number * 2 + k) * STEPS + step]
                    taken.append(g)
                    if algorithm == "scaffold":
                        y = y - rate * (g - own[k] + server)
                    else:
                        y = y - rate * (g - own[k] + alpha * (y - x))
                moved.append(y - x)
                new = np.mean(taken, axis=0) if algorithm == "scaffold" else own[k] - alpha * (y - x)
                changed.append(new - own[k])
                own[k] = new
            mean = (moved[0] + moved[1]) / 2
            if algorithm == "scaffold":
                x, server = x + mean, server + (changed[0] + changed[1]) / 2
            else:
                server = server - alpha * mean
                x = x + mean - server / alpha
        assert np.abs(made.server.optimizer.released - x).max() < 1e-5
        for k in range(2):
            (kept,) = made.state(f"site-{k}", ROUNDS).values()
            assert np.abs(kept - own[k]).max() < 1e-5
            assert np.abs(kept).max() > 1e-3


@pytest.mark.parametrize("algorithm", ["fedbn", "local_head"])
def test_what_stays_is_never_sent(observed, algorithm):
    made, _, _, sent = observed(algorithm, 0, "homes")
    mask = made.network.normalisation if algorithm == "fedbn" else head_of(made.network)
    assert 0 < mask.sum() < mask.size
    for answers in sent[:ROUNDS]:
        for data in answers.values():
            update = NoisedUpdate.from_bytes(data, mask.size).vector
            assert not update[mask].any()
            assert update[~mask].all()
    start = made.network.initial
    assert np.array_equal(made.server.optimizer.released[mask], start[mask])
    own = [made.state(f"site-{k}", ROUNDS)["own"] for k in range(2)]
    assert np.abs(own[0] - own[1]).max() > 1e-3
    assert KeptSite(mask).own({"own": own[0]}, start)[mask].tolist() == own[0].tolist()


def test_a_sum_with_a_share_of_the_noise_takes_personal_models_beside_it(federation):
    """With `distributed` no site knows its noised gradient: only what has no influence on sums may be beside them."""
    everyone = {f"site-{k}": hospital(k) for k in range(3)}
    run = federation(
        everyone, "training=ditto", "privacy=distributed", "secagg=pairwise", "rounds=2",
        "privacy.epsilon=8", "privacy.sampling_rate=0.5", "secagg.threshold=3",
        held={name: part.of_patients(np.arange(6)) for name, part in everyone.items()},
    )  # fmt: skip
    run.train()
    for name in everyone:
        assert {"personal"} == run.state(name, 2).keys()
        home = run.sites[name].home
        run.sites[name].ledger.disconnect()
        statement = Ledger.open(home.ledger, home.signing_key).statement.runs["run"]
        assert statement.charged == {"train": 2, "evaluate": 1}
