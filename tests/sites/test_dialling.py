"""`fedimg doctor --dial`: the federation's own server on the loopback, and others that answer in its place."""

import json
import socket
import ssl
import threading
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep, time

import pytest
import yaml

from fedimg.checkup import Seen
from fedimg.cli import main
from fedimg.crypto.authority import Authority
from fedimg.crypto.link_keys import NodeKey
from fedimg.flower.fleet_node import FleetNode
from fedimg.flower.fleet_server import FleetServer
from fedimg.flower.node_keys import CLOCK_AHEAD_S, CLOCK_BEHIND_S
from sites import dialling, doctor
from tests.sites.conftest import NOW, accepted

SOUND = {"address": "ok", "tls": "ok", "server": "ok", "clock": "ok"}
SKIPPED = dict.fromkeys(SOUND, "skipped")


@pytest.fixture(autouse=True)
def _direct_and_quick(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "rehearsed", lambda _device, _threads: Seen("passes"))
    monkeypatch.setattr(doctor, "exact", lambda: Seen("passes"))


@pytest.fixture
def north(net, sites):
    accepted(net, sites)
    return sites["north"]


@pytest.fixture
def dial(north, tmp_path, capsys):
    """check → state of what was dialled at host:port; whole rows are in `dial.rows`."""

    def states(address):
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump({"home": str(north.home.root), "device": "cpu", "address": address}))
        capsys.readouterr()
        main(["doctor", str(file), "--json", "--dial"])
        states.rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
        for check in SOUND:
            assert states.rows[check]["remedy"] or states.rows[check]["state"] in ("ok", "skipped")
        return {check: states.rows[check]["state"] for check in SOUND}

    return states


@pytest.fixture
def server(net):
    key, certificate = net.tls
    with FleetServer("0.0.0.0", 0, certificate, key) as found:
        found.admit({})
        yield found


def test_the_federations_own_server(server, dial):
    assert dial(f"localhost:{server.port}") == SOUND
    assert dial.rows["address"]["found"] == "a connection directly"
    assert "404" in dial.rows["server"]["found"]
    assert dial(f"127.0.0.1:{server.port}") == SOUND


def test_without_being_asked_nobody_is_dialled(north, capsys):
    main(["doctor", str(north.home.root), "--json"])
    assert not SOUND.keys() & {row["check"] for row in json.loads(capsys.readouterr().out)}


def test_a_site_without_a_bundle_dials_nobody(north, dial):
    (north.folder / "pinned.bundle").unlink()
    assert dial("localhost:1") == SKIPPED


def test_nothing_listens(dial):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert dial(f"127.0.0.1:{port}") == SKIPPED | {"address": "fail"}
    assert "refused" in dial.rows["address"]["found"]


def test_a_name_that_does_not_resolve(dial):
    assert dial("fl.invalid:443") == SKIPPED | {"address": "fail"}
    assert "does not resolve" in dial.rows["address"]["found"]


def test_a_server_of_another_authority(server, north, dial, tmp_path):
    north.roots.write_text(Authority.create(tmp_path / "other.key", None, NOW).certificate)
    assert dial(f"localhost:{server.port}") == SKIPPED | {"address": "ok", "tls": "fail"}
    assert "does not verify" in dial.rows["tls"]["found"]


@pytest.mark.parametrize("text", ["", "none"])
def test_roots_that_are_none(server, north, dial, text):
    north.roots.write_text(text)
    assert dial(f"localhost:{server.port}") == SKIPPED | {"address": "ok", "tls": "fail"}
    assert "no roots" in dial.rows["tls"]["found"]


def test_a_name_that_is_not_in_the_certificate(server, dial):
    assert dial(f"127.0.0.2:{server.port}") == SKIPPED | {"address": "ok", "tls": "fail"}
    assert "127.0.0.2" in dial.rows["tls"]["found"]


def test_a_certificate_that_has_ended(net, dial):
    """A server's lasts 397 days."""
    net.renew(now=NOW - timedelta(days=398))
    key, certificate = net.tls
    with FleetServer("127.0.0.1", 0, certificate, key) as found:
        assert dial(f"localhost:{found.port}") == SKIPPED | {"address": "ok", "tls": "fail"}
    assert "expired" in dial.rows["tls"]["found"]


