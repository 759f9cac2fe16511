"""Open a home's released files: pixels in physical units, with what is drawn over them."""

from __future__ import annotations

from collections.abc import Callable

from fedimg.dicom import pixels
from fedimg.dicom.refusal import Quarantined
from fedimg.home import SiteHome
from fedimg.intake import targets
from fedimg.values import DecodedImage, DeidentifiedRecord, Quarantine


def decoder(home: SiteHome) -> Callable[[DeidentifiedRecord], DecodedImage | Quarantine]:
    """What opens one released file of this home, or says why it cannot."""

    def decode(record: DeidentifiedRecord) -> DecodedImage | Quarantine:
        try:
            labels = targets.load(home.root, record.target) if record.target else None
            return pixels.decode(home.released / record.path, masked=record.masked, labels=labels)
        except Quarantined as refusal:
            return refusal.reason

    return decode
