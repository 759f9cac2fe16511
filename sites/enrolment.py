"""A site's side of becoming a member: it makes its keys, asks, and pins the federation that it is given.

home/federation/
  node.key       by which the link knows this site (0600)     node-next.key   the one that it asked for and has not
  request.json   what it asked for                            pinned.bundle   the federation, as it was accepted
  roots.pem      the authority that the link's server is held to, and while it changes the former one too
home/roster.json the members' identities and weights, from the pinned bundle; what secure sums go by
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedimg.crypto.certificates import public_pem_of, utc_now
from fedimg.crypto.link_keys import NodeKey
from fedimg.durable import locked, sync_folder, write_durably
from fedimg.errors import DataError, PolicyRefused
from fedimg.federation import Manifest, SignedManifest, SiteRequest, same_code
from fedimg.federation.request import check_name
from fedimg.home import SiteHome
from fedimg.privacy.policy import SitePolicy
from fedimg.secagg.roster import Roster

_PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a bundle changed: names of members that came and went; whether it was new at all."""

    manifest: Manifest
    came: tuple[str, ...]
    went: tuple[str, ...]
    new: bool


class Enrolment:
    """A site's membership, in its home. The site's identity is its home's signing key."""

    def __init__(self, home: SiteHome) -> None:
        self.home, self.folder = home, home.root / "federation"

    @property
    def node_key(self) -> Path:
        """Where the key lies that the link knows this site by."""
        return self.folder / "node.key"

    @property
    def roots(self) -> Path:
        """PEM: what the link's server is held to."""
        return self.folder / "roots.pem"

    def request(self, name: str, now: datetime | None = None) -> SiteRequest:
        """Make a node key and ask for it, under `name` and with the policy's declared number of patients.

        Raises:
            ConfigError: no name of a site. DataError: a request under another name was made here before.
        """
        check_name(name)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with locked(self.folder):
            former = self._requested()
            if former is not None and former.name != name:
                raise DataError(
                    "the name that this site asked for before", "another one", f"name it {former.name}"
                )
            fresh = self.folder / "node-next.key"
            fresh.unlink(missing_ok=True)
            node = NodeKey.create(fresh)
            sync_folder(self.folder)
            weight = SitePolicy.load(self.home.policy).declared_patients
            data = SiteRequest.signed(name, weight, self.home.signing_key, node, now or utc_now())
            write_durably(self.folder / "request.json", data, _PUBLIC)
        return SiteRequest.read(data)

    def pinned(self, now: datetime | None = None) -> SignedManifest | None:
        """The federation as it was accepted; None before. Raises DataError where it cannot be read."""
        file = self.folder / "pinned.bundle"
        return SignedManifest.read(file.read_bytes(), now or utc_now()) if file.exists() else None

    def accept(self, data: bytes, code: str | None = None, now: datetime | None = None) -> Accepted:
        """Pin a federation, or a later state of it.

        Args:
            data: the bundle. code: of its members, as compared with the other sites' operators; needed for the first
                bundle and for every one with other members.

        Raises:
            DataError: the bundle is not sound, of another federation, older than the pinned one, of an authority that
            the pinned one does not vouch for, or without this site's own keys. PolicyRefused: no code, or another.
        """
        at = now or utc_now()
        signed = SignedManifest.read(data, at)
        with locked(self._existing()):
            pinned = self.pinned(at)
            if pinned is not None:
                self._refuse_unless_later(pinned, signed)
            own = self._own_key(signed.manifest)
            before = {} if pinned is None else _roster_of(pinned.manifest)
            after = _roster_of(signed.manifest)
            compared = code is not None and same_code(code, signed.manifest.roster_code)
            if (code is not None and not compared) or (before != after and code is None):
                raise PolicyRefused(
                    "the code of this federation's members, compared with the other sites' operators",
                    "none" if code is None else "another",
                    "`fedimg provision show BUNDLE` prints it: ask two of them for theirs, then give it with --code",
                )
            write_durably(self.roots, signed.manifest.authority + signed.manifest.former, _PUBLIC)
            members = signed.manifest.members
            Roster(
                {name: member.identity for name, member in members.items()},
                {name: float(member.weight) for name, member in members.items()},
            ).save(self.home.roster)
            if own != self.node_key:
                own.replace(self.node_key)
            write_durably(self.folder / "pinned.bundle", data, _PUBLIC)  # last: what it says is there
        changed = pinned is None or signed.manifest.number > pinned.manifest.number
        came, went = sorted(set(after) - set(before)), sorted(set(before) - set(after))
        return Accepted(signed.manifest, tuple(came), tuple(went), changed)

    def _refuse_unless_later(self, pinned: SignedManifest, signed: SignedManifest) -> None:
        old, new = pinned.manifest, signed.manifest
        remedy = "ask the coordinator for the latest bundle; for another federation make another home"
        if new.id != old.id:
            raise DataError("a bundle of the federation that this site belongs to", "another one's", remedy)
        if new.number < old.number or (new.number == old.number and new != old):
            raise DataError(
                f"a bundle of number {old.number} or above", f"another of number {new.number}", remedy
            )
        if not signed.signed_by(old.authority):
            raise DataError(
                "an authority that the pinned one vouches for",
                "another one",
                "ask the coordinator for the bundle of its rotation, before it was finished",
            )

    def _own_key(self, manifest: Manifest) -> Path:
        """The file of the node key that the bundle has for this site."""
        asked = self._requested()
        member = None if asked is None else manifest.members.get(asked.name)
        if asked is None or member is None:
            raise DataError(
                "a bundle in which this site is a member",
                "one without it",
                "hand request.json to the coordinator, and ask for a bundle after it was signed",
            )
        if member.identity != self.home.signing_key.public_bytes or member.weight != asked.weight:
            raise DataError(
                "this site's identity and size",
                "others under its name",
                "call the coordinator: this is not a slip",
            )
        certified = public_pem_of(member.certificate)
        for file in (self.folder / "node-next.key", self.node_key):
            if file.exists() and NodeKey.load(file).public_pem == certified:
                return file
        raise DataError(
            "a certificate of this site's node key", "one of another key", "hand over the latest request.json"
        )

    def _requested(self) -> SiteRequest | None:
        file = self.folder / "request.json"
        return SiteRequest.read(file.read_bytes()) if file.exists() else None

    def _existing(self) -> Path:
        if not self.folder.is_dir():
            raise DataError(
                "a site that has asked", "one that has not", "fedimg provision csr HOME --name NAME"
            )
        return self.folder


def _roster_of(manifest: Manifest) -> dict[str, tuple[bytes, int]]:
    return {name: (member.identity, member.weight) for name, member in manifest.members.items()}
