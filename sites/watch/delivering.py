"""What the outbox holds goes out: at least once, under one key, and no target waits for another.

Each target has a thread of its own and one delivery in hand; the deliverer's thread alone speaks with the outbox. A
failure is tried again after a while that doubles, with jitter, so that receivers which come back are not met by all at
once. A target that does not answer at all is left alone a little, and its other deliveries lose no attempt. After the
last attempt, or where the message is at fault, a delivery is a dead letter: it stays in the outbox, and is told.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from fedimg.errors import ConfigError, FedimgError
from fedimg.process_log import Say
from sites.watch.deliveries import Delivery, Outbox, Target, Undelivered

_PAGE, _MOST_PAGE = 64, 1 << 14
_LONGEST_SILENCE_S: Final = 30.0
_JITTER: Final = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Retries:
    """When a delivery is tried again: `first_s`, doubled with every attempt up to `longest_s`, times ½ to 1.

    The 50 attempts of the defaults take five to ten hours.
    """

    attempts: int = 50
    first_s: float = 2.0
    longest_s: float = 900.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.first_s <= self.longest_s < 1e9:
            raise ConfigError("one attempt or more, and 0 < first_s ≤ longest_s", "others", "set all three")

    def pause(self, attempts: int, jitter: float) -> float:
        """Seconds after so many attempts (one or more). `jitter`: uniform in [0, 1)."""
        return min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, 60)) * (1 + jitter) / 2


class Outcome(StrEnum):
    DONE = "delivered"
    AGAIN = "to be tried again"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one attempt. `why`: in words without anything of a patient; "" where it was delivered."""

    delivery: Delivery
    outcome: Outcome
    why: str = ""
    answered: bool = True
    after_s: float = 0.0


@dataclass(slots=True)
class _Lane:
    """One target: what it has in hand, and until when it is left alone (seconds since 1970)."""

    target: Target
    in_hand: Delivery | None = None
    silences: int = 0
    quiet_until: float = 0.0
    work: queue.SimpleQueue[Delivery | None] = field(default_factory=queue.SimpleQueue)


