"""The link: members and nobody else, bytes out and bytes back, whatever a site or a stranger does."""

import base64
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from flwr.app import Metadata
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.corestate import in_memory_corestate as corestate
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedimg.crypto.authority import Authority
from fedimg.crypto.link_keys import NodeKey, ServerKey
from fedimg.errors import FederationError
from fedimg.flower.fleet_server import FleetServer
from fedimg.flower.gate import ROUTES
from fedimg.flower.node_keys import public_bytes, signing
from fedimg.flower.payload import content

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("north", "south", "east")
DEADLINE_S = 30.0


def public(papers, *names):
    return {name: NodeKey.load(papers / f"{name}-node.key").public_pem for name in names}


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def stored(server):
    state = server.state
    return len(state.message_ins_store) + len(state.message_res_store) + len(state.object_store.store)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_bytes_go_out_and_come_back_and_nothing_is_kept(server, connect, run, size):
    for name in NAMES:
        connect(name)
    until(lambda: server.online() == set(NAMES))
    for number in range(2):
        asked = {name: bytes([number + k]) * size for k, name in enumerate(NAMES)}
        answers = run.exchange(asked, DEADLINE_S)
        assert answers == {name: name.encode() + data for name, data in asked.items()}
    assert stored(server) == 0


def test_a_site_that_declines_or_is_not_there_has_no_answer(server, connect, run):
    connect("north", lambda _data: None)
    connect("south")
    until(lambda: server.online() == {"north", "south"})
    assert run.exchange(dict.fromkeys(NAMES, b"x"), DEADLINE_S) == {
        "north": None,
        "south": b"southx",
        "east": None,
    }


def test_a_coordinator_may_be_silent_for_longer_than_flower_waits(server, connect, run, monkeypatch):
    connect("north")
    until(lambda: server.online() == {"north"})
    assert run.exchange({"north": b"x"}, DEADLINE_S) == {"north": b"northx"}
    later = corestate.now() + timedelta(minutes=10)
    monkeypatch.setattr(corestate, "now", lambda: later)
    assert not server.state.acknowledge_task_heartbeat(run._task)
    monkeypatch.undo()
    assert run.exchange({"north": b"y"}, DEADLINE_S) == {"north": b"northy"}


def test_a_late_answer_is_nobodys(server, connect, run):
    """Neither to what was asked, nor to what is asked next."""
    go, asked = threading.Event(), []

    def slow(data):
        asked.append(data)
        if data == b"first":
            go.wait(20)
        return b"to " + data

    connect("north", slow)
    connect("south")
    until(lambda: server.online() == {"north", "south"})
    begun = time.monotonic()
    assert run.exchange({"north": b"first", "south": b"first"}, 1.0) == {
        "north": None,
        "south": b"southfirst",
    }
    assert time.monotonic() - begun < 10
    go.set()
    assert run.exchange({"north": b"second"}, DEADLINE_S) == {"north": b"to second"}
    assert asked == [b"first", b"second"]
    assert stored(server) == 0


def test_a_site_that_leaves_and_comes_back_is_not_waited_for(server, connect, run):
    began = threading.Event()

    def dying(_data):
        began.set()
        node.stop()  # it goes without an answer that anyone could use
        raise httpx.ConnectError("gone")

    node = connect("north", dying)
    until(lambda: server.online() == {"north"})
    answers = run.exchange({"north": b"x"}, DEADLINE_S)
    assert began.is_set()
    assert answers == {"north": None}


def test_a_stranger_is_not_let_in_and_the_run_goes_on(server, connect, run):
    stranger, north = connect("stranger"), connect("north")
    until(lambda: server.online() == {"north"} and stranger.heard and north.heard)
    assert "refused" in stranger.heard[0]
    assert north.heard == ["connected"]
    assert run.exchange({"north": b"x"}, DEADLINE_S) == {"north": b"northx"}


@pytest.mark.parametrize("roots", ["other"])
def test_a_server_of_another_authority_is_not_spoken_to(server, connect, roots):
    asked = []
    node = connect("north", asked.append, roots=roots)
    until(lambda: node.heard)
    assert "no connection" in node.heard[0]
    assert server.online() == set()


def test_a_server_on_another_host_than_its_certificates_is_not_spoken_to(papers, connect):
    authority = Authority.load(papers / "own.key", (papers / "own.pem").read_text(), None)
    key = ServerKey.create(papers / "elsewhere.key")
    pem = authority.certify_server(key, ["fl.example.org"], NOW)
    (papers / "elsewhere.pem").write_text(pem)
    with FleetServer("127.0.0.2", 0, papers / "elsewhere.pem", papers / "elsewhere.key") as other:
        other.admit(public(papers, "north"))
        node = connect("north", host="127.0.0.2", port=other.port)
        until(lambda: node.heard)
        assert "no connection" in node.heard[0]
        assert other.online() == set()


