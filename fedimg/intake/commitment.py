"""What a release record says of a site's receipts: which ones they were, to nobody but those the site shows it to.

HMAC-SHA256 under a key of the site and the run, over the hash of the last receipt, whose chain holds
all before it. Hiding: without the key it is a random number, also for whoever guesses the receipts.
Binding: two histories of receipts that open it would be a collision of SHA-256.
"""

from __future__ import annotations

import hmac

from fedimg.crypto.keys import SiteKey, keyed_digest
from fedimg.dicom.chain import GENESIS
from fedimg.dicom.receipts import head_path, last_signed, signed_hashes
from fedimg.home import ReleaseFolder
from fedimg.intake.admission import anchor_of


def commitment(folder: ReleaseFolder, run_id: str) -> str:
    """To the receipts as they stand, hex. Raises ReceiptError where their signature does not hold."""
    key = folder.signing_key.public_bytes
    begun = head_path(folder.receipts).exists() or folder.receipts.exists()
    return _of(last_signed(folder.receipts, key) if begun else GENESIS, folder.site_key, run_id)


def opened(folder: ReleaseFolder, run_id: str, committed: str) -> int | None:
    """How many of the folder's receipts, from the first, a commitment is to; None where it is to none of them.

    Raises ReceiptError where the receipts do not verify.
    """
    hashes = [GENESIS, *signed_hashes(folder.receipts, folder.signing_key.public_bytes, anchor_of(folder))]
    for count, last in enumerate(hashes):
        if hmac.compare_digest(_of(last, folder.site_key, run_id), committed):
            return count
    return None


def _of(last: str, site_key: SiteKey, run_id: str) -> str:
    key = site_key.derive("receipts-commitment", project=run_id)
    return keyed_digest(key, bytes.fromhex(last)).hex()
