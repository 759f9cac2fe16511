"""The federation's authority and what it certifies: X.509 (RFC 5280), requests as PKCS #10 (RFC 2986).

An authority is one self-signed certificate on P-384 that signs leaves and nothing below it. There are two kinds of
leaf: the coordinator's, for TLS servers, on hosts; and a site's, for clients only, so that no site can pass itself off
as a server. A site's certificate is for its node key, which it proves to hold by signing the request; beside its name
it carries the Ed25519 identity that the site signs with elsewhere, which the signed request carries too, so that
neither key can be put beside another one's.

Chains are checked by the library's verifier for the web's certificates, which is the stricter of what is at hand.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedimg.errors import ConfigError, DataError

CLOCKS_APART = timedelta(minutes=5)
"""What a site's clock may be behind the coordinator's, or ahead of it."""
_MOST_CHARACTERS = 1 << 16
_IDENTITY = "urn:fedimg:identity:"
_SITE = "urn:fedimg:site:"
_DNS = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


# What the library's parser and verifier raise for foreign bytes.
_FOREIGN = (
    ValueError,
    TypeError,
    KeyError,
    InvalidSignature,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,  # where warnings are errors
    verification.VerificationError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """What a site's certificate says, once it is believed.

    Attributes:
        name: the site's. identity: its Ed25519 public key, 32 bytes. public_pem: of its node key.
        serial: hex. not_before, not_after: UTC.
    """

    name: str
    identity: bytes
    public_pem: str
    serial: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What a signing request asks for; whoever made it holds the node key."""

    name: str
    identity: bytes
    public_pem: str


def read_request(pem: str) -> NodeRequest:
    """What a signing request asks for. Raises DataError unless its own key signed it and it is of our form."""
    remedy = "make it again with `fedimg provision csr`"
    try:
        if len(pem) > _MOST_CHARACTERS:
            raise ValueError
        request = x509.load_pem_x509_csr(pem.encode())
        whole = request.public_bytes(serialization.Encoding.PEM).decode() == pem  # and nothing behind it
        sound = whole and request.is_signature_valid and on_curve(request.public_key(), ec.SECP384R1)
        names, subject = _site_names(request.extensions), _common_name(request.subject)
        if not sound or names is None or subject != names[0]:
            raise ValueError
        return NodeRequest(*names, public_pem(request.public_key()))
    except _FOREIGN:
        raise DataError("a signing request of a node key on P-384", "another", remedy) from None


def read_node_certificate(pem: str, authority: str, now: datetime) -> NodeCertificate:
    """What a site's certificate says. Raises DataError unless the authority signed it, for a client, and it is valid."""
    certificate, root = parsed(pem, "site"), parsed(authority, "authority")
    try:
        policy = verification.PolicyBuilder().store(verification.Store([root])).time(now.replace(tzinfo=None))
        policy.build_client_verifier().verify(certificate, [])
        certificate.verify_directly_issued_by(root)  # the verifier takes any certificate for a root
        usage = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names, key = _site_names(certificate.extensions), certificate.public_key()
        whose = _common_name(certificate.subject)
        if names is None or whose != names[0] or usage != [ExtendedKeyUsageOID.CLIENT_AUTH]:
            raise ValueError
        if not on_curve(key, ec.SECP384R1):
            raise ValueError
        return NodeCertificate(
            *names,
            public_pem(key),
            f"{certificate.serial_number:x}",
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )
    except _FOREIGN:
        raise DataError(
            "a site's certificate that the federation's authority signed and that is valid now",
            _why(certificate, now),
            "ask the coordinator for a bundle with a valid one; `fedimg provision renew` makes it",
        ) from None


def issued_by(pem: str, authority: str) -> bool:
    """Whether the authority signed this certificate, valid or not."""
    try:
        parsed(pem, "federation").verify_directly_issued_by(parsed(authority, "authority"))
    except _FOREIGN:
        return False
    return True


