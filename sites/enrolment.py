"""A site's side of becoming a member: it makes its keys, asks, and pins the federation that it is given.

home/federation/
  node.key       by which the link knows this site (0600)     node-….key      those that it asked for and has not yet
  request.json   what it asked for last                       pinned.bundle   the federation, as it was accepted
  heard.json     members whom the operator has heard say the code: name and identity
  roots.pem      the authority that the link's server is held to, and while it changes the former one too
home/roster.json the members' identities and weights, from the pinned bundle; what secure sums go by

What a kill within `accept` leaves is taken up by accepting the same bundle again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
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
# A number is a change's. One far ahead was chosen to shut out those that follow.
_MOST_AHEAD = 10_000


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
            ConfigError: no name of a site. DataError: this site is a member by another name.
        """
        check_name(name)
        weight = SitePolicy.load(self.home.policy).declared_patients
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with locked(self.folder):
            former = self.requested()
            if former is not None and former.name != name and self.pinned() is not None:
                raise DataError(
                    "the name that this site is a member by", "another one", f"name it {former.name}"
                )
            # earlier ones stay until a bundle says which is in use: a request of before may be under way
            node = NodeKey.create(self.folder / f"node-{secrets.token_hex(8)}.key")
            sync_folder(self.folder)
            data = SiteRequest.signed(name, weight, self.home.signing_key, node, now or utc_now())
            write_durably(self.folder / "request.json", data, _PUBLIC)
        return SiteRequest.read(data)

    def pinned(self) -> SignedManifest | None:
        """The federation as it was accepted; None before. Raises DataError where it cannot be read."""
        file = self.folder / "pinned.bundle"
        return SignedManifest.read(file.read_bytes(), None) if file.exists() else None

    def requested(self) -> SiteRequest | None:
        """What this site asked for last; None before it did."""
        file = self.folder / "request.json"
        return SiteRequest.read(file.read_bytes()) if file.exists() else None

    def unheard(self, manifest: Manifest, heard: Collection[str] = ()) -> tuple[str, ...]:
        """The members whom this site's operator has not heard, neither now nor before, under the identity they have."""
        before = self._heard()
        return tuple(
            name
            for name, member in sorted(manifest.members.items())
            if name not in heard
            and before.get(name) != member.identity.hex()
            and member.identity != self.home.signing_key.public_bytes
        )

    def accept(
        self, data: bytes, code: str | None = None, heard: Collection[str] = (), now: datetime | None = None
    ) -> Accepted:
        """Pin a federation, or a later state of it.

        Args:
            data: the bundle. code: of its members; needed for the first bundle, and for every one with other members
                or another authority. heard: the members who have said this code to this site's operator, each reached
                at a number that did not come from the coordinator. Whoever says it has their own identity in the
                list, so that at most the others can be made up: no more than the policy's `min_colluders`.

        Raises:
            DataError: the bundle is not sound, of another federation, older than the pinned one, of an authority that
            the pinned one does not vouch for, without this site's own keys, or someone who was revoked is back.
            PolicyRefused: no code, or another, or too few members were heard.
        """
        signed = SignedManifest.read(data, now or utc_now())
        with locked(self._existing()):
            pinned = self.pinned()
            if pinned is not None:
                self._refuse_unless_later(pinned, signed)
            own = self._own_key(signed.manifest, pinned)
            before = {} if pinned is None else _roster_of(pinned.manifest)
            after = _roster_of(signed.manifest)
            same = pinned is not None and signed.manifest.has_code_of(pinned.manifest)
            self._refuse_uncompared(signed.manifest, code, heard, same=same)
            write_durably(self.roots, signed.manifest.authority + signed.manifest.former, _PUBLIC)
            members = signed.manifest.members
            Roster.of(members).save(self.home.roster)
            known = self._heard()
            known |= {name: member.identity.hex() for name, member in members.items() if name in heard}
            write_durably(self.folder / "heard.json", json.dumps(known, indent=1) + "\n")
            if own != self.node_key:
                own.replace(self.node_key)
            for other in self.folder.glob("node-*.key"):
                other.unlink()
            write_durably(self.folder / "pinned.bundle", data, _PUBLIC)  # last: what it says is there
        changed = pinned is None or signed.manifest.number > pinned.manifest.number
        came, went = sorted(set(after) - set(before)), sorted(set(before) - set(after))
        return Accepted(signed.manifest, tuple(came), tuple(went), changed)

    def _refuse_uncompared(
        self, manifest: Manifest, code: str | None, heard: Collection[str], *, same: bool
    ) -> None:
        if code is None and same:
            return
        if code is None or not same_code(code, manifest.roster_code):
            raise PolicyRefused(
                "the code of this federation's members, as they say it",
                "none" if code is None else "another",
                "`fedimg provision show BUNDLE` prints it: call the members, and give it with --code",
            )
        strangers = sorted(set(heard) - set(manifest.members))
        if strangers:
            raise PolicyRefused("names of members", ", ".join(strangers), "name members that you have heard")
        most, unheard = SitePolicy.load(self.home.policy).min_colluders, self.unheard(manifest, heard)
        if len(unheard) > most:
            raise PolicyRefused(
                f"at most {most} of the members not heard (min_colluders of this site's policy): they may be made up",
                f"{len(unheard)}: {', '.join(unheard)}",
                "call them at a number that the coordinator did not give; name who said the code with --heard",
            )

    def _refuse_unless_later(self, pinned: SignedManifest, signed: SignedManifest) -> None:
        old, new = pinned.manifest, signed.manifest
        remedy = "ask the coordinator for the latest bundle; for another federation make another home"
        if new.id != old.id:
            raise DataError("a bundle of the federation that this site belongs to", "another one's", remedy)
        if new.number < old.number or (new.number == old.number and new != old):
            raise DataError(
                f"a bundle of number {old.number} or above", f"another of number {new.number}", remedy
            )
        if new.number > old.number + _MOST_AHEAD:
            raise DataError(
                f"a bundle of number {old.number + _MOST_AHEAD} or below",
                f"{new.number}",
                "call the coordinator",
            )
        if not signed.signed_by(old.authority):
            raise DataError(
                "an authority that the pinned one vouches for",
                "another one",
                "ask the coordinator for the bundle of its rotation, before it was finished",
            )
        if new.former not in ("", old.authority, old.former):
            raise DataError("the pinned authority as the former one", "another one", remedy)
        if not old.revoked.items() <= new.revoked.items():
            raise DataError(
                "a bundle in which who was revoked still is",
                "one that has forgotten it",
                "have the coordinator revoke them again: its folder was restored from before that",
            )

    def _own_key(self, manifest: Manifest, pinned: SignedManifest | None) -> Path:
        """The file of the node key that the bundle has for this site."""
        asked = self.requested()
        member = None if asked is None else manifest.members.get(asked.name)
        if asked is None or member is None:
            raise DataError(
                "a bundle in which this site is a member",
                "one without it",
                "hand request.json to the coordinator, and ask for a bundle after it was signed",
            )
        if member.identity != self.home.signing_key.public_bytes:
            raise DataError(
                "this site's identity",
                "another one under its name",
                "call the coordinator: this is not a slip",
            )
        declared = {asked.weight} | (
            {pinned.manifest.members[asked.name].weight} if pinned is not None else set()
        )
        if member.weight not in declared:
            raise DataError(
                f"a size of {' or '.join(map(str, sorted(declared)))}, as this site declared it",
                f"{member.weight}",
                "have the coordinator sign this site's latest request.json",
            )
        certified = public_pem_of(member.certificate)
        for file in (self.node_key, *sorted(self.folder.glob("node-*.key"))):
            if _holds(file, certified):
                return file
        raise DataError(
            "a certificate of this site's node key", "one of another key", "hand over the latest request.json"
        )

    def _heard(self) -> dict[str, str]:
        file = self.folder / "heard.json"
        return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}

    def _existing(self) -> Path:
        if not self.folder.is_dir():
            raise DataError(
                "a site that has asked", "one that has not", "fedimg provision csr HOME --name NAME"
            )
        return self.folder


def _holds(file: Path, certified: str) -> bool:
    """Whether this is the file of that key; one that was cut short is of none."""
    try:
        return file.exists() and NodeKey.load(file).public_pem == certified
    except DataError:
        return False


def _roster_of(manifest: Manifest) -> dict[str, tuple[bytes, int]]:
    return {name: (member.identity, member.weight) for name, member in manifest.members.items()}
