"""Receipts: one line per input, chained and signed (`chain`), and what they say of the release tree.

A line holds counts, tag paths, keyed digests and closed codes, never a value of the input. The
standing decision on an input is that of its last line: a review or a later run may follow the first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fedimg.crypto.keys import SigningKey
from fedimg.dicom.chain import FORMAT, Anchor, ChainLog, head_path, read_head, signed_lines
from fedimg.dicom.receipt import Receipt
from fedimg.errors import ReceiptError

__all__ = [
    "FORMAT",
    "Anchor",
    "Receipt",
    "ReceiptLog",
    "Standing",
    "check_file",
    "count_signed",
    "head_path",
    "last_signed",
    "read",
    "signed_hashes",
    "stray_files",
    "verify",
]

_LABEL = b"fedimg receipts 2"


class ReceiptLog(ChainLog):
    """The file behind `Receipt`s, open for appending; see `ChainLog`."""

    def __init__(self, path: Path, signing_key: SigningKey, anchor: Anchor | None = None) -> None:
        super().__init__(path, signing_key, _LABEL, anchor)

    def append(self, receipt: Receipt) -> None:
        """Add one line; it counts from the next `checkpoint` on. Raises OSError."""
        self.write(receipt.to_mapping())


def count_signed(path: Path, public_key: bytes) -> int:
    """How many lines are signed, by the head alone. Raises ReceiptError."""
    return int(read_head(path, public_key, _LABEL)["lines"])


def last_signed(path: Path, public_key: bytes) -> str:
    """SHA-256 of the last signed line, hex, by the head alone. Raises ReceiptError."""
    return str(read_head(path, public_key, _LABEL)["last"])


def signed_hashes(path: Path, public_key: bytes, anchor: Anchor | None = None) -> Iterator[str]:
    """SHA-256 of each signed line, hex, in order. Raises ReceiptError as `read`."""
    for line, _, _ in signed_lines(path, public_key, _LABEL, anchor):
        yield hashlib.sha256(line).hexdigest()


def read(path: Path, public_key: bytes, anchor: Anchor | None = None) -> Iterator[Receipt]:
    """The receipts of the signed part, in order.

    Raises ReceiptError at the first fault; a changed last line shows at the end, so take all
    before believing any.
    """
    for _, _, body in signed_lines(path, public_key, _LABEL, anchor):
        yield Receipt.from_mapping(body)


class Standing(NamedTuple):
    """What is left of a receipt in memory: the file that should be there."""

    position: int
    link: str
    sha256: str


def standing(receipts: Iterable[Receipt]) -> dict[str, Standing]:
    """Output path → the file that the last line about each input calls released."""
    files: dict[str, Standing] = {}
    outputs: dict[str, str] = {}
    for receipt in receipts:
        earlier = outputs.pop(receipt.link, None)
        if earlier is not None and files[earlier].link == receipt.link:
            del files[earlier]
        if receipt.decision == "released":
            outputs[receipt.link] = output = receipt.output or ""
            files[output] = Standing(receipt.position, receipt.link, receipt.sha256 or "")
    return files


def check_file(receipt: Receipt | Standing, output: str, released_root: Path) -> None:
    """Whether the released file is the one of the receipt. Raises ReceiptError (naming the position only)."""
    where = f"the file of run position {receipt.position}"
    path = released_root / output
    try:
        if path.is_symlink():
            raise ReceiptError(where, "a link in its place", "take the input in again")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise ReceiptError(where, "no such file", "take the input in again") from None
    if found != receipt.sha256:
        raise ReceiptError(where, "other bytes than were released", "take the input in again")


def stray_files(released_root: Path, files: dict[str, Standing]) -> int:
    """How many files of the tree have no standing receipt."""
    count = 0
    for folder, folders, names in os.walk(released_root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        inside = Path(folder).relative_to(released_root)
        count += sum((inside / name).as_posix() not in files for name in (*names, *links))
    return count


def verify(path: Path, public_key: bytes, released_root: Path, anchor: Anchor | None = None) -> int:
    """Check everything: chain, root, signature, every released byte, and that no other file is there.

    Returns the number of receipts. Raises ReceiptError at the first fault.
    """
    files = standing(read(path, public_key, anchor))
    for output, receipt in files.items():
        check_file(receipt, output, released_root)
    strays = stray_files(released_root, files)
    if strays:
        remedy = "take the inputs in again, or remove the files"
        raise ReceiptError("a receipt for every released file", f"{strays} files without one", remedy)
    return count_signed(path, public_key)
