"""The link as the coordinator's loop uses it: who is connected, bytes out and back, and when to let go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedimg.flower.fleet_run import FleetRun
from fedimg.flower.fleet_server import FleetServer
from server.registry import Registry

_LOOK_S = 0.5  # how often the registry is asked whether someone wants the run stopped


class StopAsked(Exception):
    """Someone has asked for this run to be stopped. No error: the run can be resumed."""


class ServerEnds(Exception):
    """This server is being ended. The run stays as it is, and goes on when a server is started again."""


@dataclass
class Link:
    """One server's. `tick` is called now and then while anything is waited for; `carried` hears of the bytes of each
    exchange: to the sites, and from them.
    """

    fleet: FleetServer
    registry: Registry
    ending: threading.Event
    tick: Callable[[], None] = lambda: None
    carried: Callable[[int, int], None] = lambda _sent, _received: None
    _conversation: FleetRun | None = field(default=None, init=False)
    _looked: float = field(default=0.0, init=False)

    def connected(self) -> dict[str, str]:
        """Members that are there, and since when: a name for their connection."""
        return self.fleet.connections()

    def ask(
        self, outgoing: Mapping[str, bytes], deadline_s: float, run: str | None = None
    ) -> dict[str, bytes | None]:
        """Ask the members named, and wait. Raises ServerEnds; for a run StopAsked too."""
        if self._conversation is None:
            self._conversation = self.fleet.begin()
        answers = self._conversation.exchange(outgoing, deadline_s, lambda: self.check_stop(run))
        self.carried(sum(map(len, outgoing.values())), sum(len(data or b"") for data in answers.values()))
        return answers

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Try until it is done, or the time is over. Raises ServerEnds, and what `done` raises."""
        end = time.monotonic() + seconds
        while not done():
            if self.ending.wait(_LOOK_S):
                raise ServerEnds
            self.tick()
            if time.monotonic() > end:
                return False
        return True

    def check_stop(self, run: str | None) -> None:
        """Raises StopAsked, ServerEnds."""
        if self.ending.is_set():
            raise ServerEnds
        if time.monotonic() - self._looked >= _LOOK_S:
            self._looked = time.monotonic()
            self.tick()
            if run is not None and self.registry.is_asked_to_stop(run):
                raise StopAsked
