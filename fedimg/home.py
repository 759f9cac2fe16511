"""Where released files lie: a site's home, or the output of a de-identification by itself. Mode 0700.

home/              of a site that trains; never in a checkout
  home.json        version, and whether the site is simulated
  site.key         secret behind the pseudonyms (0600)     signing.key   Ed25519 (0600)
  policy.yaml      the site's own rules                    ledger.sqlite privacy spent
  receipts.jsonl   one line per input                      labels.jsonl  labels by instance
  roster.json      the federation's sites, as pinned      sums/         secure sums that were begun
  released/        what training may read                  quarantine/   temporary files, nothing else
  ledger-keys.jsonl  by what the ledger knows each released patient (0600), in no receipt; shares.jsonl  files sealed
  report.html      counts and pictures, confidential       operator.log  refusals and faults
  cache/ decoded volumes    targets/ classes of voxels    heterogeneity/ kept between rounds: see there
  of a further study: no keys and no ledger, home.json names the first home; of a restored one: see `restored`

out/               of `fedimg deidentify run IN OUT deid.key=FILE`; the key stays outside
  deid.json        version, identity, project, public key
  receipts.jsonl, released/, quarantine/   as above
"""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fedimg.crypto.keys import SigningKey, SiteKey, write_secret
from fedimg.errors import ConfigError, DataError
from fedimg.shared_site import FIELD, FirstHome, state_folder

_VERSION = 1
_UNFINISHED = "deid.json-new"
_OUT_FOLDERS = ("released", "quarantine")
_FOLDERS = (*_OUT_FOLDERS, "cache")
_KEYS = ("site.key", "signing.key")


@dataclass(frozen=True)
class ReleaseFolder:
    """Paths and keys that an intake needs. Equality is by folder; the keys show nothing in text.

    Attributes:
        root: the folder. site_key: behind the pseudonyms. signing_key: behind the receipts.
    """

    root: Path
    site_key: SiteKey = field(compare=False)
    signing_key: SigningKey = field(compare=False)

    @property
    def released(self) -> Path:
        return self.root / "released"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def receipts(self) -> Path:
        return self.root / "receipts.jsonl"

    @property
    def audit(self) -> Path:
        return self.root / "audit.jsonl"

    @property
    def anchor(self) -> Path | None:
        """Where this machine notes the last receipts it has seen, apart from the folder."""
        return anchor_path(self.signing_key.public_bytes.hex())


def anchor_path(identity: str) -> Path:
    """`$FEDIMG_STATE_DIR` or `$XDG_STATE_HOME/fedimg` or `~/.local/state/fedimg`, below it the folder's own file."""
    return state_folder() / "receipts" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True)
class SiteHome(ReleaseFolder):
    """A site's home.

    Attributes:
        simulated: a virtual site of `fedimg simulate`, never a hospital.
        insecure: its key follows from a text that stands in the configuration.
        first: the site's first home, where keys and ledger lie; None: it is this one.
        identity: random, made with a further home; "" for a first one, which its public key identifies.
    """

    simulated: bool
    insecure: bool = False
    first: Path | None = None
    identity: str = ""

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def anchor(self) -> Path | None:
        if self.simulated:
            return None  # made and thrown away with its run
        return anchor_path(self.identity) if self.identity else super().anchor

    @property
    def roster(self) -> Path:
        return self.root / "roster.json"

    @property
    def labels(self) -> Path:
        return self.root / "labels.jsonl"

    @property
    def ledger(self) -> Path:
        """The site's: one for all its homes."""
        return (self.first or self.root) / "ledger.sqlite"

    @property
    def ledger_keys(self) -> Path:
        return self.root / "ledger-keys.jsonl"

    @property
    def policy(self) -> Path:
        return self.root / "policy.yaml"

    @classmethod
    def create(cls, root: Path, simulated: bool, insecure_seed: str | None = None) -> Self:
        """Make the folder (0700) with fresh keys.

        `insecure_seed` derives the site key from a text instead, for the insecure test mode, in which
        two runs are compared bit by bit; only a simulated site takes it.
        Keys of a making that was interrupted before its end are taken up: nothing was done with them.
        Raises DataError where a home exists already, or the folder holds anything else.
        """
        _make_folders(root, _FOLDERS, _KEYS)
        own, signing = (root / name for name in _KEYS)
        if insecure_seed is not None:
            if not simulated:
                raise DataError("a fresh site key", "a seeded one for a real site", "leave insecure_seed out")
            own.unlink(missing_ok=True)
            write_secret(own, hashlib.sha256(b"insecure test mode" + insecure_seed.encode()).digest())
        site_key = SiteKey.load(own) if own.exists() else SiteKey.create(own)
        signing_key = SigningKey.load(signing) if signing.exists() else SigningKey.create(signing)
        marker = {"simulated": simulated, "insecure": insecure_seed is not None, "version": _VERSION}
        # Written last: a home without it was never finished and is not opened.
        write_secret(root / "home.json", json.dumps(marker).encode())
        return cls(root, site_key, signing_key, simulated, insecure_seed is not None)

    @classmethod
    def create_beside(cls, root: Path, first: Self) -> Self:
        """Make a further home of the site of `first`, for another study: the same keys, the same ledger.

        Raises DataError where `root` holds anything, or `first` is simulated.
        """
        if first.simulated:
            raise DataError("the home of a real site", "a simulated one", "name a home of `fedimg site init`")
        _make_folders(root, _FOLDERS, ())
        named = FirstHome.of(first.first or first.root, first.signing_key.public_bytes)
        marker = {
            "simulated": False,
            "version": _VERSION,
            FIELD: named.as_json(),
            "identity": secrets.token_hex(16),
        }
        write_secret(root / "home.json", json.dumps(marker).encode())
        return cls.open(root)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open an existing home. Raises DataError where it is missing, unfinished or readable by others.

        The same for the site's first home, where this one refers to it.
        """
        remedy = "make one with `fedimg site init`, or name the folder that holds it"
        marker = _marker(root, "home.json", "a site's home folder", remedy)
        if type(marker.get("simulated")) is not bool:
            raise DataError("a site's home folder", "none, or an unfinished one", remedy)
        for name in _FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        if (named := FirstHome.read(marker)) is not None:
            first = cls.open(named.root)
            if first.first is not None or first.simulated:
                raise DataError("a site's first home", "a further or simulated one", remedy)
            named.check(first.signing_key.public_bytes)
            identity = str(marker.get("identity") or "")
            return cls(root, first.site_key, first.signing_key, False, False, first.root, identity)
        keys = SiteKey.load(root / "site.key"), SigningKey.load(root / "signing.key")
        return cls(root, *keys, marker["simulated"], marker.get("insecure") is True)


def _make_folders(
    root: Path,
    folders: Collection[str],
    files: Collection[str],
    expected: str = "an empty folder for a new home",
) -> None:
    """Make a folder (0700) and those in it, or take up an interrupted making. Raises DataError for other files."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(not _left_unfinished(path, folders, files) for path in root.iterdir()):
        raise DataError(expected, "one with files in it", "name another folder")
    root.chmod(0o700)
    for name in folders:
        (root / name).mkdir(mode=0o700, exist_ok=True)


