"""A site's secure sums, one at a time, and never two masked inputs for one label."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedimg.crypto.keys import SigningKey
from fedimg.durable import write_durably
from fedimg.errors import MessageError
from fedimg.secagg.encoding import Words
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.request import INPUT_STEP, pack_answer
from fedimg.secagg.site import SumSite

Contribution = tuple[Words, tuple[str, ...]]
"""What goes into a sum, and the ledger entries that paid for it."""


@dataclass
class SiteSums:
    """The sums that one site takes part in during one run.

    Keys are in memory only: a site that was restarted sits the sum out. What it must not forget is on the
    disk: for which sums it has begun to make its input. Two inputs for one label would differ by
    un-masked data, and two sums of one round by a single site's.

    Attributes:
        folder: of one run at one site.
    """

    name: str
    identity: SigningKey
    folder: Path
    _label: str = ""
    _current: SumSite | None = field(default=None, repr=False)
    _releases: tuple[str, ...] = ()

    def answer(
        self, plan: SumPlan, label: str, step: int, message: bytes, words: Callable[[], Contribution]
    ) -> bytes:
        """The site's answer to one step. Raises MessageError, PolicyRefused, and what `words` raises."""
        if step == 0 and label != self._label:
            if self._begun(label).exists():
                raise MessageError(
                    "a sum that this site has not had a part in", "one that it has", "it sits this one out"
                )
            self._current, self._label = SumSite(plan, label, self.name, self.identity), label
        if self._current is None or label != self._label:
            raise MessageError(
                "the secure sum that this site has keys for", "another", "it sits this one out until the next"
            )
        current = self._current
        if step == 0:
            return pack_answer(current.advertise_keys())
        if step == INPUT_STEP:
            masked = current.masked_input(message, lambda: self._first(label, words))
            return pack_answer(masked, self._releases)
        return pack_answer({1: current.share_keys, 3: current.confirm, 4: current.unmask}[step](message))

    def _first(self, label: str, contribution: Callable[[], Contribution]) -> Words:
        """The words, once the disk says that they are being made."""
        begun = self._begun(label)
        if begun.exists():
            raise MessageError("one input for each sum", "a second", "it sits this one out")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(begun, label + "\n")
        words, self._releases = contribution()
        return words

    def _begun(self, label: str) -> Path:
        return self.folder / f"{hashlib.sha256(label.encode()).hexdigest()[:32]}.begun"
