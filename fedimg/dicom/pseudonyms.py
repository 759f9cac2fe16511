"""Keyed pseudonyms: the same for the same key and project in every run and process, else unlinkable.

Nothing is stored: a pseudonym is recomputed, so references between files stay whole and there is
no crosswalk to lose. Unkeyed hashes would not do: patient numbers can be enumerated.

UIDs: UUIDv8 (RFC 9562 section 5.8) below 2.25 (PS3.5 B.2; ITU-T X.667).
"""

from __future__ import annotations

import hmac
import re
import unicodedata
import uuid
from collections.abc import Iterable

from fedimg.crypto.keys import SiteKey, keyed_digest, keyed_fingerprint
from fedimg.errors import DataError

_MINIMUM_WEEKS, _MAXIMUM_WEEKS = 52, 520
_PATIENT_KEY = re.compile(r"FI[0-9A-F]{20}")
_SPACE = re.compile(r"\s+")


def normalise_id(value: str) -> str:
    """One spelling of a patient number or issuer: NFKC, upper case, padding off, spaces single."""
    text = unicodedata.normalize("NFKC", value.replace("\0", " ")).upper()
    return _SPACE.sub(" ", text).strip()


def is_patient_key(value: str) -> bool:
    """Whether a text has the form of a pseudonym (a form only: it proves nothing)."""
    return _PATIENT_KEY.fullmatch(value) is not None


class Pseudonyms:
    """What a site key makes of identifiers, for one project.

    Domains: subject, uid, date, accession, report-link, seal, fingerprint. Each has a key of its own
    (HKDF), so that no value of one domain says anything about another.
    """

    def __init__(self, site_key: SiteKey, project: str) -> None:
        domains = ("subject", "uid", "date", "accession", "report-link", "seal", "fingerprint")
        self._keys = {domain: site_key.derive(domain, project=project) for domain in domains}
        self._uids: dict[str, str] = {}

    def subject(self, issuer: str, patient_id: str) -> str:
        """(issuer, patient number) → 'FI' + 80 bits in hex: PatientID and PatientName of the release."""
        parts = (normalise_id(issuer).encode(), normalise_id(patient_id).encode())
        return "FI" + keyed_digest(self._keys["subject"], *parts)[:10].hex().upper()

    def subject_of_study(self, study_uid: str) -> str:
        """A subject for one study whose patient nobody names; three parts, so that no (issuer, number) meets it."""
        return (
            "FI" + keyed_digest(self._keys["subject"], b"study", study_uid.encode(), b"")[:10].hex().upper()
        )

    def matches(self, pseudonym: str, candidates: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Which of (issuer, patient number) have this pseudonym: re-identification, under custody.

        There is no crosswalk: whoever holds the key recomputes pseudonyms of the patients that the
        hospital's own records name. Without the key a pseudonym matches nothing.
        Raises DataError for what has not the form of a pseudonym.
        """
        wanted = pseudonym.strip().upper()
        if not is_patient_key(wanted):
            raise DataError("a pseudonym: FI and 20 hex digits", "something else", "copy it from the release")
        return [pair for pair in candidates if hmac.compare_digest(self.subject(*pair), wanted)]

    def uid(self, original: str) -> str:
        """A UID → '2.25.' + the integer of a UUIDv8; a bijection but for collisions of 122 bits."""
        found = self._uids.get(original)
        if found is None:
            if len(self._uids) > 1 << 16:  # flat memory over any number of files
                self._uids.clear()
            digest = keyed_digest(self._keys["uid"], original.encode("utf-8", "surrogateescape"))[:16]
            number = int.from_bytes(digest, "big")
            number = number & ~(0xF << 76) | 8 << 76  # version 8
            number = number & ~(0x3 << 62) | 2 << 62  # variant 10
            found = self._uids[original] = f"2.25.{uuid.UUID(int=number).int}"
        return found

    def weeks_back(self, subject: str) -> int:
        """How far a subject's dates move into the past: 52–520 whole weeks, one number per subject."""
        digest = keyed_digest(self._keys["date"], subject.encode())
        span = _MAXIMUM_WEEKS - _MINIMUM_WEEKS + 1
        return _MINIMUM_WEEKS + int.from_bytes(digest[:8], "big") % span

    def accession(self, number: str) -> str:
        """An accession number → 16 hex digits (VR SH holds 16)."""
        return keyed_digest(self._keys["accession"], normalise_id(number).encode())[:8].hex().upper()

    def link(self, *parts: bytes) -> str:
        """What a receipt holds in place of its input: recomputed under custody, meaningless elsewhere."""
        return keyed_digest(self._keys["report-link"], *parts).hex()

    def seal(self, *parts: bytes | bytearray) -> str:
        """A mark that only this site and project can put on its own output: 32 hex digits."""
        return keyed_digest(self._keys["seal"], *parts)[:16].hex()

    def fingerprint(self, data: bytes | bytearray | memoryview) -> bytes:
        """16 bytes in place of many, as a part of `link` or `seal` only: see `keyed_fingerprint`."""
        return keyed_fingerprint(self._keys["fingerprint"], data)
