"""What a status of storage means for whoever sent: PS3.7 annex C, PS3.4 table B.2-1 (C-STORE), PS3.18 table I.2-2 (STOW-RS).

Refused is what the same object will meet again. What may have gone by the next time, or what the receiver's people can put
right, is tried again, and so is a status that no table lists.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final


class Verdict(Enum):
    STORED = "stored"
    AGAIN = "again"
    REFUSED = "refused"


_LISTED: Final = MappingProxyType(
    {
        0x0000: Verdict.STORED,
        0x0001: Verdict.STORED,  # warning: requested optional attributes are not supported
        0x0107: Verdict.STORED,  # warning: attribute list error
        0x0116: Verdict.STORED,  # warning: attribute value out of range
        0x0111: Verdict.STORED,  # duplicate SOP instance: it has it
        0x0105: Verdict.REFUSED,  # no such attribute
        0x0106: Verdict.REFUSED,  # invalid attribute value
        0x0110: Verdict.AGAIN,  # processing failure
        0x0112: Verdict.REFUSED,  # no such SOP instance
        0x0115: Verdict.REFUSED,  # invalid argument value
        0x0117: Verdict.REFUSED,  # invalid object instance
        0x0118: Verdict.REFUSED,  # no such SOP class
        0x0119: Verdict.REFUSED,  # class-instance conflict
        0x0120: Verdict.REFUSED,  # missing attribute
        0x0121: Verdict.REFUSED,  # missing attribute value
        0x0122: Verdict.REFUSED,  # SOP class not supported
        0x0124: Verdict.AGAIN,  # not authorised: of the receiver's settings
        0x0210: Verdict.AGAIN,  # duplicate invocation
        0x0211: Verdict.REFUSED,  # unrecognised operation
        0x0212: Verdict.REFUSED,  # mistyped argument
        0x0213: Verdict.AGAIN,  # resource limitation
    }
)


def verdict(status: int) -> Verdict:
    """Of a Status (0000,0900), or a Failure Reason (0008,1197)."""
    if status in _LISTED:
        return _LISTED[status]
    high = status & 0xFF00
    if high == 0xB000:  # warnings: coercion, elements discarded, does not match the class
        return Verdict.STORED
    if (
        high == 0xA900 or status & 0xF000 == 0xC000
    ):  # does not match the class; cannot understand; not accepted
        return Verdict.REFUSED
    return Verdict.AGAIN  # 0xA700 to 0xA7FF: out of resources
