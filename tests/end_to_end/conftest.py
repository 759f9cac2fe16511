"""Small whole runs: two generated hospitals, a few rounds. Their numbers mean nothing."""

import pytest

from fedimg.config import compose
from fedimg.secagg.request import SumRequest, is_request
from fedimg.simulation import engines, simulate

SMALL = (
    "sites=2",
    "rounds=4",
    "training.local_steps=1",
    "compare=false",
    "model=cnn",
    "model.width=4",
    "imaging.image_size=[32,32]",
    "data.cohort.patients_per_hospital=16",
    "data.cohort.phantom_public_patients=10",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CR,CT]",
    "privacy.delta=1e-3",
    "privacy.expected_batch_size=6",
    "evaluation.bootstrap=20",
    "deid.workers=0",  # a child process of each intake takes seconds to start; tests/intake has them
    "audit.battery=false",  # once, in its own test
    "audit.empirical=false",  # measured once, in the test of its place in the report
)


@pytest.fixture
def config(tmp_path):
    """A small run's configuration with further overrides, below tmp_path."""

    def make(*overrides):
        return compose([*SMALL, f"runs={tmp_path / 'runs'}", *overrides])

    return make


@pytest.fixture
def small_run(config):
    """Run a small federation."""

    def run(*overrides, progress=None):
        return simulate(config(*overrides), progress)

    return run


@pytest.fixture
def wire(monkeypatch):
    """What is asked and answered; `away(step, round, task)` names sites that do not answer."""
    watched = {"asked": [], "answered": [], "away": lambda *_which: ()}
    plain = engines.in_turn

    def in_turn(*arguments):
        exchange = plain(*arguments)

        def watching(outgoing):
            first = next(iter(outgoing.values()))
            gone = ()
            if is_request(first):
                request = SumRequest.from_bytes(first)
                gone = watched["away"](request.step, request.round, request.task)
            watched["asked"] += outgoing.values()
            answers = exchange({name: data for name, data in outgoing.items() if name not in gone})
            watched["answered"] += [data for data in answers.values() if data is not None]
            return answers | dict.fromkeys(gone)

        return watching

    monkeypatch.setattr(engines, "in_turn", in_turn)
    return watched
