"""Papers of a federation, a server on the loopback, and sites' ends of the link in threads."""

import logging
import threading
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from fedimg.crypto.authority import Authority
from fedimg.crypto.link_keys import NodeKey, ServerKey
from fedimg.flower.fleet_node import FleetNode
from fedimg.flower.fleet_server import FleetServer

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("north", "south", "east")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    logger = logging.getLogger("flwr")
    monkeypatch.setattr(logger, "disabled", True)


@pytest.fixture(scope="package")
def papers(tmp_path_factory):
    """An authority, another one, a TLS pair of each, and node keys."""
    folder = tmp_path_factory.mktemp("link")
    for name, host in (("own", "localhost"), ("other", "localhost")):
        authority = Authority.create(folder / f"{name}.key", None, NOW)
        tls = ServerKey.create(folder / f"{name}-tls.key")
        (folder / f"{name}-tls.pem").write_text(authority.certify_server(tls, [host], NOW))
        (folder / f"{name}.pem").write_text(authority.certificate)
    for name in (*NAMES, "stranger"):
        NodeKey.create(folder / f"{name}-node.key")
    return folder


@pytest.fixture
def server(papers):
    members = {name: NodeKey.load(papers / f"{name}-node.key").public_pem for name in NAMES}
    with FleetServer("127.0.0.1", 0, papers / "own-tls.pem", papers / "own-tls.key", 1 << 24) as found:
        found.admit(members)
        yield found


@pytest.fixture
def connect(papers, server):
    """Start a site's end; `heard` is what it told its operator."""
    with ExitStack() as stack:

        def start(name, answer=None, *, roots="own", host="127.0.0.1", port=None):
            heard = []
            node = FleetNode(
                f"{host}:{port or server.port}",
                papers / f"{roots}.pem",
                papers / f"{name}-node.key",
                answer or (lambda data: name.encode() + data),
                heard.append,
            )
            thread = threading.Thread(target=node.attend, daemon=True)
            thread.start()

            def stop():
                node.stop()
                thread.join(timeout=20)
                assert not thread.is_alive()

            stack.callback(stop)
            node.heard, node.leave = heard, stop
            return node

        yield start


@pytest.fixture
def run(server):
    found = server.begin()
    yield found
    found.end()
