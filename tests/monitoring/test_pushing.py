"""What is pushed: each message under one key, each step once, and nothing over the limit is forgotten."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.alerts import Acknowledged, Delivered, Escalated, FoundAgain, Superseded, after
from fedimg.monitoring.pushing import (
    Message,
    Pushes,
    RateLimit,
    Step,
    check_steps,
    due_step,
    message,
    message_key,
    next_escalation,
)
from tests.monitoring.test_alerts import again, events, raised

STEPS = (Step(300, "pager"), Step(900, "chief"))


@given(st.lists(st.tuples(events, st.floats(0, 400)), max_size=30))
def test_every_step_is_taken_once_in_order_and_never_of_what_a_person_has_in_hand(course):
    alert, now, taken = raised(), 1000.0, []
    for event, passed in course:
        now += passed
        while (step := due_step(alert, STEPS, now)) is not None:
            assert alert.state in ("raised", "delivered")
            assert now - alert.raised_at >= step.after_s
            taken.append((alert.raised_at, step.target))
            alert = after(alert, Escalated())
        if isinstance(event, Escalated):
            continue  # only a step that was due is taken
        with contextlib.suppress(DataError):
            alert = after(alert, replace(event, at=now) if isinstance(event, FoundAgain) else event)
    assert len(taken) == len(set(taken))
    for raising in {time for time, _ in taken}:
        assert [target for time, target in taken if time == raising] == ["pager", "chief"][
            : sum(time == raising for time, _ in taken)
        ]


def test_escalation_waits_for_its_time_and_ends_with_an_acknowledgement():
    alert = after(raised(), Delivered())
    assert due_step(alert, STEPS, 1299.9) is None
    assert due_step(alert, STEPS, 1300).target == "pager"
    assert next_escalation(alert, STEPS) == 1300
    once = after(alert, Escalated())
    assert (due_step(once, STEPS, 1300), next_escalation(once, STEPS)) == (None, 1900)
    assert next_escalation(after(once, Escalated()), STEPS) is None
    assert due_step(after(alert, Acknowledged()), STEPS, 1e9) is None


@pytest.mark.parametrize("times", [(0,), (5, 5), (9, 3), (float("nan"),), (float("inf"),)])
def test_steps_that_are_out_of_order_are_refused(times):
    check_steps(STEPS)
    with pytest.raises(ConfigError, match="rising times"):
        check_steps([Step(time, "pager") for time in times])


@given(st.lists(events, max_size=20))
def test_no_two_messages_of_an_alert_have_one_key(sequence):
    """Else a receiver that drops repeats would drop the second one."""
    alert = raised()
    keys = [message_key(alert, message(None, alert))]
    for event in sequence:
        before = alert
        try:
            alert = after(alert, event)
        except DataError:
            continue
        if (kind := message(before, alert)) is not None:
            keys.append(message_key(alert, kind))
    assert len(keys) == len(set(keys))
    assert all(set(key) <= set("0123456789abcdefghijklmnopqrstuvwxyz-") for key in keys)


def test_what_is_said_of_each_change():
    new, old = raised(), after(raised(), Superseded())
    assert message(None, new) is Message.RAISED
    assert message(new, after(new, Delivered())) is None
    assert message(new, after(new, Acknowledged())) is None
    assert message(new, after(new, Escalated())) is Message.ESCALATED
    assert message(new, old) is Message.SUPERSEDED
    assert message(old, after(old, again())) is Message.RAISED
    assert message(new, after(new, again())) is Message.UPDATED


limits = st.builds(RateLimit, st.integers(1, 4), st.floats(1, 100))


@given(limits, st.lists(st.floats(0, 60), max_size=40))
def test_every_alert_is_pushed_or_in_exactly_one_summary_and_no_window_has_more_than_the_limit(limit, gaps):
    pushes, now, pushed, summarised, alone = Pushes("nodule"), 0.0, [], [], []
    for number, gap in enumerate(gaps):
        now += gap
        pushes, summary = pushes.summary(now, limit)
        summarised += summary.suppressed if summary else ()
        alone += [summary.key] if summary else []
        pushes, through = pushes.offer(f"alert {number}", now, limit)
        pushes = Pushes.from_json(pushes.as_json())
        if through:
            pushed.append((now, f"alert {number}"))
        assert len(pushes.times) <= limit.most
    told = [key for _, key in pushed] + summarised + list(pushes.suppressed)
    assert sorted(told) == sorted(f"alert {number}" for number in range(len(gaps)))
    times = [time for time, _ in pushed]
    for begin in times:
        assert sum(begin <= time < begin + limit.window_s for time in times) <= limit.most
    assert len(alone) == len(set(alone))
    if pushes.suppressed:
        last, summary = pushes.summary(now + limit.window_s, limit)
        assert summary.suppressed == pushes.suppressed
        assert not last.suppressed


def test_a_clock_that_was_set_back_lets_no_more_through():
    limit, pushes = RateLimit(1, 60), Pushes("nodule")
    pushes, through = pushes.offer("a", 1000, limit)
    assert through
    assert not pushes.offer("b", 10, limit)[1]
    assert pushes.offer("c", 10, limit)[0].offer("c", 11, limit)[0].suppressed == ("c",)


@pytest.mark.parametrize("body", [None, {}, {"finding": "a", "times": ["x"], "suppressed": [], "since": 0}])
def test_stored_pushes_of_another_form_are_refused(body):
    with pytest.raises(DataError, match="as they were stored"):
        Pushes.from_json(body)
    with pytest.raises(ConfigError, match="one push or more"):
        RateLimit(0)