def expiry(pem: str) -> datetime:
    """When a certificate ends, UTC. Raises DataError for bytes that are none."""
    return parsed(pem, "federation").not_valid_after_utc


def public_pem_of(pem: str) -> str:
    """The public key of a certificate, PEM."""
    return public_pem(parsed(pem, "federation").public_key())


def fingerprint(pem: str) -> bytes:
    """SHA-256 of a certificate's public key (SubjectPublicKeyInfo): 32 bytes, the same in all its renewals."""
    return hashlib.sha256(spki(parsed(pem, "federation").public_key())).digest()


def verify_authority(pem: str, now: datetime | None) -> None:
    """Raises DataError unless `pem` is an authority that signed itself and, where there is a `now`, is valid."""
    certificate = parsed(pem, "authority")
    try:
        certificate.verify_directly_issued_by(certificate)
        rules = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not rules.ca or not on_curve(certificate.public_key(), ec.SECP384R1):
            raise ValueError
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _FOREIGN:
        raise DataError(
            "an authority of a federation", "another certificate", "ask the coordinator for a sound bundle"
        ) from None
    if now is not None and not begin <= now <= end:
        raise DataError(
            "a federation's authority that is valid",
            _why(certificate, now),
            "set this machine's clock, or have the coordinator rotate its authority",
        )


def signed_by_authority(pem: str, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` is the authority's. False for anything malformed."""
    key = parsed(pem, "authority").public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(SHA384()))
    except (InvalidSignature, ValueError):
        return False
    return True


def host_name(host: str) -> str:
    """A host as certificates name it: an address, or a DNS name in small letters. Raises ConfigError for others."""
    name = host.strip("[]").lower()
    try:
        if "%" in name:  # a zone may be any text
            raise ValueError
        return str(ipaddress.ip_address(name))
    except ValueError:
        if not _DNS.fullmatch(name):
            raise ConfigError("a host name or an address", "another", "give it as example.org") from None
        return name


def utc_now() -> datetime:
    """Now, in whole seconds: certificates know no others."""
    return datetime.now(UTC).replace(microsecond=0)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def names_of(name: str, identity: bytes) -> x509.SubjectAlternativeName:
    uris = (f"{_SITE}{name}", f"{_IDENTITY}{identity.hex()}")
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])


def _site_names(extensions: x509.Extensions) -> tuple[str, bytes] | None:
    """(name, identity), where exactly these two stand among the alternative names."""
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(names) != 2 or len(uris) != 2 or not (uris[0].startswith(_SITE) and uris[1].startswith(_IDENTITY)):
        return None
    name, identity = uris[0].removeprefix(_SITE), uris[1].removeprefix(_IDENTITY)
    return (name, bytes.fromhex(identity)) if re.fullmatch("[0-9a-f]{64}", identity) else None


def parsed(pem: str, whose: str) -> x509.Certificate:
    """Raises DataError unless `pem` is one certificate, as this module writes it, and nothing beside it."""
    try:
        if len(pem) > _MOST_CHARACTERS:
            raise ValueError
        found = x509.load_pem_x509_certificate(pem.encode())
        if pem_of(found) != pem or found.serial_number < 1:  # of the latter the library only warns
            raise ValueError
        _ = found.not_valid_before_utc, found.not_valid_after_utc
    except _FOREIGN:
        raise DataError(f"the certificate of a {whose}", "bytes that are none", "ask for it again") from None
    return found


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _why(certificate: x509.Certificate, now: datetime) -> str:
    if now > certificate.not_valid_after_utc:
        return f"one that ended on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"one that begins on {certificate.not_valid_before_utc:%Y-%m-%d}; is this clock right?"
    return "one that it did not sign, or of another kind"


def on_curve(key: object, curve: type[ec.EllipticCurve]) -> bool:
    """Whether it is a private or public key on that curve."""
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return False
    return isinstance(key.curve, curve)


def spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: object) -> str:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise DataError("an elliptic-curve key", "another", "make the request again")
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, info).decode()
