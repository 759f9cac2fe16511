"""A crosswalk from pseudonyms to patients, for a site that must keep one: sealed, never plain on a disk.

None is made unless it is asked for: whoever has the site key recomputes pseudonyms
(`Pseudonyms.matches`). This one is for a custodian who is to look patients up without the site key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from fedimg.crypto.sealing import SealingKey, seal
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.errors import DataError

_PURPOSE = "crosswalk"


def sealed_crosswalk(
    patients: Iterable[tuple[str, str]], pseudonyms: Pseudonyms, custodian_public_bytes: bytes
) -> bytes:
    """(issuer, patient number) of every patient under its pseudonym, for the custodian's X25519 key alone."""
    rows = {pseudonyms.subject(*patient): list(patient) for patient in patients}
    data = json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()
    return seal(data, custodian_public_bytes, purpose=_PURPOSE)


def open_crosswalk(sealed: bytes, custodian: SealingKey) -> Mapping[str, tuple[str, str]]:
    """Pseudonym → (issuer, patient number). Every look-up belongs into the audit log. Raises DataError."""
    rows = json.loads(custodian.open(sealed, purpose=_PURPOSE))
    if not isinstance(rows, dict):
        raise DataError("a crosswalk", "something else", "open the file that was sealed as one")
    return {pseudonym: (issuer, number) for pseudonym, (issuer, number) in rows.items()}
