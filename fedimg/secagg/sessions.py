"""A site's secure sums, one at a time, and never two masked inputs for one round of a task."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from fedimg.crypto.keys import SigningKey
from fedimg.durable import locked, sync_folder, write_durably
from fedimg.errors import DataError, MessageError
from fedimg.secagg import carried
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.request import INPUT_STEP, SumRequest, pack_answer
from fedimg.secagg.site import SumSite
from fedimg.values import Maskable

Contribution = tuple[Maskable, tuple[str, ...]]
"""What goes into a sum, and the ledger entries that paid for it."""


@dataclass
class SiteSums:
    """The sums that one site takes part in during one run.

    Keys are in memory only: a site that was restarted within a sum has none for it. What it must not forget is on the
    disk: the last round of each task for which it has begun to make its input. Two inputs for one round would differ by
    un-masked data, and two sums of one round by a single site's. Rounds only go up.

    Attributes:
        folder: of one run at one site.
    """

    name: str
    identity: SigningKey
    folder: Path
    _label: str = ""
    _current: SumSite | None = field(default=None, repr=False)
    _releases: tuple[str, ...] = ()
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def answer(self, plan: SumPlan, request: SumRequest, contribution: Callable[[], Contribution]) -> bytes:
        """The site's answer to one step. Raises MessageError, PolicyRefused, and what `contribution` raises."""
        with self._lock:
            return self._answer(plan, request, contribution)

    def carried(self) -> bytes:
        """The open sum, for the next process of a *simulated* site; secrets are in it."""
        if self._current is None:
            return b""
        open_sum = carried.dumped(self._current).decode()
        return json.dumps({"label": self._label, "releases": self._releases, "sum": open_sum}).encode()

    def take_up(self, plan_of: Callable[[str], SumPlan], data: bytes) -> None:
        """Inverse of `carried`; `plan_of` gives the plan of a task. From other bytes nothing is taken up."""
        if not data:
            return
        try:
            value = json.loads(data)
            label, releases = str(value["label"]), tuple(str(name) for name in value["releases"])
            plan = plan_of(label.split(maxsplit=1)[0])
            current = carried.loaded(value["sum"].encode(), plan, label, self.name, self.identity)
        except (ValueError, KeyError, TypeError, AttributeError, MessageError):
            return  # this process has no keys for the sum: the site sits it out
        self._label, self._releases, self._current = label, releases, current

    def _answer(self, plan: SumPlan, request: SumRequest, contribution: Callable[[], Contribution]) -> bytes:
        if request.step == 0 and request.label != self._label:
            self._refuse_begun(request)
            self._current = SumSite(plan, request.label, self.name, self.identity)
            self._label, self._releases = request.label, ()
        if self._current is None or request.label != self._label:
            raise MessageError(
                "the secure sum that this site has keys for", "another", "it sits this one out until the next"
            )
        current, message = self._current, request.message
        if request.step == 0:
            return pack_answer(current.advertise_keys())
        if request.step == INPUT_STEP:
            masked = current.masked_input(
                message, lambda: self._first(request, contribution), request.instructions
            )
            return pack_answer(masked, self._releases)
        steps = {1: current.share_keys, 3: current.confirm, 4: current.unmask}
        return pack_answer(steps[request.step](message))

    def _first(self, request: SumRequest, contribution: Callable[[], Contribution]) -> Maskable:
        """The vector, once the disk says that they are being made; of two processes one succeeds."""
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            sync_folder(self.folder.parent.parent)
        with locked(self.folder):
            self._refuse_begun(request)
            write_durably(self._last(request.task), f"{request.round}\n")
        vector, self._releases = contribution()
        return vector

    def _refuse_begun(self, request: SumRequest) -> None:
        last = self._last(request.task)
        try:
            begun = int(last.read_text(encoding="ascii"))
        except FileNotFoundError:
            return
        except ValueError:
            raise DataError(
                f"the number of the last round in {last}",
                "something else",
                "restore it: without, a round could be summed twice",
            ) from None
        if request.round <= begun:
            raise MessageError(
                f"a round after {begun}, of which this site has had a part in a sum",
                f"round {request.round}",
                "it sits this one out",
            )

    def _last(self, task: str) -> Path:
        return self.folder / f"{task}.last"
