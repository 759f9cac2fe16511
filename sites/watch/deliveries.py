"""What has to leave the site, and how a target says that it did not take it.

A delivery is stored in one transaction with the result that it tells of, and stays until a target has taken it: at least
once, under one key however often it is tried, so that whoever receives can drop repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedimg.errors import FedimgError


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message or set of files for one target.

    Attributes:
        id: the outbox's number. target: its name in the settings. kind: webhook, cstore, stow, folder.
        key: idempotency key, equal for every attempt. body: JSON, where there is one. paths: DICOM files.
        attempts: that were made before.
    """

    id: int
    target: str
    kind: str
    key: str
    body: bytes = b""
    paths: tuple[Path, ...] = ()
    attempts: int = 0


class Outbox(Protocol):
    """The store's side. Only the deliverer's own thread calls it. `now`, `at`: seconds since 1970.

    `due` gives up to `most` deliveries whose time has come, and neither done nor dead ones; again and again until one
    of the others was called for them. Each of the others is durable when it returns; `again` counts an attempt.
    """

    def due(self, now: float, most: int) -> list[Delivery]: ...

    def done(self, delivery: int, now: float) -> None: ...

    def again(self, delivery: int, why: str, at: float) -> None: ...

    def dead(self, delivery: int, why: str, now: float) -> None: ...


class Target(Protocol):
    """Where deliveries of one kind go."""

    @property
    def kind(self) -> str: ...

    def deliver(self, delivery: Delivery) -> None:
        """Returns when the target has taken it. Raises Undelivered. One call at a time."""


class Undelivered(FedimgError):
    """A target that has not taken a delivery. Texts are our own words: nothing of the message, nothing that it answered.

    Attributes:
        permanent: the same message will never be taken. answered: something answered; else it may be off or cut off.
        after_s: so long it asked to be left alone.
    """

    def __init__(
        self,
        found: str,
        remedy: str,
        *,
        permanent: bool = False,
        answered: bool = True,
        after_s: float = 0.0,
    ) -> None:
        self.permanent, self.answered, self.after_s = permanent, answered, after_s
        super().__init__("a target that takes the delivery", found, remedy)
