import datetime as dt
import hashlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedimg.errors import DataError
from fedimg.sources.fetch import fetch

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/to-http":
            self.send_response(302)
            self.send_header("Location", "http://localhost:1/file")
            self.end_headers()
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        self.send_response(200 if self.path != "/gone" else 404)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000] if self.path == "/cut" else BODY)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real https server with a certificate of its own; yields its address and a context that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "cert.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    http = ThreadingHTTPServer(("localhost", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{http.server_port}", ssl.create_default_context(cafile=str(pem))
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", ["/file", "/moved"])
def test_a_file_with_the_right_checksum_arrives_whole(server, tmp_path, path):
    address, context = server
    target = fetch(address + path, tmp_path / "new" / "f.npz", MD5, 1 << 20, context)
    assert target.read_bytes() == BODY
    assert [p.name for p in target.parent.iterdir()] == ["f.npz"]


@pytest.mark.parametrize(
    ("path", "md5", "limit", "message"),
    [
        ("/file", "0" * 32, 1 << 20, f"a file with MD5 {'0' * 32}; found MD5 {MD5}"),
        ("/file", MD5, 1000, "at most 1000 bytes; found more"),
        ("/cut", MD5, 1 << 20, "found"),
        ("/gone", MD5, 1 << 20, "a complete download; found HTTPError"),
        ("/to-http", MD5, 1 << 20, "redirections to https only; found one to another scheme"),
    ],
)
def test_anything_else_leaves_nothing_behind(server, tmp_path, path, md5, limit, message):
    address, context = server
    with pytest.raises(DataError, match=message):
        fetch(address + path, tmp_path / "f.npz", md5, limit, context)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_certificate_is_not_trusted(server, tmp_path):
    with pytest.raises(DataError, match="a complete download; found URLError"):
        fetch(server[0] + "/file", tmp_path / "f.npz", MD5, 1 << 20)


@pytest.mark.parametrize("url", ["http://localhost/f", "file:///etc/passwd", "ftp://localhost/f"])
def test_only_https_is_spoken(tmp_path, url):
    with pytest.raises(DataError, match="an https address; found another scheme"):
        fetch(url, tmp_path / "f.npz", MD5, 1 << 20)


def test_a_good_file_is_not_fetched_again_and_a_bad_one_is(server, tmp_path):
    address, context = server
    target = tmp_path / "f.npz"
    target.write_bytes(BODY)
    assert fetch("https://localhost:1/unreachable", target, MD5, 1 << 20) == target
    target.write_bytes(BODY[:-1])
    assert fetch(address + "/file", target, MD5, 1 << 20, context).read_bytes() == BODY