def _left_unfinished(path: Path, folders: Collection[str], files: Collection[str]) -> bool:
    """What a process that was killed while it made a home or output may leave: `folders`, empty, and `files`."""
    if path.name in folders and path.is_dir():
        return not any(path.iterdir())
    return path.name in files and path.is_file()


def _marker(root: Path, name: str, expected: str, remedy: str) -> dict[str, Any]:
    try:
        marker = json.loads((root / name).read_bytes())
        status = root.stat()
    except (OSError, ValueError):
        raise DataError(expected, "none, or an unfinished one", remedy) from None
    if status.st_mode & 0o077:
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise DataError("a home folder of mode 0700", mode, "chmod 700 it after asking who could read it")
    if not isinstance(marker, dict) or marker.get("version") != _VERSION:
        raise DataError(f"a home of version {_VERSION}", "another version", remedy)
    return marker


@dataclass(frozen=True)
class OutFolder(ReleaseFolder):
    """The output of a de-identification without a home: the site key stays where it is.

    The signing key follows from the site key (HKDF, domain "receipt-signing"), so that whoever holds
    the key can go on, and nobody else.

    Attributes: identity: random, made with the folder. project: salt of its pseudonyms.
    """

    identity: str
    project: str

    @property
    def anchor(self) -> Path | None:
        return anchor_path(self.identity)

    @classmethod
    def create(cls, root: Path, site_key: SiteKey, project: str) -> Self:
        """Make the folder (0700). Raises DataError where it holds anything."""
        expected = "a new or empty folder, or the output of an earlier run"
        _make_folders(root, _OUT_FOLDERS, (_UNFINISHED,), expected)
        key, identity = _receipt_key(site_key, project), secrets.token_hex(16)
        marker = {
            "identity": identity,
            "project": project,
            "public_key": key.public_bytes.hex(),
            "version": _VERSION,
        }
        unfinished = root / _UNFINISHED
        unfinished.unlink(missing_ok=True)
        write_secret(unfinished, json.dumps(marker, sort_keys=True).encode())
        unfinished.replace(root / "deid.json")  # last: a folder without it was never begun
        return cls(root, site_key, key, identity, project)

    @classmethod
    def open(cls, root: Path, site_key: SiteKey) -> Self:
        """Open the output of an earlier run. Raises DataError, and ConfigError for another key than its own."""
        card = OutCard.read(root)
        key = _receipt_key(site_key, card.project)
        if key.public_bytes.hex() != card.public_key:
            raise ConfigError("the key of this output folder", "another one", "use that key, or a new folder")
        for name in _OUT_FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        return cls(root, site_key, key, card.identity, card.project)


def _receipt_key(site_key: SiteKey, project: str) -> SigningKey:
    return SigningKey.from_bytes(site_key.derive("receipt-signing", project=project))


@dataclass(frozen=True, slots=True)
class OutCard:
    """What an output folder says of itself; enough to verify it without its key."""

    identity: str
    project: str
    public_key: str

    @classmethod
    def exists(cls, root: Path) -> bool:
        return (root / "deid.json").is_file()

    @classmethod
    def read(cls, root: Path) -> Self:
        """Raises DataError where the folder is no output, or readable by others."""
        expected, remedy = "an output folder of `fedimg deidentify run`", "name the folder that it made"
        marker = _marker(root, "deid.json", expected, remedy)
        values = [str(marker.get(name) or "") for name in ("identity", "project", "public_key")]
        if not all(values):
            raise DataError(expected, "one whose deid.json was changed", remedy)
        return cls(*values)
