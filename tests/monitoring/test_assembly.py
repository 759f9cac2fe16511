"""A study is whole when nothing more is to be waited for, and is told once; no order of events loses one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.monitoring.assembly import Assembler, AssemblyConfig, Completeness, Plane, gap_free

CONFIG = AssemblyConfig(quiet_s=5, longest_s=60)


def series(positions, uid="1"):
    return [Plane(uid, float(p), k + 1) for k, p in enumerate(positions)]


def assembler(planes=()):
    return Assembler(lambda _study: planes, CONFIG)


def test_a_released_association_without_a_gap_completes_at_once():
    one = assembler(series([0, 5, 10, 15]))
    one.received("a", 0.0)
    assert one.complete(0.1) == []
    one.released(["a", "never received"])
    assert one.complete(0.1) == [("a", Completeness.COMPLETE)]
    assert one.complete(100.0) == []


def test_a_gap_waits_for_silence():
    one = assembler(series([0, 5, 15, 20]))
    one.received("a", 0.0)
    one.released(["a"])
    assert one.complete(4.9) == []
    assert one.next_at() == 5.0
    assert one.complete(5.0) == [("a", Completeness.QUIET)]


def test_what_keeps_coming_is_looked_at_in_part():
    one = assembler()
    for second in range(0, 60, 4):
        one.received("a", float(second))
        assert one.complete(float(second)) == []
    assert one.complete(60.0) == [("a", Completeness.PARTIAL)]
    one.received("a", 61.0)  # opens it again
    assert one.complete(66.0) == [("a", Completeness.QUIET)]


def test_an_image_after_the_release_is_waited_for():
    one = assembler(series([0, 5, 10]))
    one.received("a", 0.0)
    one.released(["a"])
    one.received("a", 1.0)  # on another association
    assert one.complete(1.0) == []
    assert one.complete(6.0) == [("a", Completeness.QUIET)]


@pytest.mark.parametrize(
    ("planes", "whole"),
    [
        (series([0, 5, 10, 15]), True),
        (series([0, 5, 15, 20]), False),
        (series([0, 5, 10.01, 15]), True),
        (series([0, 0, 5, 5, 10, 10]), True),  # two phases at each place
        ([Plane("1", None, n) for n in (1, 2, 3)], True),
        ([Plane("1", None, n) for n in (1, 3)], False),
        ([Plane("1", None, None)] * 3, True),
        (series([0, 5, 10]) + series([0, 5, 15, 20], "2"), False),  # any series
        ([], True),
    ],
)
def test_gaps(planes, whole):
    assert gap_free(planes) is whole


@given(st.lists(st.integers(1, 400), min_size=4, max_size=40, unique=True), st.data())
def test_an_even_stack_has_no_gap_and_one_without_an_inner_slice_has(numbers, data):
    count = len(numbers)
    stack = series([2.5 * k for k in range(count)])
    shuffled = data.draw(st.permutations(stack))
    assert gap_free(shuffled)
    taken = data.draw(st.integers(1, count - 2))
    without = [plane for plane in shuffled if plane.position_mm != 2.5 * taken]
    if len(without) >= 4:  # of three with a hole nobody can say which distance is the usual one
        assert not gap_free(without)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["received", "released", "ask"]), st.sampled_from("abc"), st.floats(0, 20)),
    max_size=60,
)


@given(EVENTS)
def test_no_order_of_events_loses_a_study_or_tells_it_twice(events):
    """After its last image each study is told exactly once, no later than the rules say."""
    one, now, owed = assembler(series([0, 5, 15, 20])), 0.0, {}
    first = {}
    for kind, study, wait in events:
        now += wait
        if kind == "received":
            one.received(study, now)
            owed[study] = now
            first.setdefault(study, now)
        elif kind == "released":
            one.released([study])
        else:
            for told, reason in one.complete(now):
                assert told in owed
                if reason is Completeness.QUIET:
                    assert now >= owed[told] + CONFIG.quiet_s
                if reason is Completeness.PARTIAL:
                    assert now >= first[told] + CONFIG.longest_s
                del owed[told], first[told]
            for study_left, last in owed.items():
                assert now < last + CONFIG.quiet_s
                assert now < first[study_left] + CONFIG.longest_s
    assert {study for study, _ in one.complete(now + 60)} == owed.keys()
    assert one.next_at() is None


@pytest.mark.parametrize(("quiet", "longest"), [(0, 60), (5, 4), (-1, 1), (5, float("inf"))])
def test_times_that_make_no_sense_are_refused(quiet, longest):
    with pytest.raises(ConfigError, match="quiet_s"):
        AssemblyConfig(quiet_s=quiet, longest_s=longest)
