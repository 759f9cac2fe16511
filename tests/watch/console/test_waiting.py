"""The wait-time card: the formula against a queue that is played through, and what is measured in a store."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.watch.console.waiting import card, measured
from tests.watch.console.conftest import Store


def played(rate, share, service_s, customers, seed):
    """Mean waits (urgent, routine, all) of one server that nobody interrupts; urgent ones are taken first."""
    generator = random.Random(seed)
    arrivals, at = [], 0.0
    for number in range(customers):
        at += generator.expovariate(rate)
        arrivals.append((at, generator.random() >= share, number))
    waiting, free, taken, k = [], 0.0, [], 0
    while len(taken) < customers:
        while k < customers and (arrivals[k][0] <= free or not waiting):
            arrived, routine, number = arrivals[k]
            heapq.heappush(waiting, (routine, number, arrived))
            free = max(free, arrived) if len(waiting) == 1 else free
            k += 1
        routine, _, arrived = heapq.heappop(waiting)
        begun = max(free, arrived)
        taken.append((routine, begun - arrived))
        free = begun + generator.expovariate(1 / service_s)
    means = []
    for kind in ((False,), (True,), (False, True)):
        found = [wait for routine, wait in taken if routine in kind]
        means.append(sum(found) / len(found))
    return means


@pytest.mark.parametrize(
    ("rate", "share", "service_s"), [(0.5, 0.2, 1.0), (0.8, 0.1, 1.0), (0.02, 0.4, 30.0)]
)
def test_the_formula_is_what_a_queue_does(rate, share, service_s):
    urgent, routine, everybody = played(rate, share, service_s, 200_000, 1)
    found = card("x", 3600 * rate, share, service_s)
    assert urgent == pytest.approx(found.urgent_s, rel=0.06)
    assert routine == pytest.approx(found.routine_s, rel=0.06)
    assert everybody == pytest.approx(found.in_order_s, rel=0.06)
    # and a wrong formula is told from it: without the load of the urgent ones
    assert routine != pytest.approx(found.in_order_s, rel=0.02)


@given(st.floats(1e-4, 2), st.floats(0, 1), st.floats(0.01, 100))
def test_what_urgent_ones_gain_the_others_pay(rate, share, service_s):
    found = card("x", 3600 * rate, share, service_s)
    if found.busy >= 1:
        assert (found.in_order_s, found.urgent_s, found.routine_s) == (None, None, None)
        return
    assert found.urgent_s <= found.in_order_s * (1 + 1e-9)
    assert found.routine_s >= found.in_order_s * (1 - 1e-9)
    # Kleinrock's conservation law: the mean over all is that of the queue without an order
    mean = share * found.urgent_s + (1 - share) * found.routine_s
    assert mean == pytest.approx(found.in_order_s, rel=1e-6)


@pytest.fixture
def store(tmp_path):
    from contextlib import closing

    with closing(Store(tmp_path, now=1_000_000.0)) as found:
        yield found


def test_nothing_is_said_of_what_was_not_measured(store):
    assert measured(store.connection, store.now, 1) == []
    store.model("ab" * 32, "m", "1", "active", ["1", "S", "x"])
    for number in range(9):
        store.study(number, minutes=60)
    assert measured(store.connection, store.now, 1) == []


def test_arrivals_and_times_are_measured(store):
    store.model("ab" * 32, "m", "1", "active", ["1", "S", "x"])
    for number in range(20):
        # one every three minutes, the first an hour ago; five of them urgent; read one a minute, ten minutes after
        at = store.now - 3600 + 180 * number
        store.study(
            number,
            minutes=(store.now - at) / 60,
            stat=number < 5,
            read_at=store.now - 3600 + 60 * (60 + number),
        )
        store.job(number, "ab" * 32, minutes=(store.now - at) / 60)
    models, people = measured(store.connection, store.now, 2)
    assert models.per_hour == pytest.approx(20)
    assert models.urgent_share == pytest.approx(0.25)
    assert models.service_s == pytest.approx(1.3 / 2)  # each job takes 1.3 s, and there are two workers
    assert people.service_s == pytest.approx(60)
    assert people.busy == pytest.approx(20 * 60 / 3600)
    assert people.routine_s == pytest.approx(20 / (1 - 1 / 12) / (1 - 1 / 3))