# -------------------------------------------------------------------------------------------- others in its place


@pytest.fixture
def imposter(net):
    """Start a server with the federation's own certificate, or without TLS, that answers as it is told."""
    running = []

    def start(status=404, ahead=0.0, date=None, *, tls=True):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response_only(status)
                self.send_header("Date", date or formatdate(time() + ahead, usegmt=True))
                self.end_headers()

            def log_message(self, *_):
                pass

        found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(net.tls[1], net.tls[0])
            found.socket = context.wrap_socket(found.socket, server_side=True)
        threading.Thread(target=found.serve_forever, daemon=True).start()
        running.append(found)
        return f"localhost:{found.server_address[1]}"

    yield start
    for found in running:
        found.shutdown()
        found.server_close()


def test_a_server_without_tls(imposter, dial):
    assert dial(imposter(tls=False)) == SKIPPED | {"address": "ok", "tls": "fail"}
    assert "no TLS there" in dial.rows["tls"]["found"]


@pytest.mark.parametrize(("status", "state"), [(401, "ok"), (404, "ok"), (200, "fail"), (302, "fail")])
def test_a_stranger_has_to_be_refused(imposter, dial, status, state):
    assert dial(imposter(status)) == SOUND | {"server": state}


def test_an_answer_without_a_date(imposter, dial):
    assert dial(imposter(date="yesterday")) == SOUND | {"clock": "skipped"}


@pytest.mark.parametrize(
    ("ahead", "state"),
    [
        (0, "ok"),
        (-CLOCK_AHEAD_S - 5, "fail"),
        (-CLOCK_AHEAD_S, "warn"),
        (dialling.BEHIND_S + 10, "warn"),
        (CLOCK_BEHIND_S + 10, "fail"),
    ],
)
def test_the_servers_clock(imposter, dial, ahead, state):
    """Where its clock is ahead, the site's is behind. The header is of whole seconds: 5 and 10 are beyond doubt."""
    assert dial(imposter(ahead=ahead)) == SOUND | {"clock": state}


def test_flower_allows_little_ahead_and_more_behind():
    assert (CLOCK_AHEAD_S, CLOCK_BEHIND_S) == (5.0, 305.0)


# ---------------------------------------------------------------------------------------------------------- proxies


@pytest.fixture
def proxy():
    """A proxy that knows CONNECT; `asked` are the lines that it was asked with."""
    asked = []

    def serve(client):
        with client, client.makefile("rb") as lines:
            asked.append(lines.readline().decode().strip())
            while lines.readline().strip():
                pass
            host, _, port = asked[-1].split()[1].rpartition(":")
            if not host.startswith("localhost"):
                client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            with socket.create_connection((host, int(port))) as other:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=copied, args=(other, client))
                back.start()
                copied(client, other)
                back.join(10)

    def accept():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        accept.url, accept.asked = f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        yield accept
        listening.shutdown(socket.SHUT_RDWR)


def copied(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_through_a_proxy(server, dial, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert dial(f"localhost:{server.port}") == SOUND
    assert "through the proxy" in dial.rows["address"]["found"]
    assert proxy.asked[0].startswith(f"CONNECT localhost:{server.port}")
    assert dial(f"127.0.0.1:{server.port}") == SKIPPED | {"address": "fail"}
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert dial(f"127.0.0.1:{server.port}") == SOUND


def test_a_proxy_that_cannot_be_used_here(server, dial, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1")
    assert dial(f"localhost:{server.port}") == SKIPPED | {"address": "warn"}
    assert "hunter2" not in json.dumps(dial.rows)


def test_a_site_that_takes_part_is_not_disturbed(net, server, north, dial):
    server.admit({"north": NodeKey.load(north.node_key).public_pem})
    node = FleetNode(f"localhost:{server.port}", north.roots, north.node_key, lambda data: data)
    attending = threading.Thread(target=node.attend, daemon=True)
    attending.start()
    try:
        end = time() + 20
        while not server.online():
            assert time() < end, "waited in vain"
            sleep(0.05)
        before = server.connections()
        assert dial(f"localhost:{server.port}") == SOUND
        assert server.connections() == before
    finally:
        node.stop()
        attending.join(20)
