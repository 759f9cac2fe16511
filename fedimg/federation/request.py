"""What a site asks of the coordinator: to be a member, under a name, with keys that it has made itself.

Two keys sign it: the identity signs the whole, and the node key the signing request within (PKCS #10), in which the
identity stands too. So nobody can ask with a key that is another's. No private key is in it, and nothing secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from fedimg import canonical
from fedimg.crypto.certificates import read_request
from fedimg.crypto.keys import SigningKey, is_identity
from fedimg.crypto.link_keys import NodeKey
from fedimg.errors import ConfigError, DataError
from fedimg.federation.spoken import spoken_code

FORMAT, VERSION = "fedimg site request", 1
MOST_PATIENTS = 10**8
TIME = "%Y-%m-%dT%H:%M:%SZ"
_INSTANT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_FIELDS = {"format", "version", "name", "weight", "made", "identity", "csr"}
_REMEDY = "make it again with `fedimg provision csr`, and hand it over unchanged"


def check_name(name: str) -> str:
    """A site's name: a letter or digit, then up to 31 letters, digits, `-` or `_`. Raises ConfigError for others."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "a site's name of up to 32 letters, digits, - and _", "another", "give another name"
        )
    return name


@dataclass(frozen=True, slots=True)
class SiteRequest:
    """A request that verifies.

    Attributes:
        name: the site's. weight: its declared number of patients, public. made: UTC; a later one replaces this one.
        identity: Ed25519 public key, 32 bytes. csr: PEM, for its node key.
    """

    name: str
    weight: int
    made: datetime
    identity: bytes
    csr: str

    @classmethod
    def signed(cls, name: str, weight: int, identity: SigningKey, node: NodeKey, now: datetime) -> bytes:
        """The document, signed by both keys."""
        own = identity.public_bytes
        request = cls(check_name(name), weight, now, own, node.request(name, own))
        body = request._body()
        signature = canonical.sign(body, identity, FORMAT)
        return canonical.encode({"request": body, "signature": signature}) + b"\n"

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Raises DataError unless it is well-formed and both keys signed it."""
        document = canonical.decode_canonical(data, "site request")
        body = document.get("request") if isinstance(document, dict) else None
        if not isinstance(body, dict) or set(document) != {"request", "signature"} or set(body) != _FIELDS:
            raise DataError("a site request", "another document", _REMEDY)
        if body["format"] != FORMAT or canonical.encode(body["version"]) != b"%d" % VERSION:
            raise DataError(f"a site request of version {VERSION}", "another", "install the same fedimg")
        _check(body)
        if not canonical.signed_by(body, body["identity"], str(document["signature"]), FORMAT):
            raise DataError("a site request that its identity signed", "another signature", _REMEDY)
        made = _instant(body["made"])
        request = cls(body["name"], body["weight"], made, bytes.fromhex(body["identity"]), body["csr"])
        asked = read_request(request.csr)
        if (asked.name, asked.identity) != (request.name, request.identity):
            raise DataError("one name and identity in both parts of a request", "two", _REMEDY)
        return request

    @property
    def code(self) -> str:
        """What the site's operator reads out to the coordinator's."""
        return spoken_code(FORMAT, canonical.encode(self._body()))

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "weight": self.weight,
            "made": self.made.strftime(TIME),
            "identity": self.identity.hex(),
            "csr": self.csr,
        }


def _instant(text: str) -> datetime:
    try:
        return datetime.strptime(text, TIME).replace(tzinfo=UTC)
    except ValueError:
        raise DataError("a day that there is", "another", _REMEDY) from None


def _check(body: dict[str, Any]) -> None:
    name, weight, made, identity, csr = (
        body[field] for field in ("name", "weight", "made", "identity", "csr")
    )
    text = all(isinstance(value, str) for value in (name, made, identity, csr))
    sound = text and _NAME.fullmatch(name) and _INSTANT.fullmatch(made)
    if not sound or not re.fullmatch("[0-9a-f]{64}", identity) or not is_identity(bytes.fromhex(identity)):
        raise DataError("a site request with a name, a time and an identity", "others", _REMEDY)
    if type(weight) is not int or not 1 <= weight <= MOST_PATIENTS:
        raise DataError(f"a declared number of patients from 1 to {MOST_PATIENTS}", "another", _REMEDY)
