"""What a release record says of a site's receipts: which ones they were, to nobody but those the site shows it to.

HMAC-SHA256 under a key of the site and the run, over the hash of the last receipt, whose chain holds
all before it. Hiding: without the key it is a random number, also for whoever guesses the receipts.
Binding: two histories of receipts that open it would be a collision of SHA-256.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from itertools import chain

from fedimg.crypto.keys import SiteKey, keyed_digest
from fedimg.dicom.chain import GENESIS
from fedimg.dicom.receipts import head_path, last_signed, signed_hashes
from fedimg.errors import ReceiptError
from fedimg.home import ReleaseFolder
from fedimg.intake.admission import anchor_of


def commitment(folder: ReleaseFolder, run_id: str) -> str:
    """To the receipts as they stand, hex. Raises ReceiptError where their signature does not hold."""
    return _of(_last(folder), folder.site_key, run_id)


def opened(folder: ReleaseFolder, run_id: str, committed: str) -> int | None:
    """How many of the folder's receipts, from the first, a commitment is to; None where it is to none of them.

    Raises ReceiptError where the receipts do not verify.
    """
    key = folder.signing_key.public_bytes
    for count, last in enumerate([GENESIS, *signed_hashes(folder.receipts, key, anchor_of(folder))]):
        if hmac.compare_digest(_of(last, folder.site_key, run_id), committed):
            return count
    return None


def hash_of(folder: ReleaseFolder, run_id: str, committed: str) -> str:
    """The hash of the last receipt that a commitment is to, hex. Raises ReceiptError where it is to none."""
    now = _last(folder)  # by the head alone: as a rule nothing was added since
    for last in chain([now], _until_now(folder)):
        if hmac.compare_digest(_of(last, folder.site_key, run_id), committed):
            return last
    raise ReceiptError(
        "the receipts that this site joined with", "others", "restore receipts.jsonl from its backup"
    )


def history(folder: ReleaseFolder) -> list[str]:
    """The hash of the last receipt after none, one, two … of them. Raises ReceiptError."""
    if not _begun(folder):
        return [GENESIS]
    key = folder.signing_key.public_bytes
    return [GENESIS, *signed_hashes(folder.receipts, key, anchor_of(folder))]


def _until_now(folder: ReleaseFolder) -> Iterator[str]:
    yield from history(folder)


def _begun(folder: ReleaseFolder) -> bool:
    return head_path(folder.receipts).exists() or folder.receipts.exists()


def _last(folder: ReleaseFolder) -> str:
    return last_signed(folder.receipts, folder.signing_key.public_bytes) if _begun(folder) else GENESIS


def _of(last: str, site_key: SiteKey, run_id: str) -> str:
    key = site_key.derive("receipts-commitment", project=run_id)
    return keyed_digest(key, bytes.fromhex(last)).hex()