def test_who_is_a_member_no_longer_is_out_at_once(papers, server, connect, run):
    north, south = connect("north"), connect("south")
    until(lambda: server.online() == {"north", "south"})
    server.admit(public(papers, "south", "east"))
    assert server.online() == {"south"}
    until(lambda: any("refused" in text for text in north.heard))
    assert run.exchange({"south": b"x"}, DEADLINE_S) == {"south": b"southx"}
    assert south.heard == ["connected"]
    server.admit(public(papers, *NAMES))
    until(lambda: server.online() == {"north", "south"})


def test_a_member_that_never_came_can_be_dropped(papers, server):
    server.admit({})
    assert server.online() == set()
    server.admit(public(papers, "north"))


def test_a_new_node_key_takes_the_old_ones_place(papers, server, connect, run):
    NodeKey.create(papers / "renewed-node.key")
    connect("north")
    until(lambda: server.online() == {"north"})
    server.admit({"north": public(papers, "renewed")["renewed"]})
    assert server.online() == set()
    connect("renewed")
    until(lambda: server.online() == {"north"})
    assert run.exchange({"north": b"x"}, DEADLINE_S) == {"north": b"renewedx"}


def test_a_server_that_comes_back_is_found_again(papers, connect):
    first = FleetServer("127.0.0.1", 0, papers / "own-tls.pem", papers / "own-tls.key")
    with first:
        port = first.port
        first.admit(public(papers, "north"))
        node = connect("north", port=port)
        until(lambda: first.online() == {"north"})
    with FleetServer("127.0.0.1", port, papers / "own-tls.pem", papers / "own-tls.key") as second:
        second.admit(public(papers, "north"))
        until(lambda: second.online() == {"north"}, 40)
        run = second.begin()
        assert run.exchange({"north": b"x"}, DEADLINE_S) == {"north": b"northx"}
        run.end()
        node.leave()


# ---------------------------------------------------------------------------------------- what strangers can reach


@pytest.fixture
def web(papers, server):
    context = ssl.create_default_context(cafile=papers / "own.pem")
    with httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=context) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/control/stop-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/runtime/push-messages",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-fab",
        "/v1/fleet/../control/start-run",
        "//v1/fleet/activate-node",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_nothing_but_the_members_routes_is_there(web, member, path):
    protobuf = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    for answer in (web.get(path), web.post(path), web.post(path, headers=protobuf | member)):
        assert answer.status_code == 404
        assert "server" not in answer.headers


@pytest.fixture
def member(papers):
    """What a member's request says of its sender."""
    key = public_bytes(public(papers, "north")["north"])
    return {FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(key).decode()}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_a_request_that_no_member_signed_is_refused(web, member, papers, route):
    stranger = public_bytes(public(papers, "stranger")["stranger"])
    protobuf = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    for headers in (
        {},
        {FLEET_HTTP_PUBLIC_KEY_HEADER: "none"},
        {FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(stranger).decode()},
        member,  # the key is a member's, and nothing is signed with it
        member | {FLEET_HTTP_SIGNATURE_HEADER: "AAAA", TIMESTAMP_HEADER: NOW.isoformat()},
    ):
        assert web.post(route, headers=protobuf | headers).status_code == 401


def test_a_request_that_another_member_signed_is_refused(papers, server, connect, web):
    """South's signature, for north's node."""
    connect("north")
    until(lambda: server.online() == {"north"})
    signer, _key = signing(papers / "south-node.key")
    with FleetHttpClient.from_server_address(
        f"127.0.0.1:{server.port}", False, (papers / "own.pem").read_bytes(), [signer]
    ) as client:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            client.PullMessages(PullMessagesRequest(node=Node(node_id=server._nodes["north"])))
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            client.DeactivateNode(DeactivateNodeRequest(node_id=server._nodes["north"]))
    assert server.online() == {"north"}


