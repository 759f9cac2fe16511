"""What is remembered says what is asked for next, over restarts, and forgets what is long past."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from sites.watch.delivering import Retries
from sites.watch.dicomweb_poll_memory import RETRIES, Key, Memory, State, standing

DAY = 739_000
DAY_S = 86400.0


@pytest.fixture
def memory(tmp_path):
    one = Memory(tmp_path, Retries(3, 30.0, 600.0), lambda: 1.0)
    yield one
    one.close()


def key(name="a", kind="instance", day=DAY):
    return Key(name.encode(), kind, day)


def test_an_image_fails_so_often_and_no_more(memory, tmp_path):
    assert [memory.charge(key(), 100.0).due for _ in range(3)] == [130.0, 160.0, 220.0]
    assert memory.find(key()).state is State.LEFT and standing(tmp_path) == {"left": 1}
    memory.settle(key("b"), State.TAKEN)
    assert memory.charge(key("b"), 0.0).tries == 1, "what once went well begins anew"


def test_the_tries_of_an_image_last_half_a_day_at_least():
    pauses = [RETRIES.pause(tries, 0.0) for tries in range(1, RETRIES.attempts)]
    assert sum(pauses) >= 6 * 3600 and sum(pauses) * 2 <= DAY_S
    assert pauses == sorted(pauses)


def test_a_study_is_looked_at_when_it_grew_when_it_is_due_and_when_it_says_nothing(memory):
    study = key("s", "study")
    assert memory.is_due(study, 5, 0.0)
    memory.settle(study, State.LOOKED, 5, due=100.0)
    assert not memory.is_due(study, 5, 99.0)
    assert memory.is_due(study, 6, 0.0) and memory.is_due(study, 4, 0.0) and memory.is_due(study, 5, 100.0)
    assert memory.is_due(study, -1, 0.0)
    memory.charge(study, 100.0, 6)
    assert not memory.is_due(study, 7, 129.0) and memory.is_due(study, 7, 130.0)
    for _ in range(2):
        memory.charge(study, 100.0, 6)
    assert memory.find(study).state is State.LEFT
    assert (
        not memory.is_due(study, 6, 1e9)
        and not memory.is_due(study, -1, 1e9)
        and memory.is_due(study, 7, 0.0)
    )


def test_days_go_back_to_the_last_whole_round_and_to_what_fails(memory):
    now = 1000 * DAY_S
    assert memory.begin("one", DAY, overlap=2, first=5, now=now) == DAY - 5
    memory.whole("one", DAY - 5, DAY)
    assert memory.begin("one", DAY + 10, overlap=2, first=5, now=now) == DAY - 2
    assert memory.begin("another", DAY, overlap=2, first=1, now=now) == DAY - 1
    memory.charge(key(day=DAY - 20), now)
    assert memory.begin("one", DAY, overlap=2, first=5, now=now) == DAY - 20
    assert memory.begin("one", DAY, overlap=2, first=5, now=now + 2 * DAY_S) == DAY - 2, (
        "it is not there any more"
    )
    assert memory.begin("one", DAY + 5000, overlap=2, first=5, now=now) == DAY + 5000 - 366


def test_what_is_long_past_is_forgotten(memory):
    for day in (DAY - 8, DAY - 7, DAY):
        memory.settle(key(str(day), day=day), State.TAKEN)
    memory.whole("one", DAY, DAY + 2)
    assert [memory.find(key(str(day))) is None for day in (DAY - 8, DAY - 7, DAY)] == [True, False, False]


def test_a_restart_tries_anew_what_was_left_of_days_that_are_asked_for(memory, tmp_path):
    for name, day in (("old", DAY - 9), ("new", DAY)):
        for _ in range(3):
            memory.charge(key(name, day=day), 100.0)
    memory.settle(key("s", "study"), State.LOOKED, 5, due=1e12)
    memory.forgive(DAY - 3)
    assert memory.find(key("old", day=DAY - 9)).state is State.LEFT
    assert memory.find(key("new")).state is State.FAILING and memory.find(key("new")).due == 0
    assert memory.is_due(key("s", "study"), 5, 0.0)


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "poll.sqlite").write_bytes(b"something else, and long enough to be read as a page" * 40)
    with pytest.raises(DataError, match="known as repeats"):
        Memory(tmp_path)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12))
def test_what_stands_adds_up(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("m")
    assert standing(folder) == {}
    memory = Memory(folder, Retries(3, 30.0, 600.0), lambda: 0.0)
    for name in names:
        memory.charge(key(name), 0.0)
    memory.close()
    assert (folder / "poll.sqlite").stat().st_mode & 0o777 == 0o600
    counts = {name: names.count(name) for name in set(names)}
    left = sum(count >= 3 for count in counts.values())
    expected = {"left": left, "failing": len(counts) - left}
    assert standing(folder) == {state: count for state, count in expected.items() if count}
