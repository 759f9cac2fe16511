"""What the sender of a refused instance is told, over DIMSE (PS3.4 B.2.3) as over the web (PS3.18 I.2)."""

from __future__ import annotations

from typing import Final

from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from sites.watch.spool import Full

SUCCESS: Final = 0x0000
CLASS_NOT_SUPPORTED: Final = 0x0122
OUT_OF_RESOURCES: Final = 0xA700
_STATUS: Final = {
    Quarantine.UNREADABLE: 0xC000,
    Quarantine.NOT_AN_IMAGE: 0xC001,
    Quarantine.UNSAFE_STRUCTURE: 0xC002,
    Quarantine.OBJECT_TYPE: 0xA900,
}


def status_of(refusal: Quarantined | Full) -> int:
    """Out of resources: to be sent again; any other: not as it is."""
    if isinstance(refusal, Full):
        return OUT_OF_RESOURCES
    return _STATUS.get(refusal.reason, _STATUS[Quarantine.UNREADABLE])
