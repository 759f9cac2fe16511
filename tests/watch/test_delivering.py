"""The deliverer against real receivers: at least once, one key, nobody waits for another, and it stops."""

import sqlite3
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.delivering import Deliverer, Outcome, Retries
from sites.watch.posting import Endpoint
from sites.watch.webhook import Webhook, verify
from tests.watch.receivers import NAME, PATIENT, Outbox, receiver

SECRET = bytes(range(32))
QUICK = Retries(attempts=4, first_s=0.01, longest_s=0.02)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.005)


def message(number, target="pager", **changed):
    return Delivery(number, target, "webhook", f"key-{number}", b'{"type":"alert.raised"}', **changed)


def hook(there, **how):
    return Webhook(Endpoint(there.url, **how), SECRET)


class Said(list):
    def __call__(self, event, **fields):
        self.append((event, fields))

    def of(self, event):
        return [fields for said, fields in self if said == event]


class Target:
    """Does what it is told for each delivery in turn."""

    kind = "webhook"

    def __init__(self, *acts):
        self.acts, self.taken = list(acts), []

    def deliver(self, delivery):
        act = self.acts.pop(0) if self.acts else None
        if callable(act):
            act()
        elif act is not None:
            raise act
        self.taken.append(delivery.key)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def by_hand(outbox, targets, **changed):
    clock, said = Clock(), Said()
    options = {"retries": Retries(attempts=3), "now": clock, "jitter": lambda: 1.0} | changed
    return Deliverer(outbox, targets, said, **options), clock, said


# --------------------------------------------------------------------------------------- by hand


def test_a_failure_is_tried_again_later_and_under_the_same_key():
    off = Undelivered("status 500", "look at its log")
    target, outbox = Target(off, off), Outbox(message(1))
    deliverer, clock, said = by_hand(outbox, {"pager": target})
    assert deliverer.deliver_once() == 1
    assert outbox.rows[1][1] == clock.now + 2  # the first pause, with all of its jitter
    assert deliverer.deliver_once() == 0
    clock.now += 2
    assert deliverer.deliver_once() == 1
    assert outbox.rows[1][1] == clock.now + 4
    clock.now += 4
    assert deliverer.deliver_once() == 1
    assert (outbox.state(1), target.taken) == ("done", ["key-1"])
    assert deliverer.counts() == {("pager", Outcome.AGAIN): 2, ("pager", Outcome.DONE): 1}
    assert [fields["again_in_s"] for fields in said.of("delivery failed")] == [2, 4]


def test_what_will_never_be_taken_is_dead_at_once_and_the_rest_after_the_last_attempt():
    told = []
    never = Undelivered("status 422", "look at its log", permanent=True)
    target = Target(never, *[Undelivered("status 500", "look")] * 3)
    outbox = Outbox(message(1), message(2))
    deliverer, clock, said = by_hand(outbox, {"pager": target}, told=told.append)
    while outbox.state(2) == "due":
        deliverer.deliver_once()
        clock.now += 60
    assert outbox.state(1) == outbox.state(2) == "dead"
    assert "found status 422" in outbox.why(1)
    assert outbox.why(2).endswith("that was attempt 3")
    assert [fields["delivery"] for fields in said.of("delivery dead")] == [1, 2]
    assert [settled.outcome for settled in told].count(Outcome.DEAD) == 2
    assert deliverer.counts()["pager", Outcome.DEAD] == 2


def test_a_pause_that_was_asked_for_is_kept():
    target, outbox = Target(Undelivered("status 429", "wait", after_s=500)), Outbox(message(1))
    deliverer, clock, _ = by_hand(outbox, {"pager": target})
    deliverer.deliver_once()
    assert outbox.rows[1][1] == clock.now + 500


def test_a_target_that_says_nothing_is_left_alone_and_its_other_deliveries_lose_no_attempt():
    silent = Undelivered("nothing within 10 s", "is it there?", answered=False)
    target = Target(silent, silent, silent)
    outbox = Outbox(*(message(n) for n in range(1, 6)))
    deliverer, clock, _ = by_hand(outbox, {"pager": target})
    assert deliverer.deliver_once() == 1
    assert deliverer.deliver_once() == 0
    clock.now += 1.01  # the first silence
    assert deliverer.deliver_once() == 1
    clock.now += 1.5
    assert deliverer.deliver_once() == 0  # the second one is 2 s
    clock.now -= 5000  # a clock that was set back does not prolong it
    outbox.rows = {n: [row[0], -1e9, *row[2:]] for n, row in outbox.rows.items()}
    assert deliverer.deliver_once() == 1
    clock.now += 31
    assert deliverer.deliver_once() >= 3
    assert max(row[0].attempts for row in outbox.rows.values()) <= 2


