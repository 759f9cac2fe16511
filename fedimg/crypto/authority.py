"""The federation's certificate authority, which only the coordinator has."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedimg.crypto.certificates import (
    CLOCKS_APART,
    host_name,
    named,
    names_of,
    parsed,
    pem_of,
    read_request,
    spki,
)
from fedimg.crypto.keys import read_private, write_secret
from fedimg.crypto.link_keys import ServerKey, private_bytes, public_key
from fedimg.errors import DataError

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397
NODE_DAYS: Final = 730
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Authority:
    """The federation's certificate authority, with its private key."""

    __slots__ = ("_certificate", "_key")

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate

    def __repr__(self) -> str:
        return "<Authority>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an authority is not pickled")

    @classmethod
    def create(cls, key_path: Path, passphrase: bytes | None, now: datetime) -> Self:
        """A fresh authority whose key is written once (0600), encrypted where there is a passphrase."""
        key = ec.generate_private_key(ec.SECP384R1())
        public, subject = key.public_key(), named("fedimg authority")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(subject, subject, public, now, now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        certificate = builder.sign(key, SHA384())
        write_secret(key_path, private_bytes(key, serialization.PrivateFormat.PKCS8, passphrase))
        return cls(key, certificate)

    @classmethod
    def load(cls, key_path: Path, certificate: str, passphrase: bytes | None) -> Self:
        """Raises DataError where the key can be read by others, does not open, or is not the certificate's."""
        remedy = "restore the authority from its backup; without it make a new federation"
        data = read_private(key_path, remedy)
        try:
            key = serialization.load_pem_private_key(data, passphrase)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            opened = "with --passphrase-file, if it was made with one, and without if not"
            raise DataError("an authority's key that opens", "one that does not", opened) from None
        own = parsed(certificate, "authority")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or spki(key.public_key()) != spki(
            own.public_key()
        ):
            raise DataError("the key of this authority", "another one", remedy)
        return cls(key, own)

    @property
    def certificate(self) -> str:
        """PEM."""
        return pem_of(self._certificate)

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-384."""
        return self._key.sign(data, ec.ECDSA(SHA384()))

    def certify_node(self, request: str, now: datetime, days: int = NODE_DAYS) -> str:
        """A site's certificate, PEM, for a signing request. Raises DataError for one that is not sound."""
        asked = read_request(request)
        return self._leaf(
            public_key(asked.public_pem),
            named(asked.name),
            names_of(asked.name, asked.identity),
            ExtendedKeyUsageOID.CLIENT_AUTH,
            now,
            days,
        )

    def certify_server(self, key: ServerKey, hosts: Sequence[str], now: datetime) -> str:
        """The coordinator's TLS certificate, PEM, for `hosts` and the loopback."""
        names = tuple(dict.fromkeys((*map(host_name, hosts), *_LOOPBACK)))
        public = public_key(key.public_pem)
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._leaf(public, named("fedimg server"), alternatives, usage, now, SERVER_DAYS)

    def _leaf(
        self,
        public: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        now: datetime,
        days: int,
    ) -> str:
        issuer = self._certificate
        end = min(now + timedelta(days=days), issuer.not_valid_after_utc)
        if end <= now:
            raise DataError(
                "an authority that is valid", "one that has expired", "fedimg provision rotate FOLDER"
            )
        builder = (
            _builder(subject, issuer.subject, public, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        return pem_of(builder.sign(self._key, SHA384()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(end)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
