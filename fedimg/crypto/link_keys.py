"""The keys behind the link's certificates: a site's node key, and the coordinator's for TLS."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NoReturn, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from fedimg.crypto.certificates import named, names_of, on_curve, public_pem
from fedimg.crypto.keys import read_private, write_secret
from fedimg.errors import DataError


class _EcKey:
    """A private key on a NIST curve that no text or pickle of the object shows."""

    __slots__ = ("_key",)
    _curve: ClassVar[ec.EllipticCurve]
    _form: ClassVar[serialization.PrivateFormat]

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")

    @classmethod
    def create(cls, path: Path) -> Self:
        """A fresh key, written once (0600). Raises DataError if `path` exists."""
        key = ec.generate_private_key(cls._curve)
        write_secret(path, private_bytes(key, cls._form, None))
        return cls(key)

    @property
    def public_pem(self) -> str:
        """SubjectPublicKeyInfo."""
        return public_pem(self._key.public_key())


class NodeKey(_EcKey):
    """A site's key on P-384, by which the link knows it; in the OpenSSH format that Flower reads."""

    __slots__ = ()
    _curve, _form = ec.SECP384R1(), serialization.PrivateFormat.OpenSSH

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises DataError where group or others may read the file, or it is no such key."""
        remedy = "make a new one with `fedimg provision csr HOME --name NAME`"
        data = read_private(path, remedy)
        try:
            key = serialization.load_ssh_private_key(data, None)
        except (ValueError, UnsupportedAlgorithm):
            raise DataError("a node key on P-384", "another file", remedy) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not on_curve(key, ec.SECP384R1):
            raise DataError("a node key on P-384", "another key", remedy)
        return cls(key)

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """For the one library that signs the link's requests with it."""
        return self._key

    def request(self, name: str, identity: bytes) -> str:
        """A signing request, PEM, for this key under `name`, beside the identity's public key."""
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(named(name))
            .add_extension(names_of(name, identity), critical=False)
        )
        return builder.sign(self._key, SHA384()).public_bytes(serialization.Encoding.PEM).decode()


class ServerKey(_EcKey):
    """The coordinator's TLS key on P-256, as PKCS #8."""

    __slots__ = ()
    _curve, _form = ec.SECP256R1(), serialization.PrivateFormat.PKCS8


def private_bytes(
    key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat, passphrase: bytes | None
) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Raises DataError where it is none on an elliptic curve."""
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise DataError("a public key on an elliptic curve", "another", "make the request again")
    return key
