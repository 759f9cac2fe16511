"""Rows one after the other: what is finished stays, what was stopped goes on, what fails is told and hinders nobody."""

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fedimg.compare.learners import Question, ask
from fedimg.compare.rows import Row
from fedimg.config import dump, keys
from fedimg.coordination.folder import RunFolder, SweepPoint
from fedimg.errors import BudgetExhausted, ConfigError
from fedimg.record.together import Together
from fedimg.simulation import compared_cost, comparing
from fedimg.simulation.comparing import Watching, charges_of, compare, finished, prepare

OPTIONS = keys.groups()
SMALL = ("sites=3", "deid.workers=0")


@dataclass(frozen=True)
class Done:
    path: Path


class Simulated:
    """In place of a run: writes the folder of a finished one, or fails as it was told to."""

    def __init__(self):
        self.asked, self.points, self.failing = [], [], {}

    def __call__(self, config, progress=None, overrides=(), point=None):
        resumed = Path(config.resume) if config.resume else None
        name = config.model.name, config.privacy.mode
        self.asked.append((*name, resumed is not None))
        self.points.append(point)
        folder = resumed or Path(config.runs) / f"20260131-00000{len(self.asked)}-abcd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump(config))
        if fault := self.failing.get(name):
            raise fault
        private = config.privacy.mode != "none"
        sites = {"a": {"epsilon": config.privacy.epsilon, "delta": 1e-5} if private else {}}
        summary = {
            "simulated": True,
            "test": {"auroc": 0.9},
            "sites": sites,
            "rounds": config.rounds,
            "privacy": {"mode": config.privacy.mode, "private": private, "unit": "image", "secagg": "none"},
            "intake": {},
        }
        (folder / "metrics.jsonl").write_text(json.dumps({"round": 1, "epsilon": {"a": 1.0}}) + "\n")
        (folder / "summary.json").write_text(json.dumps(summary))
        if private:
            (folder / "ledgers").mkdir(exist_ok=True)
            (folder / "ledgers" / "a.json").write_text("{}")
        return Done(folder)


@pytest.fixture
def simulated(monkeypatch):
    stand_in = Simulated()
    monkeypatch.setattr(comparing, "simulate", stand_in)
    return stand_in


@pytest.fixture
def compared(simulated, tmp_path):
    """Compare learners in one folder; returns the comparison and what was said."""

    def run(learners=("ridge", "svm"), epsilons=(math.inf, 3.0), *overrides, **more):
        said = []
        prepared = prepare(
            ask(Question(learners, epsilons, overrides=(*SMALL, *overrides), **more), OPTIONS), tmp_path
        )
        done = compare(
            prepared, tmp_path, Watching(lambda: nullcontext(lambda *_stage: None), said.append), "asked"
        )
        return done, said

    return run


def test_every_row_is_run_once_on_the_same_homes_and_is_one_point_of_all(simulated, compared, tmp_path):
    done, _ = compared()
    assert simulated.asked == [
        ("ridge", "none", False),
        ("ridge", "distributed", False),
        ("svm", "none", False),
        ("svm", "distributed", False),
    ]
    assert [(p.point, p.points, p.epsilon) for p in simulated.points] == [(k, 4, 6.0) for k in (1, 2, 3, 4)]
    states = {yaml.safe_load(f.read_text())["state"] for f in tmp_path.glob("runs/*/*/config.yaml")}
    assert states == {str((tmp_path / "homes").resolve())}
    assert [row.state for row in done.comparison.rows] == ["finished"] * 4
    assert [row.epsilon for row in done.comparison.rows] == [None, 1.0, None, 1.0]
    assert done.exit_codes == ()


def test_what_is_finished_is_not_run_again(simulated, compared):
    first, _ = compared()
    second, said = compared()
    assert len(simulated.asked) == 4
    assert said.count("finished before, with these settings") == 4
    assert second.comparison.rows == first.comparison.rows


def test_changed_settings_make_a_new_run_of_the_rows_that_they_touch(simulated, compared):
    compared()
    done, _ = compared(own={"svm-inf": ("rounds=2",)})
    assert simulated.asked[4:] == [("svm", "none", False)]
    assert done.comparison.rows[2].rounds == 2
    assert any("1 run with other settings" in text for text in done.comparison.cost)
    compared()  # and back: the first runs are still there
    assert len(simulated.asked) == 5


def test_another_data_file_is_another_setting(simulated, compared, tmp_path):
    file = tmp_path / "set.npz"
    asked = (("ridge",), (3.0,), "data=medmnist", f"data.path={file}", "data.dataset=pneumoniamnist")
    file.write_bytes(b"one")
    compared(*asked)
    compared(*asked)
    assert len(simulated.asked) == 1
    file.write_bytes(b"two")
    compared(*asked)
    assert len(simulated.asked) == 2


