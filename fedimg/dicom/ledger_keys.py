"""By what the privacy ledger knows a patient: for good, whatever project, study or release.

HMAC(site key, domain "ledger", issuer + patient number). A pseudonym of a release is salted with its
project; a ledger by that would start every patient anew with every study. The keys stay at the site.
"""

from __future__ import annotations

import unicodedata

from fedimg.crypto.keys import SiteKey, keyed_digest
from fedimg.dicom.pseudonyms import normalise_id

# One constant, never the project: that is the point.
_SALT = "fedimg"
_BYTES = 16
LENGTH = 2 * _BYTES


class LedgerKeys:
    """Keys of one site: 32 hex digits (128 bits), equal for every spelling of one number."""

    def __init__(self, site_key: SiteKey) -> None:
        self._key = site_key.derive("ledger", project=_SALT)
        self._digest = site_key.derive("ledger-key-digest", project=_SALT).hex()[:16]

    @property
    def digest(self) -> str:
        """Which site key it was, without a way back to it."""
        return self._digest

    def of(self, issuer: str, patient_id: str) -> str:
        """Of a patient number as its issuer gave it."""
        return self._of(normalise_id(issuer).encode(), normalise_id(patient_id).encode())

    def of_study(self, study_uid: str) -> str:
        """Of the subject of a study that names nobody; three parts, so that no (issuer, number) meets it."""
        return self._of(b"study", study_uid.encode("utf-8", "surrogateescape"), b"")

    def of_unit(self, name: str) -> str:
        """Of a unit of declared public arrays, by the name that the source gives it."""
        return self._of(b"declared public", unicodedata.normalize("NFKC", name).encode(), b"")

    def _of(self, *parts: bytes) -> str:
        return keyed_digest(self._key, *parts)[:_BYTES].hex()
