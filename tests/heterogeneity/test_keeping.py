"""States survive kills, repeats and restarts, and are the ones that the coordinator counts on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fedimg.coordination.folder import RunFolder
from fedimg.errors import DataError, MessageError
from fedimg.heterogeneity import HeterogeneityServer, RoundStates
from fedimg.operator_log import read_operator_log
from fedimg.outbox import Outbox
from fedimg.simulation import engines
from fedimg.training import AlgorithmConfig
from fedimg.values import AggregatedUpdate, RoundInstructions
from tests.heterogeneity.test_privacy import PRIVATE, parts
from tests.heterogeneity.test_quadratics import LOCAL, WEIGHTS, A, B


def mean_of_states(run, name):
    """Σ w · state over what the coordinator has taken of each site."""
    taken, weights = run.server.taken(), run.server.weights
    found = sum(weights[site] * run.state(site, number)[name] for site, number in taken.items())
    return found / sum(weights.values())


@pytest.mark.parametrize(
    ("algorithm", "kept", "held"), [("scaffold", "control", "control"), ("feddyn", "gradient", "h")]
)
def test_the_coordinators_state_is_the_mean_of_the_sites(federation, algorithm, kept, held):
    """Under noise, and with answers lost on the way."""
    run = federation(parts(0), f"training={algorithm}", *PRIVATE, "evaluation.site_evaluations=0", "rounds=5")
    rounds = 0

    def losing(outgoing):
        nonlocal rounds
        rounds += 1
        answers = dict(run.exchange(outgoing))
        if rounds in (1, 3):
            answers["site-1"] = None
        return answers

    run.train(losing)
    own = run.server.optimizer.state()[f"algorithm.{held}"].numpy()
    sign = 1.0  # FedDyn's λ and h both fall by α times what was moved
    assert np.abs(own - sign * mean_of_states(run, kept)).max() < 1e-6
    assert np.abs(own).max() > 1e-3


@pytest.mark.parametrize("algorithm", ["scaffold", "fedbn", "ditto"])
def test_a_question_that_is_asked_again_is_answered_with_the_same_bytes(federation, algorithm):
    run = federation(parts(0), f"training={algorithm}", *PRIVATE)
    folder = run.sites["site-0"].home.root / "heterogeneity" / "run"
    first, second = None, None

    def twice(outgoing):
        nonlocal first, second
        first = dict(run.exchange(outgoing))
        before = {path.name: path.read_bytes() for path in folder.glob("*")}
        charged = run.sites["site-0"].ledger.head
        second = dict(run.exchange(outgoing))
        assert second == first
        assert {path.name: path.read_bytes() for path in folder.glob("*")} == before
        assert run.sites["site-0"].ledger.head == charged
        return second

    run.train(twice)
    assert [path.name for path in sorted(folder.glob("0*"))] == ["000002.safetensors", "000003.safetensors"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*"))
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn"])
def test_a_site_killed_between_its_state_and_its_answer_begins_the_round_anew(
    quadratics, monkeypatch, algorithm
):
    """The state is on the disk and the answer is not: asked again, it starts from the round before."""
    again = (
        *LOCAL,
        f"training={algorithm}",
        "training.algorithm.alpha=1.0",
        "rounds=6",
        "insecure_test_mode=true",
    )
    sound = quadratics(A, B, WEIGHTS, *again, folder="sound")
    sound.train()
    killed = quadratics(A, B, WEIGHTS, *again, folder="killed")
    put, fallen = Outbox.put, []

    def killing(self, number, task, question, released):
        if task == "train" and number not in fallen:
            fallen.append(number)
            raise OSError("killed")
        put(self, number, task, question, released)

    monkeypatch.setattr(Outbox, "put", killing)

    def asking(outgoing):
        answers = dict(killed.exchange(outgoing))
        lost = {name: outgoing[name] for name, answer in answers.items() if answer is None}
        return answers | killed.exchange(lost)

    killed.train(asking)
    assert fallen == [1, 2, 3, 4, 5, 6]
    assert killed.server.optimizer.released.tobytes() == sound.server.optimizer.released.tobytes()


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn", "ditto"])
def test_a_coordinator_that_was_restarted_goes_on_as_if_nothing_had_been(quadratics, tmp_path, algorithm):
    from fedimg.coordination import rounds

    how = (
        *LOCAL,
        f"training={algorithm}",
        "training.algorithm.alpha=1.0",
        "rounds=6",
        "insecure_test_mode=true",
    )
    whole = quadratics(A, B, WEIGHTS, *how, folder="whole")
    whole.train()
    run = quadratics(A, B, WEIGHTS, *how, folder="broken")
    folder = RunFolder.create(tmp_path / "runs")

    class Stopped(Exception):
        pass

    asked = 0

    def until_the_fourth(outgoing):
        nonlocal asked
        asked += 1
        answers = run.exchange(outgoing)
        if (
            asked == 4
        ):  # the sites have answered; the coordinator has heard them, and dies before its checkpoint
            raise Stopped
        return answers

    with pytest.raises(Stopped):
        run.train(until_the_fourth, folder=folder)
    run.server = rounds.make_server(run.config, run.terms, run.network, dict(run.server.weights), None)
    run.train(folder=folder)
    assert run.server.optimizer.released.tobytes() == whole.server.optimizer.released.tobytes()
    assert run.server.taken() == whole.server.taken()
    with pytest.raises(MessageError, match=r"expected a checkpoint of this training\.algorithm"):
        HeterogeneityServer(AlgorithmConfig("feddyn" if algorithm != "feddyn" else "scaffold"),
                            run.server.optimizer._inner, {"a": 1.0}).restore(run.server.optimizer.state())  # fmt: skip


def test_a_site_whose_state_is_gone_says_so_and_the_others_go_on(quadratics):
    run = quadratics(A, B, WEIGHTS, *LOCAL, "training=scaffold", "rounds=4", "aggregation.min_sites=2")
    asked = 0

    def losing(outgoing):
        nonlocal asked
        asked += 1
        if asked == 3:
            shutil.rmtree(run.sites["site-1"].home.root / "heterogeneity")
        return run.exchange(outgoing)

    history = run.train(losing)
    assert [row["missing"] for row in history.rows] == [[], [], ["site-1"], ["site-1"]]
    log = str(read_operator_log(run.sites["site-1"].home.root))
    assert "what this site kept of round 2, whose answer is in the model" in log
    assert run.server.taken() == {"site-0": 4, "site-1": 2, "site-2": 4}


def test_instructions_that_name_a_round_to_come_are_refused(quadratics):
    run = quadratics(A, B, WEIGHTS, *LOCAL, "training=scaffold", "rounds=4")
    for taken, vector in (({"site-0": 1}, np.zeros(4)), ({}, np.zeros(2))):
        data = RoundInstructions("run", 1, "train", run.terms.digest, vector, taken=taken).to_bytes()
        assert engines.in_turn([run.sites["site-0"]])({"site-0": data}) == {"site-0": None}
    log = str(read_operator_log(run.sites["site-0"].home.root))
    assert "a state of an earlier round" in log
    assert "bytes of values where 4 values were agreed" in log


def test_states_that_were_never_taken_go(tmp_path):
    states = RoundStates(tmp_path / "heterogeneity" / "run")
    for number in range(1, 6):
        states.put(number, {"own": np.array([float(number)])}, taken=min(2, number - 1))
    assert sorted(path.name for path in states.folder.iterdir()) == [
        "000002.safetensors",
        "000005.safetensors",
    ]
    assert states.after(2)["own"].tolist() == [2.0]
    assert states.after(0) == {}
    with pytest.raises(DataError, match="what this site kept of round 3"):
        states.after(3)
    (states.folder / "000005.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="nothing that can be read"):
        states.after(5)


def test_who_was_taken_travels_only_where_sites_keep_a_state():
    plain = RoundInstructions("run", 1, "train", "d", np.zeros(2))
    assert b"taken" not in plain.to_bytes()
    told = RoundInstructions("run", 3, "train", "d", np.zeros(2), taken={"a": 2, "b": 1})
    assert RoundInstructions.from_bytes(told.to_bytes(), 2).taken == {"a": 2, "b": 1}
    odd = RoundInstructions("run", 3, "train", "d", np.zeros(2), taken={"a": "2"}).to_bytes()
    with pytest.raises(MessageError, match="taken of whole numbers"):
        RoundInstructions.from_bytes(odd, 2)


def test_a_mean_of_another_size_is_refused():
    class Still:
        vector = released = np.zeros(3)

        def apply(self, update):
            raise AssertionError("moved")

    server = HeterogeneityServer(AlgorithmConfig("scaffold"), Still(), {"a": 1.0})
    with pytest.raises(MessageError, match="6 values of a mean update"):
        server.apply(AggregatedUpdate(1, np.zeros(3), ("a",)))