def test_an_answer_in_another_members_name_is_refused(papers, server, connect, run):
    """South knows which message north was asked, signs its request, and says that it is north's answer."""
    asked, go = threading.Event(), threading.Event()

    def slow(data):
        asked.set()
        go.wait(20)
        return b"north's " + data

    connect("north", slow)
    until(lambda: server.online() == {"north"})
    answers = {}
    asking = threading.Thread(target=lambda: answers.update(run.exchange({"north": b"x"}, DEADLINE_S)))
    asking.start()
    assert asked.wait(20)
    (message,) = server.state.message_ins_store.values()
    north, south = server._nodes["north"], server._nodes["south"]
    metadata = Metadata(
        run_id=run._run,
        message_id="",
        src_node_id=north,
        dst_node_id=message.metadata.src_node_id,
        reply_to_message_id=message.metadata.message_id,
        group_id="",
        created_at=time.time(),
        ttl=10.0,
        message_type="train",
    )
    forged = make_message(metadata, content(b"forged"))
    metadata.__dict__["_message_id"] = forged.object_id
    signer, key = signing(papers / "south-node.key")
    with FleetHttpClient.from_server_address(
        f"127.0.0.1:{server.port}", False, (papers / "own.pem").read_bytes(), [signer]
    ) as client:
        client.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=10))
        pushed = PushMessagesRequest(
            node=Node(node_id=south),
            messages_list=[message_to_proto(remove_content_from_message(forged))],
            message_object_trees=[get_object_tree(forged)],
        )
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            client.PushMessages(pushed)
    go.set()
    asking.join(30)
    assert answers == {"north": b"north's x"}


@pytest.fixture
def signed(papers, member):
    """The same with north's signature, of now."""
    at = datetime.now(UTC).isoformat()
    signature = sign_message(NodeKey.load(papers / "north-node.key").private_key, at.encode())
    return member | {
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        TIMESTAMP_HEADER: at,
        "content-type": "application/protobuf",
    }


def test_a_body_that_is_too_long_is_not_read(web, signed):
    declared = web.post("/v1/fleet/push-object", headers=signed, content=bytes((1 << 24) + 1))
    assert declared.status_code == 413
    # of unknown length: counted while it comes
    for megabytes, status in ((15, 400), (17, 413)):
        chunks = (bytes(1 << 20) for _ in range(megabytes))
        assert web.post("/v1/fleet/push-object", headers=signed, content=chunks).status_code == status
    # whatever is no part of a message has no need of so much
    for size, status in ((1 << 20, 400), ((1 << 20) + 1, 413)):
        assert web.post("/v1/fleet/push-messages", headers=signed, content=bytes(size)).status_code == status


def test_what_is_not_signed_is_neither_read_nor_counted_as_the_members(web, server, member, signed):
    """The key stands in every bundle: with it alone nobody says that north gets on."""
    old = signed | {TIMESTAMP_HEADER: (NOW - timedelta(days=1)).isoformat()}
    for headers in (member, old):
        assert web.post("/v1/fleet/push-object", headers=headers, content=bytes(1 << 20)).status_code == 401
        assert server.moved("north") == 0.0
    web.post("/v1/fleet/push-object", headers=signed, content=bytes(1000))
    assert server.moved("north") > 0.0


def test_a_server_without_a_sound_pair_does_not_start(tmp_path):
    (tmp_path / "pem").write_text("none")
    with (
        pytest.raises(FederationError, match="TLS"),
        FleetServer("127.0.0.1", 0, tmp_path / "pem", tmp_path / "pem"),
    ):
        pytest.fail("it started")


def test_a_port_that_is_taken_is_told(papers, server):
    pair = papers / "own-tls.pem", papers / "own-tls.key"
    with (
        pytest.raises(FederationError, match="a port to listen on"),
        FleetServer("127.0.0.1", server.port, *pair),
    ):
        pytest.fail("it started")


# --------------------------------------------------------------------------------------------- a process of its own

SITE = """
import sys, time
from pathlib import Path
from fedimg.flower.fleet_node import FleetNode

def answer(data):
    time.sleep(float(sys.argv[4]))
    return b"answer"

FleetNode(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), answer).attend()
"""


@pytest.fixture
def process(papers, server):
    """Start north as a process that takes so many seconds for an answer."""
    started = []

    def start(seconds):
        arguments = [f"127.0.0.1:{server.port}", str(papers / "own.pem"), str(papers / "north-node.key")]
        started.append(subprocess.Popen([sys.executable, "-P", "-c", SITE, *arguments, str(seconds)]))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_a_site_that_is_killed_is_dropped_and_comes_back(server, connect, run, process):
    connect("south")
    site = process(600)
    until(lambda: server.online() == {"north", "south"}, 60)
    answers = {}
    asking = threading.Thread(
        target=lambda: answers.update(run.exchange({"north": b"x", "south": b"x"}, 120))
    )
    asking.start()
    time.sleep(1)
    site.kill()
    asking.join(60)
    assert answers == {"north": None, "south": b"southx"}
    process(0)
    until(lambda: server.online() == {"north", "south"}, 60)
    assert run.exchange({"north": b"x", "south": b"x"}, DEADLINE_S)["north"] == b"answer"
