"""What can go wrong when an archive is asked, by names of this program: for metrics, `fedimg watch status` and people."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from fedimg.errors import FedimgError

_LONGEST_PAUSE_S: Final = 3600.0


class Trouble(StrEnum):
    """Why there was no answer. LOGIN: the file with token or password. DISK: the spool has no room. OTHER: a fault here."""

    NO_CONNECTION = "no_connection"
    CERTIFICATE = "certificate"
    SLOW = "slow"
    BROKEN = "broken_off"
    DENIED = "denied"
    NOT_THERE = "not_there"
    BUSY = "busy"
    FAULT = "its_fault"
    REDIRECTED = "redirected"
    STATUS = "another_status"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    LOGIN = "login"
    DISK = "disk"
    OTHER = "other"


_STATUS: Final = {
    **dict.fromkeys((401, 403, 407), Trouble.DENIED),
    **dict.fromkeys((404, 410), Trouble.NOT_THERE),
    **dict.fromkeys((408, 425, 429, 502, 503, 504), Trouble.BUSY),
}


class Unanswered(FedimgError):
    """A question without an answer that can be used. pause_s: for how long the archive asks not to be asked."""

    def __init__(self, trouble: Trouble, pause_s: float = 0.0) -> None:
        self.trouble, self.pause_s = trouble, pause_s
        super().__init__("an answer of the archive", trouble.value, "see docs/polling.md")


def refuse_unless_answered(status: int, retry_after: str) -> None:
    """Raises Unanswered unless the status is 200 or 204.

    Args:
        retry_after: the header (RFC 9110 10.2.3), "" without one; its form with a date says nothing here.
    """
    if status in (200, 204):
        return
    if 300 <= status < 400:
        raise Unanswered(Trouble.REDIRECTED)
    said = retry_after.isascii() and retry_after.isdigit()
    pause = min(float(retry_after[:9]), _LONGEST_PAUSE_S) if said else 0.0
    raise Unanswered(_STATUS.get(status, Trouble.FAULT if status >= 500 else Trouble.STATUS), pause)
