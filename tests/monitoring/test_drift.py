"""Drift: p-values that are valid, alarms that are as rare as promised, and shifts that are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2_contingency, false_discovery_control, ks_2samp

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring import drift
from fedimg.monitoring.drift import DriftConfig, DriftMonitor, Reference


def numbers(count, generator, size=1000):
    return {f"n{k}": Reference("number", generator.standard_normal(size)) for k in range(count)}


def watched(references, generator, studies, shifted=None, begins=0, by=0.5, config=None):
    """The first alarm as (study, streams), of standard normal streams of which one moves; None without any."""
    monitor = DriftMonitor(references, config or DriftConfig())
    for study in range(studies):
        values = {name: generator.standard_normal() for name in references}
        if shifted is not None and study >= begins:
            values[shifted] += by
        if found := monitor.observe(values):
            return study, tuple(one.stream for one in found)
    return None


def test_alarms_where_nothing_moves_are_as_rare_as_promised_and_not_so_without_correction():
    generator, runs, streams, studies = np.random.default_rng(), 40, 5, 600
    config = DriftConfig(horizon=studies)
    alarms = sum(
        watched(numbers(streams, generator), generator, studies, config=config) is not None
        for _ in range(runs)
    )
    assert alarms <= binom.ppf(0.9999, runs, 0.05)
    # the same looks, each stream by itself at 5 %
    naive = 0
    for _ in range(runs):
        reference, stream = generator.standard_normal(1000), generator.standard_normal(4 * studies)
        windows = [stream[max(0, at - 175) : at] for at in range(100, 4 * studies + 1, 25)]
        naive += any(ks_2samp(reference, window, method="asymp").pvalue < 0.05 for window in windows)
    assert naive > binom.ppf(0.9999, runs, 0.05)


def test_a_shift_of_half_a_deviation_is_found_within_200_studies():
    generator, runs, found = np.random.default_rng(), 40, 0
    for _ in range(runs):
        begins = 300 + int(generator.integers(25))
        alarm = watched(numbers(4, generator), generator, begins + 200, "n3", begins)
        found += alarm is not None and alarm[0] >= begins and "n3" in alarm[1]
    assert found >= binom.ppf(1e-4, runs, 0.95)


def test_what_moved_is_named_with_its_size():
    generator = np.random.default_rng()
    references = numbers(3, generator) | {
        "site": Reference("class", generator.integers(0, 4, 1000).astype(float)),
        "embedding": Reference("vector", generator.standard_normal((600, 16))),
    }
    monitor = DriftMonitor(references, DriftConfig(horizon=200))
    for _ in range(175):
        study = {"n0": generator.normal(2.0), "n1": generator.normal(), "n2": generator.normal()}
        monitor.observe(study | {"site": 7, "embedding": generator.standard_normal(16) * 2})
    found = {one.stream: one for one in monitor.look()}
    assert {"n0", "site", "embedding"} <= found.keys()
    assert found["n0"].shift == pytest.approx(2 / 1.349, abs=0.3)  # the interquartile range of N(0, 1)
    assert found["n0"].studies == 175


@pytest.mark.parametrize("kind", ["number", "class", "vector"])
def test_p_values_are_valid_where_nothing_moves(kind):
    generator, runs = np.random.default_rng(), 300
    size, window = (50, 175) if kind == "vector" else (200, 100)  # few references say little of the scales

    def sample(size):
        if kind == "number":
            return generator.integers(0, 6, size).astype(float)  # ties
        if kind == "class":
            return generator.choice(5, size, p=[0.9, 0.05, 0.03, 0.015, 0.005]).astype(float)  # small cells
        return np.maximum(generator.standard_normal((size, 32)) - 1.5, 0)  # of a network: sparse

    def p():
        if kind == "number":
            return drift.of_numbers(sample(size), sample(window))[0]
        test = drift.of_classes if kind == "class" else drift.of_vectors
        return test(sample(size), sample(window), 1e-3, generator)[0]

    found = np.array([p() for _ in range(runs)])
    for level in (0.01, 0.05, 0.2):
        assert (found <= level).sum() <= binom.ppf(0.99999, runs, level)
    assert found.min() > 0
    if kind == "vector":  # and not valid for being always 1
        assert (found <= 0.2).sum() >= binom.ppf(1e-5, runs, 0.2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_rejected_are_benjamini_and_hochbergs(p, level):
    named = {str(k): value for k, value in enumerate(p)}
    adjusted = false_discovery_control(p)
    close = np.isclose(adjusted, level, rtol=1e-9)
    wanted = {str(k) for k in np.flatnonzero(adjusted <= level)}
    assert drift.benjamini_hochberg(named, level, len(p)) == wanted or close.any()
    fewer = drift.benjamini_hochberg(named, level, 2 * len(p))  # streams that had no studies count
    assert fewer <= drift.benjamini_hochberg(named, level, len(p))


@given(
    st.lists(st.integers(0, 3), min_size=30, max_size=60),
    st.lists(st.integers(0, 4), min_size=20, max_size=40),
)
def test_the_statistic_of_classes_is_pearsons(reference, window):
    generator = np.random.default_rng(0)
    _, found = drift.of_classes(np.array(reference, float), np.array(window, float), 0.1, generator)
    kinds = sorted({*reference, *window})
    table = np.array([[own.count(kind) for kind in kinds] for own in (reference, window)])
    wanted = chi2_contingency(table, correction=False).statistic if len(kinds) > 1 else 0.0
    assert found * len(window) == pytest.approx(wanted)


def test_the_discrepancy_is_that_of_all_pairs():
    """Gretton et al. 2012, equation 3, pair by pair."""
    generator = np.random.default_rng()
    x, y = generator.standard_normal((30, 3)), generator.standard_normal((20, 3)) + 0.7
    _, found = drift.of_vectors(x, y, 0.1, generator)
    x, y = x / (spread := np.concatenate([x, y]).std(axis=0)), y / spread
    both = np.concatenate([x, y])
    distances = [((a - b) ** 2).sum() for k, a in enumerate(both) for b in both[:k]]
    typical = np.median(distances)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / typical)

    within = [
        np.mean([kernel(a, b) for k, a in enumerate(own) for j, b in enumerate(own) if j != k])
        for own in (x, y)
    ]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert found == pytest.approx(sum(within) - 2 * across)


def test_a_permutation_that_stops_early_says_so_in_its_p_value():
    drawn = iter(np.tile([0.0, 0.0, 0.0, 2.0], 5000))
    p = drift.by_permutation(1.0, lambda many: [next(drawn) for _ in range(many)], 1e-3)
    assert p == 10 / 40  # the tenth that is as extreme is the 40th
    assert drift.by_permutation(1.0, np.zeros, 1e-3) == 1 / 4001


def test_a_stream_that_stands_still_and_one_that_steps():
    constant, generator = np.full(100, 3.0), np.random.default_rng()
    assert drift.of_numbers(constant, np.full(100, 3.0)) == (1.0, 0.0)
    p, shift = drift.of_numbers(constant, np.full(100, 4.0))
    assert (p < 1e-9, shift) == (True, 1.0)
    assert drift.of_classes(constant, np.full(50, 3.0), 0.01, generator) == (1.0, 0.0)
    assert drift.of_vectors(np.zeros((60, 2)), np.zeros((50, 2)), 0.01, generator)[0] > 0.05


def test_missing_values_are_left_out_and_no_look_is_taken_too_early():
    generator = np.random.default_rng()
    monitor = DriftMonitor(numbers(2, generator))
    for _ in range(99):
        assert monitor.observe({"n0": 9.0, "n1": np.nan}) == ()
    assert [one.stream for one in monitor.observe({"n0": 9.0})] == ["n0"]


@pytest.mark.parametrize(
    ("study", "remedy"),
    [({"other": 1.0}, "collect a reference"), ({"n0": [1.0, 2.0]}, "collect a reference")],
)
def test_values_without_a_reference_are_refused(study, remedy):
    monitor = DriftMonitor(numbers(1, np.random.default_rng()))
    with pytest.raises(DataError, match=remedy):
        monitor.observe(study)


def test_senseless_settings_are_refused():
    with pytest.raises(ConfigError, match="looks within the horizon"):
        DriftConfig(look_every=3000)
    with pytest.raises(ConfigError, match="alpha"):
        DriftConfig(alpha=1.0)
    with pytest.raises(ConfigError, match="a stream or more"):
        DriftMonitor({})
    with pytest.raises(DataError, match="50 finite references"):
        Reference("number", np.zeros(49))
    with pytest.raises(DataError, match="kind vector"):
        Reference("vector", np.zeros(100))
