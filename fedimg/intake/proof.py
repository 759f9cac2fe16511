"""Whether a folder's receipts, signature and released bytes hold together, and what that proves.

With a public key known beforehand: whoever holds the site's key signed exactly these files. With
the key that lies in the folder: only that nothing was changed by somebody who cannot sign; whoever
can write the whole folder can make a new key and sign anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedimg.dicom import receipts
from fedimg.dicom.chain import head_path, signed_lines
from fedimg.dicom.receipts import Anchor, Standing
from fedimg.errors import ConfigError, ReceiptError
from fedimg.home import OutCard, SiteHome, anchor_path
from fedimg.intake import index, reidentify


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found to hold.

    Attributes:
        receipts: lines in the chain. released: files, each as its receipt says.
        public_key: that signed, hex. key_given: whether it was known beforehand.
        anchored: whether this machine had noted earlier receipts, and they are all there.
        unfinished: a run is at work, or was interrupted and not started again: not every input has
            its decision yet.
        lookups: re-identifications in the log of look-ups, whose chain holds too.
    """

    receipts: int
    released: int
    public_key: str
    key_given: bool
    anchored: bool
    unfinished: bool
    lookups: int


def prove(root: Path, public_key: bytes | None = None) -> Proof:
    """Check chain, root, signature, every released byte, and that nothing else is in the tree.

    Raises ReceiptError at the first fault; DataError where there is no such folder.
    """
    own, anchor_file = _card(root)
    key = public_key or own
    anchor = Anchor(anchor_file) if anchor_file is not None else None
    path, released = root / "receipts.jsonl", root / "released"
    files = receipts.standing(receipts.read(path, key, anchor))
    _check_files(root, files)
    strays = receipts.stray_files(released, files)
    if strays:
        remedy = "take the inputs in again, or remove the files"
        raise ReceiptError("a receipt for every released file", f"{strays} files without one", remedy)
    return Proof(
        receipts.count_signed(path, key),
        len(files),
        key.hex(),
        public_key is not None,
        anchor is not None and anchor.seen() is not None,
        (root / "quarantine" / index.NAME).exists(),
        _lookups(root / "audit.jsonl", key),
    )


def _lookups(path: Path, key: bytes) -> int:
    if not path.exists() and not head_path(path).exists():
        return 0
    return sum(1 for _ in signed_lines(path, key, reidentify.LABEL))


def _card(root: Path) -> tuple[bytes, Path | None]:
    """The public key that lies in the folder, and where this machine notes its receipts."""
    if OutCard.exists(root):
        card = OutCard.read(root)
        return public_key_of(card.public_key), anchor_path(card.identity)
    home = SiteHome.open(root)
    return home.signing_key.public_bytes, home.anchor


def public_key_of(text: str) -> bytes:
    """64 hexadecimal digits, or a file that holds them. Raises ConfigError."""
    try:
        key = bytes.fromhex(text if len(text.strip()) == 64 else Path(text).read_text("ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise ConfigError(
            "a public key of 64 hexadecimal digits", "something else", "see `deid.json` of an output"
        )
    return key


def _check_files(root: Path, files: dict[str, Standing]) -> None:
    waiting = {part.name.partition("-")[0] for part in (root / "quarantine").glob("*.part")}
    missing = 0
    for output, receipt in files.items():
        if receipt.link in waiting and not (root / "released" / output).exists():
            missing += 1
            continue
        receipts.check_file(receipt, output, root / "released")
    if missing:
        raise ReceiptError(
            "every receipted file in the release tree",
            f"{missing} still in quarantine, where an interrupted run left them",
            "start the same run again: it moves them and goes on; what is released is valid",
        )