def test_what_waits_for_a_silent_target_does_not_hide_what_others_may_take():
    silent = Undelivered("nothing within 10 s", "is it there?", answered=False)
    dead, alive = Target(*[silent] * 99), Target()
    outbox = Outbox(*(message(n, "dead") for n in range(1, 400)), message(400, "alive"))
    deliverer, _, _ = by_hand(outbox, {"dead": dead, "alive": alive})
    assert deliverer.deliver_once() == 2
    assert alive.taken == ["key-400"]


def test_a_target_that_is_not_of_the_settings_or_of_another_kind_makes_a_dead_letter():
    outbox = Outbox(message(1, "gone"), Delivery(2, "pager", "stow", "key-2"))
    deliverer, _, _ = by_hand(outbox, {"pager": Target()})
    assert deliverer.deliver_once() == 2
    assert "not there any more" in outbox.why(1)
    assert "found one of kind webhook" in outbox.why(2)


def test_a_fault_in_a_target_is_told_by_kind_and_place_alone():
    outbox = Outbox(message(1))
    deliverer, _, said = by_hand(outbox, {"pager": Target(ValueError(f"{PATIENT} {NAME}"))})
    deliverer.deliver_once()
    assert outbox.state(1) == "due"
    assert outbox.why(1).startswith("ValueError at test_delivering.py:")
    assert PATIENT not in str(said) + outbox.why(1)


@given(
    st.integers(1, 5000),
    st.floats(0, 0.999),
    st.builds(Retries, st.just(9), st.floats(0.1, 9), st.floats(9, 99)),
)
def test_a_pause_is_at_least_half_of_the_doubled_one_and_never_longer_than_the_longest(
    attempts, jitter, retries
):
    whole = min(retries.longest_s, retries.first_s * 2.0 ** min(attempts - 1, 900))
    assert whole / 2 <= retries.pause(attempts, jitter) <= whole
    assert retries.pause(attempts + 1, jitter) >= retries.pause(attempts, jitter)


def test_settings_of_retries_that_cannot_be_are_refused():
    least = sum(Retries().pause(n, 0.0) for n in range(1, 50))
    most = sum(Retries().pause(n, 1.0) for n in range(1, 50))
    assert 5 * 3600 < least < most < 10.5 * 3600  # what the manual says
    for wrong in (
        {"attempts": 0},
        {"first_s": 0},
        {"first_s": 5, "longest_s": 4},
        {"longest_s": float("inf")},
    ):
        with pytest.raises(ConfigError):
            Retries(**wrong)


# --------------------------------------------------------------------------------------- with threads


def test_a_receiver_that_takes_a_message_and_breaks_the_connection_gets_the_same_one_again():
    """A kill between taking and answering, on either side: the receiver acts once, because the key is the same."""
    outbox = Outbox(message(1), message(2))
    with receiver("drop", 500, "drop") as there:
        deliverer = Deliverer(outbox, {"pager": hook(there)}, Said(), retries=QUICK, poll_s=0.02)
        deliverer.start()
        until(lambda: outbox.state(1) == outbox.state(2) == "done")
        deliverer.stop()
    assert set(there.done) == {"key-1", "key-2"}
    assert sum(there.done.values()) == 5
    bodies = {key: {b for h, b in there.requests if h["webhook-id"] == key} for key in there.done}
    assert all(len(found) == 1 for found in bodies.values())
    for headers, body in there.requests:
        assert verify(SECRET, headers, body, time.time()) == headers["idempotency-key"]


def test_after_a_kill_the_next_process_sends_the_same_key():
    """The first deliverer is left in the middle and never settles; the second has the same outbox."""
    outbox, waiting = Outbox(message(1)), threading.Event()
    with receiver(waiting) as there:
        first = Deliverer(outbox, {"pager": hook(there)}, Said(), poll_s=0.02)
        first.start()
        until(lambda: there.requests)
        first.stop(grace_s=0.05)
        assert outbox.state(1) == "due"
        second = Deliverer(outbox, {"pager": hook(there)}, Said(), poll_s=0.02)
        second.start()
        until(lambda: outbox.state(1) == "done")
        waiting.set()
        second.stop()
    assert there.done == {"key-1": 2}


