"""The secure sum is the plain sum of whoever survived, exactly, or nothing is opened."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import PolicyRefused
from fedimg.secagg.coordinator import VoidSumError
from fedimg.secagg.graph import sparse

STEPS, INPUT = 5, 2


def outcome(hall, drops):
    """What the rule says: (survivors, or None where nothing may be opened)."""
    alive = [[name for name in hall.plan.names if drops.get(name, STEPS) > step] for step in range(STEPS)]
    if any(len(names) < hall.plan.threshold for names in alive):
        return None
    return tuple(alive[INPUT])


def holds(hall, drops):
    survivors = outcome(hall, drops)
    if survivors is None:
        with pytest.raises(VoidSumError, match=f"of at least {hall.plan.threshold}"):
            hall.run(drops)
        return
    opened = hall.run(drops)
    assert opened.survivors == survivors
    assert np.array_equal(opened.total, hall.expected(survivors))
    assert hall.coordinator.refused == {}


@pytest.mark.parametrize("sites", [3, 4])
def test_every_way_to_drop_out_of_five_exchanges_or_none(hall, sites):
    """6^K ways: from any of the five exchanges on, or never."""
    one = hall(sites)
    for number, steps in enumerate(itertools.product(range(STEPS + 1), repeat=sites)):
        one.start(f"{number}")
        holds(one, dict(zip(one.plan.names, steps, strict=True)))


@pytest.mark.parametrize("first", range(1, STEPS + 1))
def test_every_way_of_five_sites_that_have_advertised(hall, first):
    """5^5 ways, in five parts by what the first site does: from one of the later exchanges on, or never."""
    five = hall(5)
    for number, rest in enumerate(itertools.product(range(1, STEPS + 1), repeat=4)):
        five.start(f"{number}")
        holds(five, dict(zip(five.plan.names, (first, *rest), strict=True)))


@settings(max_examples=60)
@given(st.data(), st.integers(6, 10), st.sampled_from([32, 64]))
def test_sampled_ways_up_to_ten_sites(hall, data, sites, word_bits):
    least = 2 * sites // 3 + 1
    threshold = data.draw(st.integers(least, sites))
    many = hall(sites, threshold=threshold, word_bits=word_bits, size=data.draw(st.integers(1, 40)))
    # mostly nobody drops out, so that both outcomes are met
    steps = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, *[5] * 15]), min_size=sites, max_size=sites))
    holds(many, dict(zip(many.plan.names, steps, strict=True)))


def test_fifty_sites_among_everybody(hall):
    fifty = hall(50, size=5)
    drops = {f"site-{i:04d}": 1 + i % 4 for i in range(16)}
    holds(fifty, drops)


def test_a_sparse_graph_opens_the_same_sum(hall):
    sites, threshold, colluders = 80, 64, 4
    degree, share_threshold = sparse(sites, threshold, colluders)
    assert 0 < degree < sites - 1
    many = hall(
        sites, threshold=threshold, colluders=colluders, degree=degree, share_threshold=share_threshold
    )
    drops = {f"site-{i:04d}": 1 + i % 4 for i in range(0, 80, 8)}
    holds(many, drops)


def test_sums_wrap_nowhere_up_to_the_edge_of_the_words(hall):
    edge = hall(3, word_bits=32, size=2)
    most = (2**31 - 1) // 3
    edge.inputs = dict.fromkeys(edge.inputs, np.array([most, -most]))
    assert np.array_equal(edge.run().total, [3 * most, -3 * most])


def test_the_same_request_again_has_the_same_answer(hall):
    """A lost answer is asked for again; the masked input is never made twice."""
    three = hall(3)

    def twice(step, name, answer):
        request = three.sites[name].state.shown[step]
        assert three.answer(name, step, request) == answer
        return answer

    calls = []
    words = three.words
    three.words = lambda name: (calls.append(name), words(name))[1]
    assert np.array_equal(three.run(wire=twice).total, three.expected(three.plan.names))
    assert len(calls) == 3


@pytest.mark.parametrize("changed", ["size", "bits"])
def test_words_that_are_not_the_plans_are_never_masked(hall, changed):
    three = hall(3)
    wrong = np.zeros(4, "<u4") if changed == "size" else np.zeros(3, "<u8")
    three.words = lambda _name: wrong
    with pytest.raises(PolicyRefused, match="3 words of 32 bits; found shape"):
        three.run()


def test_the_words_are_gone_once_they_are_masked(hall):
    three = hall(3, size=64)
    kept = {name: three.words(name) for name in three.sites}
    before = {name: words.copy() for name, words in kept.items()}
    three.words = kept.__getitem__
    opened = three.run()
    assert np.array_equal(opened.total, three.expected(three.plan.names))
    assert not any(np.array_equal(kept[name], before[name]) for name in kept)
