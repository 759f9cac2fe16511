"""The coordinator's side with `client_level`: nobody is trusted with the clip, and nobody's absence shows."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg import server_clients, server_round
from fedimg.aggregation import AggregationConfig, ServerOptimizer
from fedimg.errors import FederationError
from fedimg.evaluation import measure_of
from fedimg.privacy.client_level import ClientReleases, clipped_update
from fedimg.privacy.noise import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest
from fedimg.server_round import Server
from fedimg.values import ClippedUpdate, NoisedUpdate, OpenUpdate, RoundInstructions

P = 4
NAMES = tuple(f"c{number:03d}" for number in range(150))


class Charges:
    """A ledger that lets everything pass and counts it."""

    def __init__(self):
        self.made = []

    def charge(self, _plan, release):
        self.made.append(release)
        return str(len(self.made))


def server(*, rate=1.0, clip=1.0, noise=1e-12, declared=150, seed=None):
    request = PrivacyRequest(
        mode="client_level", sampling_rate=rate, l2_clip_norm=clip, evaluation_share=0.1, rounds=3
    )
    plan = PrivacyPlan(request, declared, rate, noise, noise, 8.0, 8.0)

    def entropy(number, task):
        return OsEntropy() if seed is None else InsecureSeededEntropy(seed, str(number), task)

    config = AggregationConfig(name="fedavg")
    network = SimpleNamespace(number_of_parameters=P)
    return Server(
        "run", "terms", network, measure_of("classification", 2, 2), ServerOptimizer(config, np.zeros(P)), config,
        dict.fromkeys(NAMES, 1.0),
        None, private=True, clients=ClientReleases(plan, Charges(), entropy),
    )  # fmt: skip


def answering(vectors, kind="update", asked=None):
    """An exchange in which the named clients send these vectors, and the others nothing."""

    def exchange(outgoing):
        if asked is not None:
            asked.append(tuple(outgoing))
        found = {}
        for name, message in outgoing.items():
            number = RoundInstructions.from_bytes(message, P).round
            known = name in vectors
            found[name] = ClippedUpdate(name, number, kind, vectors[name]).to_bytes() if known else None
        return found

    return exchange


def updates(scale=1.0, names=NAMES):
    values = np.random.default_rng(3).normal(size=(len(names), P)) * scale
    return dict(zip(names, values.astype(np.float32).astype(np.float64), strict=True))


def test_without_noise_and_clipping_it_is_fedavg_on_the_same_cohort():
    """σ → 0, C → ∞: the model is that of plain FedAvg over the cohort, up to |cohort| ÷ (q · n̄)."""
    sent = updates(0.01)
    for rate, seed in ((1.0, None), (0.3, 5)):
        ours, asked = server(rate=rate, clip=1e3, seed=seed), []
        server_clients.train_round_clients(ours, 1, NAMES, answering(sent, asked=asked))
        cohort = [name for group in asked for name in group]
        plain = server(rate=rate, seed=seed)
        plain.private, plain.clients = False, None

        def open_answers(outgoing):
            return {name: OpenUpdate(name, 1, "update", sent[name]).to_bytes() for name in outgoing}

        server_round.train_round(plain, 1, tuple(cohort), open_answers)
        expected = plain.optimizer.vector * len(cohort) / (rate * len(NAMES))
        assert np.abs(ours.optimizer.vector - expected).max() < 1e-7
        assert np.abs(expected).max() > 1e-4
        assert len(cohort) == 150 if rate == 1.0 else 20 < len(cohort) < 80


def test_an_engines_own_clients_give_the_same_round_as_messages():
    sent = updates()

    def own(_vector, cohort, _round):
        return (clipped_update(sent[name], 0.5) for name in cohort)

    by_message, by_engine = server(rate=0.4, clip=0.5, seed=1), server(rate=0.4, clip=0.5, seed=1)
    server_clients.train_round_clients(by_message, 1, NAMES, answering(sent))
    server_clients.train_round_clients(by_engine, 1, NAMES, answering({}), own)
    assert np.abs(by_message.optimizer.vector - by_engine.optimizer.vector).max() < 1e-7
    assert np.abs(by_engine.optimizer.vector).max() > 1e-4


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=P, max_size=P), st.integers(0, 9))
def test_a_client_that_does_not_clip_is_clipped(vector, which):
    """Seeded noise on both sides: the model moves by at most C ÷ (q · n̄) for whatever one client sends."""
    honest = updates(0.01, NAMES[:10])
    moved = {}
    for key in ("honest", "dishonest"):
        moved[key] = server(declared=10, clip=0.2, seed=1)
        sent = honest if key == "honest" else honest | {NAMES[which]: np.array(vector)}
        sent = {n: v for n, v in sent.items() if key == "dishonest" or n != NAMES[which]}
        server_clients.train_round_clients(moved[key], 1, NAMES[:10], answering(sent))
    difference = moved["dishonest"].optimizer.vector - moved["honest"].optimizer.vector
    assert np.linalg.norm(difference) <= 0.2 / 10 * (1 + 1e-9) + 1e-12


def test_wrong_answers_and_absences_count_for_nothing_and_are_not_named():
    sent = updates(names=NAMES[:6])
    good = answering(sent)

    def exchange(outgoing):
        found = good(outgoing)
        found[NAMES[0]] = None
        found[NAMES[1]] = NoisedUpdate(NAMES[1], 1, "update", sent[NAMES[1]], ()).to_bytes()
        found[NAMES[2]] = OpenUpdate(NAMES[2], 1, "update", sent[NAMES[2]]).to_bytes()
        found[NAMES[3]] = ClippedUpdate(NAMES[3], 2, "update", sent[NAMES[3]]).to_bytes()
        found[NAMES[4]] = ClippedUpdate(NAMES[5], 1, "update", sent[NAMES[4]]).to_bytes()
        return found | {"stranger": found[NAMES[5]]}

    ours = server(clip=1e3, declared=6)
    result = server_clients.train_round_clients(ours, 1, NAMES[:6], exchange)
    assert np.abs(ours.optimizer.vector - sent[NAMES[5]] / 6).max() < 1e-6
    assert (result.sites, result.missing, result.refused) == ((), (), {})


def test_a_round_that_nobody_answers_is_a_round_like_any_other():
    ours = server(noise=1.0)
    server_clients.train_round_clients(ours, 1, NAMES, answering({}))
    assert ours.clients.ledger.made == ["train"]
    assert np.abs(ours.optimizer.vector).max() > 0


def test_few_answers_are_in_memory_at_once():
    asked = []
    server_clients.train_round_clients(server(), 1, NAMES, answering(updates(), asked=asked))
    assert [len(group) for group in asked] == [64, 64, 22]
    assert tuple(name for group in asked for name in group) == NAMES


def test_an_evaluation_is_one_release_with_its_own_noise():
    cells = {name: np.eye(P)[k % P] for k, name in enumerate(NAMES)}
    ours = server(noise=1e-9)
    scores = server_clients.evaluate_clients(ours, 2, NAMES, answering(cells, "histogram"))
    assert np.abs(scores.histogram - np.array([[38, 38], [37, 37]])).max() < 1e-5
    assert (scores.round, scores.noise_std) == (2, 1e-9)
    assert ours.clients.ledger.made == ["evaluate"]


def test_a_coordinator_without_a_ledger_refuses():
    ours = server()
    ours.clients = None
    with pytest.raises(FederationError, match="expected a coordinator with a ledger; found none"):
        server_clients.train_round_clients(ours, 1, NAMES, answering({}))
