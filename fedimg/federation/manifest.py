"""The federation's members, signed by its authority: what every site pins before it trains with others.

The authority says who may connect. It is not believed about who the *others* are: a coordinator that made up members
would sit in every secure sum as many of its sites. So a site takes a first list of members, and every later one with
other members, only with its code (`roster_code`), and with the names of the members that its operator has heard say it.
Who says it has its own identity in that list. Renewed certificates change no code. Numbers only go up, nobody who was
revoked comes back, and a new authority is vouched for by the old.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from fedimg import canonical
from fedimg.crypto.authority import Authority
from fedimg.crypto.certificates import (
    CLOCKS_APART,
    NodeCertificate,
    fingerprint,
    host_name,
    read_node_certificate,
    signed_by_authority,
    verify_authority,
)
from fedimg.crypto.keys import framed, is_identity
from fedimg.errors import ConfigError, DataError
from fedimg.federation.request import MOST_PATIENTS, TIME, check_name
from fedimg.federation.spoken import spoken_code

FORMAT, VERSION = "fedimg federation", 1
_DOMAIN = FORMAT.encode()
_REMEDY = "ask the coordinator for a bundle as `fedimg provision bundle` writes it"
_FIELDS = {
    "format",
    "version",
    "id",
    "name",
    "number",
    "issued",
    "address",
    "authority",
    "former",
    "members",
    "revoked",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A site: `identity` its Ed25519 public key, `weight` its declared patients, `certificate` of its node key (PEM)."""

    identity: bytes
    weight: int
    certificate: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A federation at one moment.

    Attributes:
        id: random, for ever. name: for people. number: goes up with every change. issued: UTC, whole seconds.
        address: host:port that sites dial. authority: its certificate, PEM. former: while it is taken over from, the
            one before; else "".
        members: by name. revoked: names and identities (hex) of those that may not come back.
    """

    id: str
    name: str
    number: int
    issued: datetime
    address: str
    authority: str
    former: str
    members: Mapping[str, Member]
    revoked: Mapping[str, str] = field(default_factory=dict)

    @property
    def roster_code(self) -> str:
        """The same at every site that has pinned the same authority and members; compared by telephone."""
        return spoken_code("fedimg roster", *self._in_code())

    def has_code_of(self, other: Manifest) -> bool:
        """Whether both have one code, without the work of making it."""
        return self._in_code() == other._in_code()

    def _in_code(self) -> list[bytes]:
        parts = [self.id.encode(), fingerprint(self.authority)]
        for name, member in sorted(self.members.items()):
            parts += [name.encode(), member.identity, b"%d" % member.weight]
        return parts

    def certificates(self) -> dict[str, NodeCertificate]:
        """Each member's certificate, read as of when this was issued."""
        return {
            name: read_node_certificate(member.certificate, self.authority, self.issued)
            for name, member in self.members.items()
        }

    def body(self) -> dict[str, Any]:
        members = {
            name: {
                "identity": member.identity.hex(),
                "weight": member.weight,
                "certificate": member.certificate,
            }
            for name, member in self.members.items()
        }
        return {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "name": self.name,
            "number": self.number,
            "issued": self.issued.strftime(TIME),
            "address": self.address,
            "authority": self.authority,
            "former": self.former,
            "members": members,
            "revoked": dict(self.revoked),
        }


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest that its own authority signed; `signatures` by the authorities' fingerprints, hex."""

    manifest: Manifest
    signatures: Mapping[str, bytes]

    @classmethod
    def made(cls, manifest: Manifest, authorities: Sequence[Authority]) -> Self:
        """Signed by the manifest's authority, and while it takes over by the former one too."""
        data = _signed_bytes(manifest.body())
        return cls(manifest, {fingerprint(one.certificate).hex(): one.sign(data) for one in authorities})

    def to_bytes(self) -> bytes:
        """The bundle that sites are given."""
        signatures = {name: signature.hex() for name, signature in self.signatures.items()}
        return canonical.encode({"manifest": self.manifest.body(), "signatures": signatures}) + b"\n"

    @classmethod
    def read(cls, data: bytes, now: datetime | None) -> Self:
        """Raises DataError unless it is well-formed, signed by its own authority, and its certificates hold.

        Args:
            now: the authority has to be valid then. None for what was read before, and kept.
        """
        document = canonical.decode_canonical(data, "bundle")
        body = document.get("manifest") if isinstance(document, dict) else None
        if not isinstance(body, dict) or set(document) != {"manifest", "signatures"} or set(body) != _FIELDS:
            raise DataError("a federation's bundle", "another document", _REMEDY)
        if body["format"] != FORMAT or canonical.encode(body["version"]) != b"%d" % VERSION:
            raise DataError(f"a bundle of version {VERSION}", "another", "install the coordinator's fedimg")
        try:
            manifest = _manifest(body)
            signatures = {str(k): bytes.fromhex(v) for k, v in document["signatures"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError):
            raise DataError("a federation's bundle", "fields of another form", _REMEDY) from None
        found = cls(manifest, signatures)
        verify_authority(manifest.authority, now)
        if not found.signed_by(manifest.authority):
            raise DataError("a bundle that its authority signed", "another signature", _REMEDY)
        signers = {fingerprint(manifest.authority).hex()}
        if manifest.former:
            verify_authority(manifest.former, None)
            signers.add(fingerprint(manifest.former).hex())
            if not found.signed_by(manifest.former):
                raise DataError("a bundle that the former authority signed too", "another signature", _REMEDY)
        if set(signatures) != signers or canonical.encode(body) != canonical.encode(manifest.body()):
            raise DataError("a bundle as `bundle` writes it", "another form of it", _REMEDY)
        if now is not None and manifest.issued > now + CLOCKS_APART:
            raise DataError("a bundle of the past", "one of the future", "set this machine's clock")
        certificates = manifest.certificates()
        if len({certificate.public_pem for certificate in certificates.values()}) != len(certificates):
            raise DataError("members with a node key each", "one key of two members", _REMEDY)
        for name, certificate in certificates.items():
            member = manifest.members[name]
            if (certificate.name, certificate.identity) != (name, member.identity):
                raise DataError("members with their own certificates", "another's", _REMEDY)
        return found

    def signed_by(self, authority: str) -> bool:
        """Whether this authority (PEM) signed."""
        signature = self.signatures.get(fingerprint(authority).hex())
        return signature is not None and signed_by_authority(
            authority, signature, _signed_bytes(self.manifest.body())
        )


def federation_name(name: str) -> str:
    """Raises ConfigError for a name of more than one line, or than 64 letters."""
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise ConfigError("a federation's name of up to 64 letters", "another", "give another name")
    return name


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of host:port, a v6 address in brackets. Raises ConfigError for another."""
    host, _, port = address.rpartition(":")
    sound = re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536
    if not sound or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ConfigError("an address as host:port", "another", "give it as fl.example.org:443")
    return host_name(host), int(port)


def _signed_bytes(body: Mapping[str, Any]) -> bytes:
    return framed([_DOMAIN, canonical.encode(body)])


def _manifest(body: Mapping[str, Any]) -> Manifest:
    """Raises ValueError, TypeError, KeyError, AttributeError or ConfigError for other forms."""
    members = {}
    for name, entry in body["members"].items():
        if set(entry) != {"identity", "weight", "certificate"}:
            raise ValueError
        members[check_name(name)] = Member(
            _identity(entry["identity"]), _whole(entry["weight"], MOST_PATIENTS), _text(entry["certificate"])
        )
    identities = {member.identity for member in members.values()}
    if len(identities) != len(members) or len({name.casefold() for name in members}) != len(members):
        raise ValueError
    revoked = {check_name(name): _identity(identity).hex() for name, identity in body["revoked"].items()}
    gone = {name.casefold() for name in revoked}
    if identities & {bytes.fromhex(identity) for identity in revoked.values()}:
        raise ValueError
    if gone & {name.casefold() for name in members} or len(gone) != len(revoked):
        raise ValueError
    split_address(body["address"])
    if not re.fullmatch("[0-9a-f]{32}", body["id"]):
        raise ValueError
    issued = datetime.strptime(body["issued"], TIME).replace(tzinfo=UTC)
    return Manifest(
        body["id"],
        federation_name(_text(body["name"])),
        _whole(body["number"], 2**53),
        issued,
        body["address"],
        _text(body["authority"]),
        _text(body["former"]) if body["former"] else "",
        members,
        revoked,
    )


def _identity(value: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", value) or not is_identity(bytes.fromhex(value)):
        raise ValueError
    return bytes.fromhex(value)


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 1 << 16:
        raise ValueError
    return value