def test_one_target_that_hangs_does_not_hold_back_another():
    hanging = threading.Event()
    outbox = Outbox(
        *(message(n, "slow") for n in range(1, 100)), *(message(n, "quick") for n in range(100, 120))
    )
    with receiver(*[hanging] * 99) as slow, receiver() as quick:
        targets = {"slow": hook(slow), "quick": hook(quick)}
        deliverer = Deliverer(outbox, targets, Said(), poll_s=0.02)
        deliverer.start()
        until(lambda: all(outbox.state(n) == "done" for n in range(100, 120)))
        assert len(slow.requests) == 1
        begun = time.monotonic()
        deliverer.stop(grace_s=0.1)
        assert time.monotonic() - begun < 2
        hanging.set()
    assert len(quick.requests) == 20


def test_a_new_delivery_goes_out_when_it_is_told_of_without_waiting_for_the_next_look():
    outbox = Outbox()
    with receiver() as there:
        deliverer = Deliverer(outbox, {"pager": hook(there)}, Said(), poll_s=60)
        deliverer.start()
        until(lambda: outbox.pages)
        outbox.add(message(1))
        begun = time.monotonic()
        deliverer.wake()
        until(lambda: outbox.state(1) == "done")
        assert time.monotonic() - begun < 10
        deliverer.stop()


def test_only_one_thread_speaks_with_the_outbox():
    outbox = Outbox(*(message(n, f"t{n % 3}") for n in range(30)))
    deliverer = Deliverer(outbox, {f"t{n}": Target() for n in range(3)}, Said(), poll_s=0.01)
    deliverer.start()
    until(lambda: all(outbox.state(n) == "done" for n in range(30)))
    deliverer.stop()
    assert len(outbox.threads) == 1
    assert threading.get_ident() not in outbox.threads


def test_a_store_that_fails_for_a_while_ends_nothing_and_its_words_are_not_repeated():
    class Failing(Outbox):
        broken = 3

        def done(self, delivery, now):
            if self.broken:
                self.broken -= 1
                raise sqlite3.OperationalError(f"disk full: {PATIENT}")
            super().done(delivery, now)

    outbox, said, target = Failing(message(1)), Said(), Target()
    deliverer = Deliverer(outbox, {"pager": target}, said, poll_s=0.01)
    deliverer.start()
    until(lambda: outbox.state(1) == "done")
    deliverer.stop()
    assert target.taken == ["key-1"] * 4  # at least once
    assert len(said.of("deliveries held up")) == 3
    assert PATIENT not in str(said)


def test_it_stops_at_once_and_what_is_under_way_is_settled():
    outbox, inside, go = Outbox(message(1), message(2)), threading.Event(), threading.Event()

    def act():
        inside.set()
        go.wait(20)

    target = Target(act)
    deliverer = Deliverer(outbox, {"pager": target}, Said(), poll_s=60)
    deliverer.start()
    assert inside.wait(20)
    stopping = threading.Thread(target=deliverer.stop)
    stopping.start()
    go.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert (outbox.state(1), outbox.state(2)) == ("done", "due")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("deliver")])


@given(
    st.lists(st.sampled_from(["ok", "again", "silent", "never", "fault"]), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_whatever_happens_every_delivery_ends_done_or_dead_under_its_own_key(acts, attempts):
    refusals = {
        "ok": None,
        "again": Undelivered("status 500", "look"),
        "silent": Undelivered("nothing", "look", answered=False),
        "never": Undelivered("status 400", "look", permanent=True),
        "fault": RuntimeError("x"),
    }
    target = Target(*(refusals[act] for act in acts))
    outbox = Outbox(*(message(n) for n in range(5)))
    deliverer, clock, _ = by_hand(outbox, {"pager": target}, retries=Retries(attempts=attempts))
    for _ in range(200):
        deliverer.deliver_once()
        clock.now += 1000
    states = [outbox.state(n) for n in range(5)]
    assert set(states) <= {"done", "dead"}
    assert sorted(target.taken) == sorted(f"key-{n}" for n in range(5) if states[n] == "done")
    assert sum(deliverer.counts().get(("pager", o), 0) for o in (Outcome.DONE, Outcome.DEAD)) == 5