class Deliverer:
    """Delivers while it is started.

    Args:
        targets: by their names in the settings. say: where a person reads of failures and dead letters.
        told: called on the deliverer's thread after the outbox was told, for metrics and events.
        poll_s: how long a delivery of which `wake` said nothing may wait.
    """

    def __init__(
        self,
        outbox: Outbox,
        targets: Mapping[str, Target],
        say: Say,
        *,
        retries: Retries | None = None,
        told: Callable[[Settled], None] = lambda _: None,
        poll_s: float = 0.5,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _JITTER,
    ) -> None:
        self._outbox, self._say, self._told = outbox, say, told
        self._retries, self._poll_s = retries or Retries(), poll_s
        self._now, self._jitter = now, jitter
        self._lanes = {name: _Lane(target) for name, target in targets.items()}
        self._news: queue.SimpleQueue[Settled | None] = queue.SimpleQueue()
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._counts: Counter[tuple[str, Outcome]] = Counter()
        self._lock = threading.Lock()

    def start(self) -> None:
        """One thread, and one for each target. Once."""
        for name, lane in self._lanes.items():
            threading.Thread(target=self._attend, args=(lane,), name=f"deliver-{name}", daemon=True).start()
        self._thread = threading.Thread(target=self._run, name="deliver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something new. From any thread, after the transaction that stored it."""
        self._news.put(None)

    def stop(self, grace_s: float = 5.0) -> None:
        """Take nothing new in hand, and wait so long for what is under way.

        What has not ended by then stays in the outbox, and goes out again under the same key after the next start.
        """
        self._ending.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(grace_s)
        self._given_up.set()  # the outbox is not touched after this
        for lane in self._lanes.values():
            lane.work.put(None)

    def counts(self) -> dict[tuple[str, Outcome], int]:
        """Attempts since the start, by target and what became of them. From any thread."""
        with self._lock:
            return dict(self._counts)

    def deliver_once(self) -> int:
        """Try everything that is due, once, in this thread, without `start`. Returns how many were tried."""
        tried: set[int] = set()
        while chosen := [d for d in self._due(tried) if d.id not in tried]:
            for delivery in chosen:
                if not self._may_try(delivery, self._now()):
                    continue  # what was tried before it got no answer
                tried.add(delivery.id)
                lane = self._lanes.get(delivery.target)
                self._settle(_unknown(delivery) if lane is None else _attempt(lane.target, delivery))
        return len(tried)

    # ------------------------------------------------------------------------------ the threads

    def _attend(self, lane: _Lane) -> None:
        while (delivery := lane.work.get()) is not None:
            self._news.put(_attempt(lane.target, delivery))

    def _run(self) -> None:
        while not self._ending.is_set() or any(lane.in_hand for lane in self._lanes.values()):
            if self._given_up.is_set():
                return
            try:
                if not self._ending.is_set():
                    self._hand_out()
                self._hear()
            except Exception as fault:  # noqa: BLE001 - the store's fault, say a full disk, must not end the deliveries
                self._say("deliveries held up", fault=_named(fault))
                self._ending.wait(self._poll_s)

    def _hear(self) -> None:
        """Wait for what the lanes say, but not longer than until something may be due."""
        with contextlib.suppress(queue.Empty):
            news = self._news.get(timeout=self._poll_s)
            while True:
                if news is not None and not self._given_up.is_set():
                    self._settle(news)
                news = self._news.get_nowait()

    def _hand_out(self) -> None:
        busy = {lane.in_hand.id for lane in self._lanes.values() if lane.in_hand is not None}
        for delivery in self._due(busy):
            lane = self._lanes.get(delivery.target)
            if lane is None:
                self._settle(_unknown(delivery))
            elif lane.in_hand is None and delivery.id not in busy:
                lane.in_hand = delivery
                lane.work.put(delivery)

    def _due(self, known: set[int]) -> list[Delivery]:
        """What may be tried now: of the outbox's first page that has any.

        A target that answers nothing fills the pages with what waits for it; others must be found behind it.
        """
        now, most = self._now(), _PAGE
        while True:
            page = self._outbox.due(now, most)
            fresh = [d for d in page if d.id not in known and self._may_try(d, now)]
            if fresh or len(page) < most or most >= _MOST_PAGE:
                return fresh
            most *= 4

    def _may_try(self, delivery: Delivery, now: float) -> bool:
        lane = self._lanes.get(delivery.target)
        if lane is None:
            return True
        # A clock that was set back does not make a target quiet for longer.
        quiet = 0 < lane.quiet_until - now <= _LONGEST_SILENCE_S
        return lane.in_hand is None and not quiet

    # ---------------------------------------------------------------------------------- outcomes

    def _settle(self, settled: Settled) -> None:
        """Into the outbox, then told. Where the outbox fails, the delivery stays due."""
        delivery, now = settled.delivery, self._now()
        attempts = delivery.attempts + 1
        if settled.outcome is Outcome.AGAIN and attempts >= self._retries.attempts:
            why = f"{settled.why}; that was attempt {attempts}"
            settled = Settled(delivery, Outcome.DEAD, why, settled.answered)
        if (lane := self._lanes.get(delivery.target)) is not None:
            lane.in_hand = None
            lane.silences = 0 if settled.answered else lane.silences + 1
            silence = min(_LONGEST_SILENCE_S, 2.0 ** min(lane.silences - 1, 10))
            lane.quiet_until = now + silence * (1 + self._jitter()) / 2 if lane.silences else 0.0
        said: dict[str, object] = {"target": delivery.target, "kind": delivery.kind, "attempts": attempts}
        match settled.outcome:
            case Outcome.DONE:
                self._outbox.done(delivery.id, now)
            case Outcome.AGAIN:
                pause = max(self._retries.pause(attempts, self._jitter()), settled.after_s)
                self._outbox.again(delivery.id, settled.why, now + pause)
                self._say("delivery failed", **said, why=settled.why, again_in_s=round(pause, 1))
            case Outcome.DEAD:
                self._outbox.dead(delivery.id, settled.why, now)
                self._say("delivery dead", **said, why=settled.why, delivery=delivery.id)
        with self._lock:
            self._counts[delivery.target, settled.outcome] += 1
        self._told(settled)


def _attempt(target: Target, delivery: Delivery) -> Settled:
    if target.kind != delivery.kind:
        why = f"expected a target of kind {delivery.kind}; found one of kind {target.kind}; correct the settings"
        return Settled(delivery, Outcome.DEAD, why)
    try:
        target.deliver(delivery)
    except Undelivered as refused:
        outcome = Outcome.DEAD if refused.permanent else Outcome.AGAIN
        return Settled(delivery, outcome, str(refused), refused.answered, refused.after_s)
    except Exception as fault:  # noqa: BLE001 - a fault in one delivery must not end those behind it
        return Settled(delivery, Outcome.AGAIN, _named(fault))
    return Settled(delivery, Outcome.DONE)


def _unknown(delivery: Delivery) -> Settled:
    why = (
        "expected a target of the settings; found one that is not there any more; name it again or let it be"
    )
    return Settled(delivery, Outcome.DEAD, why)


def _named(fault: Exception) -> str:
    """An expected failure in full; of another its kind and place, since its text may quote what caused it."""
    if isinstance(fault, FedimgError):
        return str(fault)
    frames = traceback.extract_tb(fault.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(fault).__name__}{place}"
