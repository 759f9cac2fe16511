"""A site's own folder: keys, receipts, ledger, released files. Mode 0700, never in a checkout.

home/
  home.json        version, and whether the site is simulated
  site.key         secret behind the pseudonyms (0600)     signing.key   Ed25519 (0600)
  policy.yaml      the site's own rules                    ledger.sqlite privacy spent
  receipts.jsonl   one line per input                      labels.jsonl  labels by instance
  released/        what training may read                  quarantine/   temporary files, nothing else
  cache/           decoded volumes
"""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedimg.crypto.keys import SigningKey, SiteKey, write_secret
from fedimg.errors import DataError

_VERSION = 1
_FOLDERS = ("released", "quarantine", "cache")


@dataclass(frozen=True)
class SiteHome:
    """Paths and keys of one site. Equality is by folder; the keys show nothing in text.

    Attributes:
        root: the folder. simulated: a virtual site of `fedimg simulate`, never a hospital.
        insecure: its key follows from a text that stands in the configuration.
    """

    root: Path
    site_key: SiteKey
    signing_key: SigningKey
    simulated: bool
    insecure: bool = False

    @property
    def released(self) -> Path:
        return self.root / "released"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def receipts(self) -> Path:
        return self.root / "receipts.jsonl"

    @property
    def labels(self) -> Path:
        return self.root / "labels.jsonl"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def policy(self) -> Path:
        return self.root / "policy.yaml"

    @classmethod
    def create(cls, root: Path, simulated: bool, insecure_seed: str | None = None) -> Self:
        """Make the folder (0700) with fresh keys.

        `insecure_seed` derives the site key from a text instead, for the insecure test mode, in which
        two runs are compared bit by bit; only a simulated site takes it.

        Raises DataError where a home exists already, or the folder holds anything else.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise DataError(
                "an empty folder for a new home", "one with files in it", "open it, or name another folder"
            )
        root.chmod(0o700)
        for name in _FOLDERS:
            (root / name).mkdir(mode=0o700)
        if insecure_seed is not None:
            if not simulated:
                raise DataError("a fresh site key", "a seeded one for a real site", "leave insecure_seed out")
            write_secret(
                root / "site.key", hashlib.sha256(b"insecure test mode" + insecure_seed.encode()).digest()
            )
            site_key = SiteKey.load(root / "site.key")
        else:
            site_key = SiteKey.create(root / "site.key")
        signing_key = SigningKey.create(root / "signing.key")
        marker = {"simulated": simulated, "insecure": insecure_seed is not None, "version": _VERSION}
        # Written last: a home without it was never finished and is not opened.
        write_secret(root / "home.json", json.dumps(marker).encode())
        return cls(root, site_key, signing_key, simulated, insecure_seed is not None)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing home. Raises DataError where it is missing, unfinished or readable by others."""
        remedy = "make one with `fedimg site init`, or name the folder that holds it"
        try:
            marker = json.loads((root / "home.json").read_bytes())
            status = root.stat()
        except (OSError, ValueError):
            raise DataError("a site's home folder", "none, or an unfinished one", remedy) from None
        if status.st_mode & 0o077:
            mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
            raise DataError("a home folder of mode 0700", mode, "chmod 700 it after asking who could read it")
        if (
            not isinstance(marker, dict)
            or marker.get("version") != _VERSION
            or type(marker.get("simulated")) is not bool
        ):
            raise DataError(f"a home of version {_VERSION}", "another version", remedy)
        for name in _FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        keys = SiteKey.load(root / "site.key"), SigningKey.load(root / "signing.key")
        return cls(root, *keys, marker["simulated"], marker.get("insecure") is True)