def test_a_run_that_was_stopped_goes_on_and_is_not_begun_again(simulated, compared):
    simulated.failing["svm", "distributed"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compared()
    simulated.failing.clear()
    done, _ = compared()
    assert simulated.asked[4:] == [("svm", "distributed", True)]
    assert [row.state for row in done.comparison.rows] == ["finished"] * 4


def test_a_private_run_that_is_open_in_a_ledger_is_not_finished(simulated, compared, tmp_path):
    compared()
    for extract in tmp_path.glob("runs/ridge-3-*/*/ledgers/a.json"):
        extract.unlink()
    compared()
    assert simulated.asked[4:] == [("ridge", "distributed", True)]


def test_a_row_that_fails_says_why_and_the_others_go_on(simulated, compared, tmp_path):
    simulated.failing["ridge", "distributed"] = BudgetExhausted("room", "none left", "ask for less")
    simulated.failing["svm", "none"] = ValueError("Doe^Jane")
    done, said = compared()
    rows = done.comparison.rows
    assert [row.state for row in rows] == ["finished", "failed", "failed", "finished"]
    assert rows[1].reason == "expected room; found none left; ask for less"
    assert "ValueError" in rows[2].reason
    everything = " ".join(said) + "".join(
        (tmp_path / f"comparison.{e}").read_text() for e in ("json", "csv", "md", "html", "svg")
    )
    assert "Doe" not in everything  # a foreign fault may quote what it read
    assert "found none left" in everything
    assert done.exit_codes == (3, 1)


def test_a_row_that_cannot_be_composed_is_a_failed_row_and_no_row_at_all_an_error(compared):
    own = {"svm": ("aggregation=fedavgm",)}
    done, _ = compared(own=own)
    assert [row.state for row in done.comparison.rows] == ["finished", "finished", "failed", "failed"]
    assert "aggregation=fedavg" in done.comparison.rows[2].reason
    with pytest.raises(ConfigError, match="aggregation=fedavg"):
        compared(("svm",), own=own)


def test_homes_that_are_named_are_used_and_their_ledgers_are_said_to_be_charged(
    simulated, compared, tmp_path
):
    homes = tmp_path / "kept"
    done, _ = compared(("ridge",), (3.0,), f"state={homes}")
    (file,) = tmp_path.glob("runs/*/*/config.yaml")
    assert yaml.safe_load(file.read_text())["state"] == str(homes)
    assert any("charged run by run" in text for text in done.comparison.cost)
    assert not any("this comparison's own" in text for text in done.comparison.cost)


def test_what_it_will_cost_is_said_before_it_is_run(simulated, tmp_path):
    prepared = prepare(
        ask(Question(("ridge", "svm"), (math.inf, 8.0, 3.0), overrides=SMALL), OPTIONS), tmp_path
    )
    said = compared_cost.ahead(charges_of(prepared, tmp_path))
    assert said[0].startswith("4 runs with privacy, 4 still to be made")
    assert said[0].endswith("Their ε add up to 22, and so do their δ.")
    assert "this comparison's own" in said[1]
    assert said[2].startswith("2 runs without privacy: nothing is promised")
    assert [finished(one) for one in prepared] == [None] * 6
    assert simulated.asked == []


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """Rows of runs with a release record, and what they are said to cost together."""
    monkeypatch.setattr(compared_cost, "together", lambda files: Together(4.25, 1e-5, "patient"))

    def said(*sweeps, public=True, **changes):
        rows = []
        for k, sweep in enumerate(sweeps):
            folder = tmp_path / f"run-{k}"
            folder.mkdir()
            (folder / "record.json").write_text("{}")
            RunFolder(folder).note_sweep(sweep)
            rows.append(
                Row("a", 3.0, "per_site", "finished", private=True, run=str(folder), public=public, **changes)
            )
        return " ".join(compared_cost.spent(rows))

    return said


def test_runs_that_were_asked_for_at_once_compose(signed):
    text = signed(SweepPoint(1, 2, 6.0), SweepPoint(2, 2, 6.0))
    assert "2 runs with privacy together: ε = 4.25 at δ = 1e-05 for one patient" in text
    assert "not all asked for at once" not in text


@pytest.mark.parametrize(
    "sweeps",
    [
        (SweepPoint(), SweepPoint()),
        (SweepPoint(1, 2, 6.0), SweepPoint(3, 3, 9.0)),
        (SweepPoint(1, 2, 6.0), SweepPoint(2, 2, 6.0), SweepPoint(2, 2, 6.0)),
    ],
)
def test_of_runs_that_came_after_others_were_seen_no_composed_epsilon_is_claimed(signed, sweeps):
    assert "this number does not hold" in signed(*sweeps)


def test_whose_data_they_are_is_said(signed):
    assert "no patient's secret was spent" in signed(SweepPoint(), public=True)


def test_patients_data_are_not_called_public(signed):
    text = signed(SweepPoint(), public=False)
    assert "The data are of patients" in text
    assert "no patient's secret" not in text


def test_runs_of_different_data_are_not_composed(tmp_path):
    rows = [Row("a", 3.0, "per_site", "finished", private=True, data=data) for data in "xy"]
    (said,) = compared_cost.spent(rows)
    assert said == "2 runs with privacy, of different data: what they cost together is not known here."
