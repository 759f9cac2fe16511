"""Released studies for a named recipient outside: sealed for their key, signed by this site, and written down first.

What was released is still patients' data: pseudonyms instead of names, and whatever a picture shows. So a file goes out
only with a receipt that holds, to its last byte, as in training; only where the site's policy names the recipient's key;
and never where the release rests on the voxels staying here: heads that were let through under `allow-local`, and NIfTI
files, of which nothing says whether they show a face.

    HOME_OR_OUT/shares.jsonl, shares.head    chained and signed: when, for whom, which key, how many files
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedimg import canonical
from fedimg.archive import Archive, Entry, Member, Written, write, written_public_key
from fedimg.crypto.sealing import SealingKey
from fedimg.dicom import receipts
from fedimg.dicom.chain import ChainLog, head_path, signed_lines
from fedimg.dicom.receipts import Receipt
from fedimg.durable import fresh_folder, write_durably
from fedimg.errors import DataError, ReceiptError
from fedimg.federation.request import check_name
from fedimg.home import ReleaseFolder, SiteHome
from fedimg.intake.admission import check_proof, standing
from fedimg.operator_log import note_shared
from fedimg.privacy.policy import SitePolicy

PURPOSE = "fedimg share 1"
LABEL = b"fedimg shares 1"
_NAME = re.compile(r"FI[0-9A-F]{20}(/2\.25\.[0-9]{1,39}){2}/2\.25\.[0-9]{1,39}\.dcm", re.ASCII)
_OTHER = "name the file that `fedimg share seal` wrote"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Attributes: name: of up to 32 letters, digits, - and _. key: X25519 public key, 32 bytes."""

    name: str
    key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class Received:
    """Attributes: sender: Ed25519 key of who signed, hex. facts: what the sender says. files: how many."""

    sender: str
    facts: dict[str, Any]
    files: int


def log_path(root: Path) -> Path:
    """Where a home or an output keeps whom it shared with."""
    return root / "shares.jsonl"


def seal(
    folder: ReleaseFolder,
    policy: SitePolicy,
    target: Path,
    recipient: Recipient,
    studies: Collection[str] = (),
    now: datetime | None = None,
) -> Written:
    """Write a new file that `recipient` alone opens. The log has its line, durable, before the file has its name.

    Args:
        studies: pseudonymous study UIDs; () for all.

    Raises:
        PolicyRefused: the policy does not name the key. ReceiptError: receipts, or one chosen file, do not hold, or may
        not leave; then nothing is shared. DataError: nothing to share, or the target exists.
    """
    named = written_public_key(recipient.key)
    policy.check_sharing(named)
    chosen = _chosen(standing(folder), studies)
    members = [_member(folder, path, receipt) for path, receipt in chosen]
    made = f"{(now or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with ChainLog(log_path(folder.root), folder.signing_key, LABEL) as log:
        line = {"time": made, "recipient": recipient.name, "key": named, "files": len(members)}
        log.write({**line, "studies": len({receipt.keys["study"] for _, receipt in chosen})})
    if isinstance(folder, SiteHome):
        note_shared(folder.root, len(members), recipient.name, named)
    profile = dict(chosen[0][1].profile)
    facts = {"kind": "share", "made": made, "recipient": recipient.name, "profile": profile}
    return write(target, recipient.key, PURPOSE, facts, folder.signing_key, members, folder.quarantine)


def shared(root: Path, public_key: bytes) -> Iterator[dict[str, Any]]:
    """The lines of the log, oldest first. Raises ReceiptError where it does not verify."""
    path = log_path(root)
    if path.exists() or head_path(path).exists():
        for _, _, body in signed_lines(path, public_key, LABEL):
            yield body


def unseal(file: Path, out: Path, key: SealingKey, sender: str | None = None) -> Received:
    """Write what was shared below the new folder `out`, whole or not at all, with share.json, which says whose it is.

    Args:
        sender: the site's public key, hex, obtained another way; another's file is then refused.

    Raises DataError: cut, changed, for another key, another's, or no share.
    """
    with fresh_folder(out) as partial:
        with Archive.open(file, key, PURPOSE, partial) as archive:
            if archive.facts.get("kind") != "share":
                raise DataError("released files that a site shared", "an archive of something else", _OTHER)
            if sender is not None and archive.sender != sender.lower():
                raise DataError(
                    "files that this site signed", "another's", "ask the site for its public key, and call it"
                )
            archive.extract(partial, lambda name: _NAME.fullmatch(name) is not None)
        received = Received(archive.sender, archive.facts, archive.files)
        write_durably(partial / "share.json", canonical.encode(received.facts) + b"\n")
    return received


def _chosen(latest: dict[str, Receipt], studies: Collection[str]) -> list[tuple[str, Receipt]]:
    known = {receipt.keys["study"] for receipt in latest.values()}
    if unknown := set(studies) - known:
        found = f"{len(unknown)} that no released file has"
        raise DataError("study UIDs as they stand in released files", found, "copy them from the release")
    chosen = [(path, one) for path, one in latest.items() if not studies or one.keys["study"] in studies]
    if not chosen:
        raise DataError("released files to share", "none", "take a source in first")
    return sorted(chosen, key=lambda pair: pair[0].split("/"))


def _member(folder: ReleaseFolder, path: str, receipt: Receipt) -> Member:
    """Raises ReceiptError unless the file is its receipt's, and may leave."""
    where = f"a file that may leave, at run position {receipt.position}"
    if receipt.kind != "dicom":
        raise ReceiptError(
            where, "a NIfTI file, which may show a face", "share the DICOM files, or name other studies"
        )
    if receipt.evidence.get("head"):
        found = "a head, let through for as long as its voxels stay at the site"
        raise ReceiptError(where, found, "name other studies with --study")
    check_proof(receipt)
    receipts.check_file(receipt, path, folder.released)
    size = (folder.released / path).stat().st_size
    return Member(path, folder.released, path, known=Entry(path, size, bytes.fromhex(receipt.sha256 or "")))
