"""On quadratic losses every algorithm's fixed point has a closed form: FedAvg's bias, and the optimum itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

RATE, STEPS = 0.1, 8
# Curvature a and minimum b of three sites in two coordinates, and their numbers of patients.
A = np.array([[1.0, 0.5], [3.0, 2.0], [0.4, 4.0]])
B = np.array([[0.0, 2.0], [2.0, -1.0], [-3.0, 0.5]])
WEIGHTS = (2, 5, 3)
LOCAL = (f"training.learning_rate={RATE}", f"training.local_epochs={STEPS}")


def mean(values, weights=WEIGHTS):
    w = np.asarray(weights, dtype=float)[:, None]
    return (w * values).sum(axis=0) / w.sum()


def optimum(a=A, b=B, weights=WEIGHTS):
    """Where Σ w a (θ − b) = 0."""
    return mean(a * b, weights) / mean(a, weights)


def fixed_point(mu=0.0, a=A, b=B, weights=WEIGHTS):
    """Where the sites' K local steps cancel. Along one coordinate a step multiplies the distance from
    (a b + μ x) / (a + μ) by 1 − η (a + μ), so that a round moves by (1 − (1 − η (a + μ))ᴷ) a / (a + μ) · (b − x).
    """
    moved = (1 - (1 - RATE * (a + mu)) ** STEPS) * a / (a + mu)
    return mean(moved * b, weights) / mean(moved, weights)


def reached(federation, exchange=None):
    federation.train(exchange)
    return federation.server.optimizer.released


def test_fedavg_stops_at_its_bias(quadratics):
    found = reached(quadratics(A, B, WEIGHTS, *LOCAL, "rounds=60"))
    assert np.abs(found - fixed_point()).max() < 1e-5
    assert np.abs(found - optimum()).max() > 0.1  # which is not the optimum, and would not pass for it


@pytest.mark.parametrize("mu", [0.5, 3.0])
def test_fedprox_stops_at_a_smaller_bias_of_its_own(quadratics, mu):
    found = reached(quadratics(A, B, WEIGHTS, *LOCAL, f"training.proximal_mu={mu}", "rounds=120"))
    assert np.abs(found - fixed_point(mu)).max() < 1e-5
    assert np.abs(fixed_point(mu) - optimum()).max() < np.abs(fixed_point() - optimum()).max()
    assert np.abs(found - optimum()).max() > 1e-3


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn"])
@pytest.mark.parametrize("secagg", ["none", "pairwise"])
def test_corrected_steps_reach_the_optimum(quadratics, algorithm, secagg):
    run = quadratics(
        A, B, WEIGHTS, *LOCAL, f"training={algorithm}", "training.algorithm.alpha=1.0", f"secagg={secagg}",
        "rounds=100", "evaluation.site_evaluations=0",
    )  # fmt: skip
    assert np.abs(reached(run) - optimum()).max() < 2e-5


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn"])
def test_a_cohort_of_the_sites_is_enough(quadratics, algorithm):
    """Sites that are not asked keep their states, and the coordinator's mean keeps their part in it."""
    run = quadratics(
        A, B, WEIGHTS, *LOCAL, f"training={algorithm}", "training.algorithm.alpha=1.0", "aggregation.cohort=2",
        "insecure_test_mode=true", "rounds=250",
    )  # fmt: skip
    assert np.abs(reached(run) - optimum()).max() < 1e-3


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn"])
def test_an_answer_that_is_lost_moves_neither_side(quadratics, algorithm):
    """Were its state moved all the same, c would no longer be the mean of the sites', and the bias for ever."""
    run = quadratics(
        A, B, WEIGHTS, *LOCAL, f"training={algorithm}", "training.algorithm.alpha=1.0", "rounds=120"
    )
    asked = 0

    def losing(outgoing):
        nonlocal asked
        asked += 1
        answers = dict(run.exchange(outgoing))
        if asked % 3 == 1 and asked < 40:  # the site has answered, and nobody hears it
            answers[f"site-{asked % 2}"] = None
        return answers

    assert np.abs(reached(run, losing) - optimum()).max() < 2e-5


def test_control_variates_of_lost_answers_would_bias_the_model(quadratics, monkeypatch):
    """What the test above would see, if sites went on from what they answered last."""
    from fedimg.heterogeneity.states import RoundStates

    after = RoundStates.after

    def last(self, _taken):
        files = sorted(self.folder.glob("*.safetensors"))
        return after(self, int(files[-1].stem)) if files else {}

    monkeypatch.setattr(RoundStates, "after", last)
    with pytest.raises(AssertionError):
        test_an_answer_that_is_lost_moves_neither_side(quadratics, "scaffold")


@settings(max_examples=8)
@given(
    a=st.lists(st.lists(st.floats(0.3, 4), min_size=2, max_size=2), min_size=3, max_size=3).map(np.array),
    b=st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=3, max_size=3).map(np.array),
)
def test_scaffolds_rounds_are_those_of_its_paper(a, b):
    """Against the algorithm as it is printed, in numpy with exact gradients."""
    from fedimg.heterogeneity.algorithm import Trained
    from fedimg.heterogeneity.scaffold import ScaffoldServer, ScaffoldSite

    w = np.array(WEIGHTS) / sum(WEIGHTS)
    x, c, own = np.zeros(2), np.zeros(2), np.zeros((3, 2))
    site, server = ScaffoldSite(RATE), ScaffoldServer()
    ours, state, states = np.zeros(2), server.init(2), [{}, {}, {}]
    for _ in range(5):
        ys = np.repeat(x[None], 3, axis=0)
        for _step in range(STEPS):
            ys = ys - RATE * (a * (ys - b) - own + c)
        new = own - c + (x - ys) / (STEPS * RATE)
        sent = server.instructed(state, ours)
        answers = []
        for k in range(3):
            begun = site.begin(states[k], sent)
            y = begun.start.copy()
            for _step in range(STEPS):
                y = y - RATE * (a[k] * (y - b[k]) + begun.correction)
            trained = Trained(sent, y - begun.start, STEPS, lambda vector: vector)
            answer, states[k] = site.end(states[k], trained)
            answers.append(answer)
        step, state = server.apply(state, sum(w[k] * answers[k] for k in range(3)), 1.0)
        ours = ours + step
        x, c, own = x + (w[:, None] * (ys - x)).sum(axis=0), c + (w[:, None] * (new - own)).sum(axis=0), new
        assert np.allclose(ours, x, atol=1e-10)
        assert np.allclose(state["control"], c, atol=1e-9)


def test_ditto_reaches_the_closed_form_between_own_and_global(quadratics):
    """v = argmin F(v) + λ/2 ‖v − w‖² = (a b + λ w) / (a + λ); the global model is FedAvg's to the last bit."""
    pull = 0.7
    plain = quadratics(A, B, WEIGHTS, *LOCAL, "rounds=80")
    reached(plain)
    run = quadratics(
        A, B, WEIGHTS, *LOCAL, "training=ditto", f"training.algorithm.pull={pull}",
        "training.algorithm.personal_epochs=40", "rounds=80", folder="ditto", run="ditto",
    )  # fmt: skip
    w = reached(run)
    assert w.tobytes() == plain.server.optimizer.released.tobytes()
    for k in range(3):
        expected = (A[k] * B[k] + pull * w) / (A[k] + pull)
        found = run.state(f"site-{k}", 80)["personal"]
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found - w).max() > 0.1
