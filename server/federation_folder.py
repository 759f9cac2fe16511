"""The coordinator's folder: its authority, its TLS key, who is a member. Mode 0700; kept on one machine, backed up.

federation.json    name, id, address, hosts, the last bundle's number, and which of the following are in use
authority-N.key    0600, encrypted where a passphrase was given      authority-N.pem
tls-N.key, .pem    the coordinator's TLS pair
members/NAME.json  a site's request as it came, and its certificate
revoked.json       who may not come back
federation.bundle  what sites are given: the last manifest
drift/             histograms that sites have given, and what was found of them: see `server.drift`

Every change is one file replaced by another, at the end, and one process changes at a time: what a kill leaves is the
state before or after.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fedimg.durable import write_durably
from fedimg.errors import DataError
from fedimg.federation import SignedManifest
from fedimg.federation.request import check_name

RUNS, PUBLIC = "runs", "public"
"""Folders below it: of runs, and the home of the coordinator's public test set."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class State:
    """`number` of the last bundle; `authority`, `former` (0: none) and `tls` number the files in use."""

    name: str
    id: str
    address: str
    hosts: tuple[str, ...]
    number: int = 0
    authority: int = 1
    former: int = 0
    tls: int = 1
    version: int = _VERSION


class FederationFolder:
    """A coordinator's folder, read; for this no key is opened. Raises DataError where there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state()

    @property
    def certificate(self) -> str:
        """The authority's, PEM."""
        return (self.root / f"authority-{self.state().authority}.pem").read_text("utf-8")

    @property
    def tls(self) -> tuple[Path, Path]:
        """Key and certificate for the link's server."""
        number = self.state().tls
        return self.root / f"tls-{number}.key", self.root / f"tls-{number}.pem"

    @property
    def tls_certificate(self) -> str:
        """PEM."""
        return self.tls[1].read_text("utf-8")

    def state(self) -> State:
        """Raises DataError where the folder is no federation's, or others may read it."""
        remedy = "make one with `fedimg provision init`, or name the folder that holds it"
        try:
            found = json.loads((self.root / "federation.json").read_text("utf-8"))
            mode = self.root.stat().st_mode & 0o777
            state = State(**(found | {"hosts": tuple(found["hosts"])}))
        except (OSError, ValueError, TypeError, KeyError):
            raise DataError("a federation's folder", "none, or an unfinished one", remedy) from None
        if mode & 0o077:
            asked = "chmod 700 it after asking who could read it"
            raise DataError("a federation's folder of mode 0700", f"mode {mode:04o}", asked)
        if state.version != _VERSION:
            raise DataError(f"a federation's folder of version {_VERSION}", "another version", remedy)
        return state

    def last(self) -> SignedManifest | None:
        """The last bundle; None before the first. Raises DataError where it cannot be read."""
        file = self.root / "federation.bundle"
        return SignedManifest.read(file.read_bytes(), None) if file.exists() else None

    def members(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in (self.root / "members").glob("*.json")))

    def member(self, name: str) -> tuple[bytes, str]:
        """A member's request document, and its certificate. Raises DataError for one that is none."""
        try:
            found = json.loads(self.member_file(name).read_text("utf-8"))
            return found["request"].encode(), found["certificate"]
        except FileNotFoundError:
            known = ", ".join(self.members()) or "none yet"
            raise DataError("a member of this federation", "another name", f"the members: {known}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError("a member's file", "another", "restore it from the folder's backup") from None

    def revoked(self) -> dict[str, str]:
        """name → identity, hex."""
        file = self.root / "revoked.json"
        return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}

    def member_file(self, name: str) -> Path:
        return self.root / "members" / f"{check_name(name)}.json"


def write_state(root: Path, state: State) -> None:
    write_durably(root / "federation.json", json.dumps(asdict(state), indent=1) + "\n")
