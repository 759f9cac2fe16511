"""A run's folder → a row: nothing is made up, nothing that was promised is overstated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.compare.reading import AT_SITES, PUBLIC_SET, read_run
from fedimg.compare.rows import Row, Score, bytes_written
from fedimg.errors import DataError


def test_a_finished_run_is_read(run_folder):
    row = read_run(run_folder())
    assert (row.learner, row.epsilon_asked, row.mode, row.model) == ("ridge", 3.0, "distributed", "ridge")
    assert row.scores == {
        "auroc": Score(0.9, 0.85, 0.95),
        "accuracy": Score(0.8, 0.75, 0.85),
        "recall": Score(0.7, 0.6, 0.8),
        "f1": Score(0.75),
    }
    assert (row.measured_on, row.seconds, row.sent, row.rounds) == (PUBLIC_SET, 1.5, 300, 2)
    # the costliest site after the last round, and the largest δ
    assert (row.epsilon, row.delta, row.unit, row.public) == (2.75, 2e-5, "patient", True)


def test_a_baseline_spent_and_sent_nothing_and_says_its_task(run_folder):
    row = read_run(
        run_folder(
            summary={
                "baseline": "otsu",
                "task": "segmentation",
                "test": {"dice": 0.4, "auroc": 0.9},
                "test_intervals": {"dice": [0.3, 0.5]},
                "sites": {"a": {}, "b": {}},
                "privacy": {"mode": "no site asked", "private": False, "unit": "patient", "secagg": "none"},
                "cost": {"seconds": 0.1, "bytes_sent": {"a": 0, "b": 0}, "bytes_received": {"a": 0, "b": 0}},
            }
        )
    )
    assert (row.learner, row.model, row.epsilon_asked, row.epsilon, row.delta) == (
        "otsu",
        "otsu",
        0.0,
        0.0,
        0.0,
    )
    assert row.scores == {"dice": Score(0.4, 0.3, 0.5)}
    assert (row.sent, row.private, row.baseline, row.headline) == (0, False, True, "dice")


def test_without_a_public_set_the_sites_own_histograms_count(run_folder):
    row = read_run(run_folder(summary={"test": {}, "test_intervals": {}}))
    assert (row.scores, row.measured_on) == ({"auroc": Score(0.6)}, AT_SITES)


def test_a_run_that_counted_nothing_has_no_cost(run_folder):
    row = read_run(run_folder(without=("cost",)))
    assert (row.seconds, row.bytes_sent, row.sent) == (None, None, None)


def test_a_run_without_privacy_promises_no_epsilon(run_folder):
    privacy = {"mode": "none", "private": False, "unit": "patient", "secagg": "none"}
    row = read_run(run_folder(summary={"privacy": privacy, "sites": {"a": {}, "b": {}}}))
    assert (row.epsilon_asked, row.epsilon, row.delta, row.private) == (math.inf, None, None, False)


def test_one_site_without_a_guarantee_leaves_none(run_folder):
    assert read_run(run_folder(summary={"sites": {"a": {"epsilon": 3.0}, "b": {}}})).epsilon is None


def test_rounds_that_say_nothing_of_epsilon_leave_what_was_set_aside(run_folder):
    assert read_run(run_folder(rounds=[{"round": 1}])).epsilon == 3.0


def test_patients_data_are_told_from_public_ones(run_folder):
    assert read_run(run_folder("1", without=("intake",))).public is False
    assert read_run(run_folder("2", {"simulated": False})).public is None


def test_other_data_or_another_division_are_told_apart(run_folder):
    same, seed = read_run(run_folder("1")), read_run(run_folder("2", config={"seed": 1}))
    other = read_run(run_folder("3", config={"privacy": {"epsilon": 8.0}}))
    assert same.data == other.data != seed.data


@pytest.mark.parametrize(
    "changes",
    [
        {"summary": None},
        {"config": None},
        {"summary": "[]"},
        {"summary": "{"},
        {"config": "a: [\n"},
        {"summary": {"sites": 3}},
        {"summary": {"test": {"auroc": "high"}}},
        {"config": {"model": {}}},
    ],
)
def test_what_is_no_finished_run_is_a_data_error(run_folder, changes):
    with pytest.raises(DataError, match="a finished run's folder"):
        read_run(run_folder(**changes))


def test_a_row_as_json_values_has_an_infinite_epsilon_as_text():
    assert Row("ridge", math.inf, "none").as_dict()["epsilon_asked"] == "inf"
    assert Row("ridge", 3.0, "distributed").as_dict()["epsilon_asked"] == 3.0


@given(st.integers(1, 10**15))
def test_bytes_are_written_to_three_digits(count):
    value, unit = bytes_written(count).split()
    power = ("B", "kB", "MB", "GB", "TB").index(unit)
    assert abs(float(value) * 1000**power - count) <= 0.005 * count + 0.5
    assert float(value) < 1000 or power == 4
