"""Certificates: held against OpenSSL and against what Flower reads, and refused where they are of another kind."""

import base64
import pickle
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto import certificates
from fedimg.crypto.authority import Authority
from fedimg.crypto.link_keys import NodeKey, ServerKey
from fedimg.errors import ConfigError, DataError

NOW = datetime.now(UTC).replace(microsecond=0)
IDENTITY = bytes(range(32))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An authority, a node key and a TLS key, with the files that they lie in."""
    folder = tmp_path_factory.mktemp("keys")
    return (
        Authority.create(folder / "authority.key", None, NOW),
        NodeKey.create(folder / "node.key"),
        ServerKey.create(folder / "tls.key"),
        folder,
    )


@pytest.fixture(scope="module")
def node_pem(made):
    authority, node, _tls, _folder = made
    return authority.certify_node(node.request("north", IDENTITY), NOW)


def test_a_node_certificate_says_what_was_asked_for(made, node_pem):
    authority, node, _tls, _folder = made
    found = certificates.read_node_certificate(node_pem, authority.certificate, NOW)
    assert (found.name, found.identity, found.public_pem) == ("north", IDENTITY, node.public_pem)
    assert found.not_after - NOW == timedelta(days=730)
    assert certificates.public_pem_of(node_pem) == node.public_pem
    assert certificates.issued_by(node_pem, authority.certificate)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
@pytest.mark.parametrize(("kind", "purpose"), [("node", "sslclient"), ("tls", "sslserver")])
def test_openssl_takes_each_certificate_for_its_own_purpose_only(made, node_pem, tmp_path, kind, purpose):
    authority, _node, tls, _folder = made
    pem = {"node": node_pem, "tls": authority.certify_server(tls, ["fl.example.org"], NOW)}[kind]
    (tmp_path / "root.pem").write_text(authority.certificate)
    (tmp_path / "leaf.pem").write_text(pem)

    def verified(wanted, *more):
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            "root.pem",
            "-purpose",
            wanted,
            *more,
            "leaf.pem",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert verified(purpose)
    assert not verified({"sslclient": "sslserver", "sslserver": "sslclient"}[purpose])
    if kind == "tls":
        assert verified(purpose, "-verify_hostname", "fl.example.org")
        assert verified(purpose, "-verify_ip", "127.0.0.1")
        assert not verified(purpose, "-verify_hostname", "other.example.org")


def test_flower_reads_the_node_key(made):
    from argparse import Namespace

    from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

    _authority, node, _tls, folder = made
    options = Namespace(auth_supernode_private_key=folder / "node.key", auth_supernode_public_key=None)
    private, public = _try_setup_client_authentication(options)
    assert private.curve.name == "secp384r1"
    assert certificates.public_pem(public) == node.public_pem


def test_keys_are_for_their_owner_alone_and_shown_by_nothing(made):
    authority, node, tls, folder = made
    for name in ("authority", "node", "tls"):
        assert (folder / f"{name}.key").stat().st_mode & 0o777 == 0o600
    for secret in (authority, node, tls):
        assert repr(secret) == f"<{type(secret).__name__}>"
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)
    assert NodeKey.load(folder / "node.key").public_pem == node.public_pem
    with pytest.raises(DataError, match="never overwritten"):
        NodeKey.create(folder / "node.key")
    exposed = folder / "exposed.key"
    shutil.copy(folder / "node.key", exposed)
    exposed.chmod(0o640)
    with pytest.raises(DataError, match="mode 0600"):
        NodeKey.load(exposed)


@pytest.mark.parametrize("content", [b"", b"none", b"\0" * 70_000])
def test_another_file_is_no_node_key(tmp_path, content):
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(DataError):
        NodeKey.load(tmp_path / "key")


def test_an_authority_opens_with_its_passphrase_only(tmp_path):
    made = Authority.create(tmp_path / "key", b"correct horse", NOW)
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    assert (
        Authority.load(tmp_path / "key", made.certificate, b"correct horse").certificate == made.certificate
    )
    for wrong in (None, b"other"):
        with pytest.raises(DataError, match="opens"):
            Authority.load(tmp_path / "key", made.certificate, wrong)
    other = Authority.create(tmp_path / "other", None, NOW)
    with pytest.raises(DataError, match="the key of this authority"):
        Authority.load(tmp_path / "other", made.certificate, None)
    assert other.certificate != made.certificate


def refused(pem, authority, now=NOW):
    with pytest.raises(DataError) as caught:
        certificates.read_node_certificate(pem, authority, now)
    return str(caught.value)


def test_certificates_of_another_kind_are_no_sites(made, node_pem, tmp_path):
    authority, _node, tls, _folder = made
    other = Authority.create(tmp_path / "key", None, NOW)
    assert "did not sign" in refused(node_pem, other.certificate)
    assert not certificates.issued_by(node_pem, other.certificate)
    server = authority.certify_server(tls, ["fl.example.org"], NOW)
    refused(server, authority.certificate)
    refused(authority.certificate, authority.certificate)
    refused(node_pem, node_pem)
    refused("none", authority.certificate)
    assert "ended on" in refused(node_pem, authority.certificate, NOW + timedelta(days=731))
    assert "clock" in refused(node_pem, authority.certificate, NOW - timedelta(hours=1))


def test_an_authority_is_one_that_signed_itself_and_is_valid(made, node_pem):
    authority, *_ = made
    certificates.verify_authority(authority.certificate, NOW)
    for pem, now in (
        (node_pem, NOW),
        ("none", NOW),
        (authority.certificate, NOW + timedelta(days=3651)),
        (authority.certificate, NOW - timedelta(days=1)),
    ):
        with pytest.raises(DataError):
            certificates.verify_authority(pem, now)


def test_nothing_outlives_its_authority(made):
    authority, node, *_ = made
    pem = authority.certify_node(node.request("north", IDENTITY), NOW + timedelta(days=3600))
    assert certificates.expiry(pem) <= certificates.expiry(authority.certificate)
    with pytest.raises(DataError, match="rotate"):
        authority.certify_node(node.request("north", IDENTITY), NOW + timedelta(days=3650))


def test_a_signature_is_of_one_authority_over_one_text(made, tmp_path):
    authority, *_ = made
    signature = authority.sign(b"text")
    assert certificates.signed_by_authority(authority.certificate, signature, b"text")
    assert not certificates.signed_by_authority(authority.certificate, signature, b"texts")
    assert not certificates.signed_by_authority(authority.certificate, b"", b"text")
    other = Authority.create(tmp_path / "key", None, NOW)
    assert not certificates.signed_by_authority(other.certificate, signature, b"text")


def test_a_request_is_signed_by_its_own_key(made):
    _authority, node, *_ = made
    pem = node.request("north", IDENTITY)
    found = certificates.read_request(pem)
    assert (found.name, found.identity, found.public_pem) == ("north", IDENTITY, node.public_pem)
    body = pem.splitlines()
    # another letter near the end is another signature
    place = len(body[-2]) // 2
    body[-2] = body[-2][:place] + ("A" if body[-2][place] != "A" else "B") + body[-2][place + 1 :]
    for changed in ("\n".join(body) + "\n", "", pem.replace("REQUEST", "THING")):
        with pytest.raises(DataError):
            certificates.read_request(changed)


@pytest.mark.parametrize("host", ["fl.example.org", "FL.Example.org", "10.0.0.1", "::1", "[::1]", "a" * 63])
def test_a_host_is_a_name_or_an_address(host):
    assert certificates.host_name(host) == host.strip("[]").lower()


@pytest.mark.parametrize(
    "host", ["", "a b", "*.example.org", "exa_mple", "a" * 64, "-a", "a..b", "ünï.org", "1.2.3.4/8", "::1%x"]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ConfigError):
        certificates.host_name(host)


def altered(pem, old, new, kind):
    """The same PEM with bytes of its DER replaced, its signature no longer fitting."""
    der = base64.b64decode("".join(pem.splitlines()[1:-1]))
    assert old in der
    body = base64.b64encode(der.replace(old, new, 1)).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return f"-----BEGIN {kind}-----\n" + "\n".join(lines) + f"\n-----END {kind}-----\n"


VERSION_3, VERSION_8 = bytes.fromhex("a003020102"), bytes.fromhex("a003020107")


def test_what_the_parser_trips_over_is_refused_like_anything_else(made, node_pem):
    authority, node, *_ = made
    for pem in (node_pem, authority.certificate):
        strange = altered(pem, VERSION_3, VERSION_8, "CERTIFICATE")
        refused(strange, authority.certificate)
        refused(node_pem, strange)
        with pytest.raises(DataError):
            certificates.verify_authority(strange, NOW)
    request = node.request("north", IDENTITY)
    names = bytes.fromhex("0603551d11")  # the object identifier of alternative names
    for old, new in (
        (names, bytes.fromhex("0603551d0e")),
        (b"urn:", b"\xff\xfe\xfd\xfc"),
        (b"north", b"n\x00\xffrt"),
    ):
        with pytest.raises(DataError):
            certificates.read_request(altered(request, old, new, "CERTIFICATE REQUEST"))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_no_byte_of_a_certificate_or_request_makes_another_error(made, node_pem, place, value):
    authority, *_ = made
    der = bytearray(base64.b64decode("".join(node_pem.splitlines()[1:-1])))
    der[place % len(der)] = value
    body = base64.b64encode(bytes(der)).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    for kind, read in (
        ("CERTIFICATE", lambda pem: certificates.read_node_certificate(pem, authority.certificate, NOW)),
        ("CERTIFICATE REQUEST", certificates.read_request),
    ):
        pem = f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"
        with suppress(DataError):
            assert read(pem).name == "north"


@pytest.mark.parametrize("first", [0x80, 0xFF, 0x00])
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_serial_below_one_is_no_certificate(made, node_pem, first):
    """The library reads it with a warning; a certificate whose serial is negative cannot be told from others."""
    authority, *_ = made
    der = bytearray(base64.b64decode("".join(node_pem.splitlines()[1:-1])))
    number = x509.load_pem_x509_certificate(node_pem.encode()).serial_number
    content = number.to_bytes((number.bit_length() + 8) // 8, "big")
    at = bytes(der).index(content)
    der[at : at + len(content)] = bytes([first]) + (content[1:] if first else bytes(len(content) - 1))
    body = base64.b64encode(bytes(der)).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    assert "bytes that are none" in refused(
        f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n", authority.certificate
    )


@pytest.mark.parametrize("around", ["{0}{0}", "text\n{0}", "{0}\n", " {0}", "{0}text"])
def test_a_certificate_stands_alone(made, node_pem, around):
    authority, *_ = made
    refused(around.format(node_pem), authority.certificate)
    refused(node_pem, around.format(authority.certificate))
    with pytest.raises(DataError):
        certificates.expiry(around.format(node_pem))
