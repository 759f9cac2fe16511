"""The order of waiting, and waiting times against a simulation that knows no formula."""

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.operating_point import expected, of_scores
from fedimg.monitoring.worklist import (
    URGENCY,
    Entry,
    Reading,
    alerts_per_day,
    arrivals_per_hour,
    ordered,
    urgency,
    wait_card,
)

entries = st.builds(
    Entry,
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.floats(0, 9),
    st.booleans(),
    st.integers(0, 3),
)


@given(entries, st.lists(st.one_of(st.integers(-5, 9), st.just("stat")), max_size=9))
def test_nothing_lowers_a_priority(entry, steps):
    for step in steps:
        now = entry.said_stat() if step == "stat" else entry.raised(step)
        assert now.priority >= entry.priority
        assert now.stat >= entry.stat
        assert (now.study, now.arrived_at) == (entry.study, entry.arrived_at)
        entry = now
    assert entry.priority >= max([step for step in steps if step != "stat"], default=0)


@given(st.lists(entries, unique_by=lambda e: e.study), st.randoms())
def test_the_order_is_total_drops_nothing_and_puts_stat_first(found, random):
    order = ordered(found)
    assert sorted(map(str, order)) == sorted(map(str, found))
    for a, b in itertools.pairwise(order):
        assert a.stat >= b.stat
        if a.stat == b.stat:
            assert a.priority >= b.priority
            assert a.priority > b.priority or a.arrived_at <= b.arrived_at
    random.shuffle(found)
    assert ordered(found) == order


def simulated(rate, mean, shape, share, studies, seed):
    """Mean waits (called, others) of one reader, event by event: never interrupted, the called first, each by arrival."""
    draw = np.random.default_rng(seed)
    arrivals = np.cumsum(draw.exponential(1 / rate, studies))
    lengths, called = draw.gamma(shape, mean / shape, studies), draw.random(studies) < share
    waiting, clock, following = [], 0.0, 0
    waits = np.empty(studies)
    for _ in range(studies):
        if not waiting:
            clock = max(clock, arrivals[following])
        while following < studies and arrivals[following] <= clock:
            heapq.heappush(waiting, (not called[following], following))
            following += 1
        _, read = heapq.heappop(waiting)
        waits[read] = clock - arrivals[read]
        clock += lengths[read]
    return waits[called].mean(), waits[~called].mean()


@pytest.mark.parametrize(("shape", "load", "share"), [(1, 0.8, 0.1), (1, 0.6, 0.5), (4, 0.7, 0.25)])
def test_waits_are_those_of_a_simulation(shape, load, share):
    """Gamma reading times of `shape`: c² = 1/shape.

    The mean of n waits in an M/M/1 queue varies by ρ(2 + 5ρ − 4ρ² + ρ³)/(1 − ρ)⁴ · s²/n (Daley 1968): at ρ = 0.8 and
    1.2 million studies 1 % of the mean. 4 % are four deviations; the wrong formulas are 8 % off and more.
    """
    minutes = 5.0
    reading = Reading(60 * load / minutes, minutes, shape**-0.5)
    found = simulated(load / minutes, minutes, shape, share, 1_200_000, 7)
    assert reading.waits(share) == pytest.approx(found, rel=0.04)
    # the same test sees the formula without its factor (1 − ρ_h), or with the wrong spread
    wrong = reading.waits(0.0)[1], Reading(60 * load / minutes, minutes, 2.0).waits(share)[1]
    assert all(abs(value / found[1] - 1) > 0.05 for value in wrong)


@given(st.floats(0.05, 0.95), st.floats(1, 30), st.floats(0, 1), st.floats(0, 2))
def test_triage_only_moves_waiting_from_one_class_to_the_other(load, minutes, share, variation):
    """Kleinrock's conservation law: Σ ρ_i W_i is that of the order of arrival."""
    reading = Reading(60 * load / minutes, minutes, variation)
    called, others = reading.waits(share)
    assert share * called + (1 - share) * others == pytest.approx(reading.wait(), rel=1e-9)
    assert called <= reading.wait() * (1 + 1e-12) <= others * (1 + 1e-11)


def test_the_specifications_formula_by_hand():
    """10 studies an hour of 4.8 min: ρ = 0.8; a tenth called: ρ_h = 0.08; W_low = 0.8·4.8/((1 − 0.08)(1 − 0.8))."""
    reading = Reading(10, 4.8)
    assert reading.waits(0.1) == pytest.approx((0.8 * 4.8 / 0.92, 0.8 * 4.8 / (0.92 * 0.2)))
    assert reading.wait() == pytest.approx(0.8 * 4.8 / 0.2)


def test_a_reader_who_cannot_keep_up_is_told_so():
    with pytest.raises(
        ConfigError, match=r"found 1\.50 readers' work for one, so that waiting grows without end"
    ):
        Reading(18, 5)
    with pytest.raises(ConfigError, match="keeps up"):
        Reading(12, 5)
    for wrong in ((0, 5), (5, 0), (float("nan"), 5), (5, float("inf")), (5, 5, -1)):
        with pytest.raises(ConfigError, match="above 0"):
            Reading(*wrong)


def point():
    """Sensitivity 0.95 of 200 and specificity 0.9 of 1,000, by made-up scores."""
    positives = np.concatenate([np.full(10, 0.1), np.full(190, 0.9)])
    negatives = np.concatenate([np.full(100, 0.95), np.full(900, 0.05)])
    return of_scores(positives, negatives, target=0.9)


def test_a_card_says_what_the_called_gain_and_all_others_wait_more():
    told = expected(point(), 0.02)
    card = wait_card(Reading(10, 4.8), told)
    assert card.share_called == pytest.approx(0.02 * 0.95 + 0.98 * 0.1)
    assert card.gained > 0
    assert card.delayed > 0
    assert card.share_called * card.gained == pytest.approx((1 - card.share_called) * card.delayed)
    # of 100 with the finding 95 wait as the called do and 5 as the others
    assert card.with_finding == pytest.approx(0.95 * card.called + 0.05 * card.others)
    assert 0 < card.gained_with_finding < card.gained


def test_alerts_a_day_and_arrivals_an_hour_are_counted():
    told = expected(point(), 0.02)
    assert alerts_per_day(told, 250).value == pytest.approx(2.5 * told.alerts_per_100.value)
    assert alerts_per_day(told, 250).low < alerts_per_day(told, 250).value < alerts_per_day(told, 250).high
    assert arrivals_per_hour([0, 1800, 3600, 7200], 0, 7200) == 1.5
    for times, end in (([], 10), ([5], 5), ([50], 10)):
        with pytest.raises(DataError, match="within a span"):
            arrivals_per_hour(times, 5, end)
    with pytest.raises(ConfigError, match="above 0"):
        alerts_per_day(told, 0)


def test_kinds_have_an_urgency_and_others_are_refused():
    assert urgency("stroke") > urgency("cardiac") > urgency("tumour") >= urgency("other") > 0
    assert set(URGENCY) == {"tumour", "cardiac", "stroke", "other"}
    with pytest.raises(DataError, match="another kind of finding"):
        urgency("hernia")
