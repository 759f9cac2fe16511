"""A site's end of Flower's fleet connection: it dials out, and this one process answers every message.

Flower's own SuperNode starts a process for each message; here model, data and caches stay where they are. The wire and
the authentication are Flower's (`FleetHttpClient`, requests signed with the node key), the loop is ours: what was asked
is answered once, and an answer is pushed until the server has it or says that it is too late.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_MIN_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedimg.errors import FederationError
from fedimg.flower.node_keys import signing
from fedimg.flower.payload import MOST_OBJECTS, content, payload

Answer = Callable[[bytes], bytes | None]
_BUSY_S, _IDLE_S = 0.02, 0.5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_PARTS_S = 60.0  # how long a message's parts may take to be there


@dataclass
class FleetNode:
    """A site's connection.

    Attributes:
        address: host:port. roots: PEM file that the server's certificate is held to. node_key: its file.
        answer: what the site answers; None declines. It must not raise.
        told: hears of changes of the connection, in words for the operator's log.
        connected: hears whether there is one, whenever that changes.
    """

    address: str
    roots: Path
    node_key: Path
    answer: Answer
    told: Callable[[str], None] = lambda _text: None
    connected: Callable[[bool], None] = lambda _there: None
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Return from `attend` after the message that is being answered."""
        self._stop.set()

    def attend(self) -> None:
        """Answer until stopped; connect again whenever the connection is lost, in waits that grow to half a minute.

        Raises:
            DataError: the node key or the roots cannot be read.
        """
        (signer, key), wait = signing(self.node_key), _FIRST_WAIT_S
        while not self._stop.is_set():
            with FleetHttpClient.from_server_address(
                self.address,
                insecure=False,
                root_certificates=self.roots.read_bytes(),
                interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"), signer],
            ) as client:
                begun = time.monotonic()
                try:
                    self._connected(client, key)
                except httpx.HTTPStatusError as error:
                    self.told(f"the server refused ({error.response.status_code})")
                except Exception as error:  # noqa: BLE001 - whatever a server sends: the site stays, and dials again
                    self.told(f"no connection ({type(error).__name__})")
            # one that held for a while was a good one
            wait = (
                _FIRST_WAIT_S
                if time.monotonic() - begun > _LONGEST_WAIT_S
                else min(2 * wait, _LONGEST_WAIT_S)
            )
            self._stop.wait(wait * random.uniform(0.5, 1.0))  # noqa: S311 - so that sites do not dial in step

    def _connected(self, client: FleetHttpClient, key: bytes) -> None:
        request = ActivateNodeRequest(public_key=key, heartbeat_interval=HEARTBEAT_MIN_INTERVAL)
        node = Node(node_id=client.ActivateNode(request).node_id)
        self.told("connected")
        self.connected(True)
        done = threading.Event()
        beating = threading.Thread(
            target=self._beat, args=(client, node, done), name="heartbeat", daemon=True
        )
        beating.start()
        try:
            pause = _BUSY_S
            while not self._stop.is_set():
                pulled = client.PullMessages(PullMessagesRequest(node=node))
                if pulled.messages_list:
                    self._serve(client, node, pulled)
                    pause = _BUSY_S
                else:
                    self._stop.wait(pause)
                    pause = min(1.2 * pause, _IDLE_S)
            client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
        finally:
            self.connected(False)
            done.set()
            beating.join(timeout=10)

    def _beat(self, client: FleetHttpClient, node: Node, done: threading.Event) -> None:
        """Say that the site is there while it computes; a connection that is lost is noticed by the loop."""
        while not done.wait(0.8 * HEARTBEAT_MIN_INTERVAL):
            try:
                client.SendNodeHeartbeat(
                    SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_MIN_INTERVAL)
                )
            except httpx.HTTPError as error:
                self.told(f"no heartbeat ({type(error).__name__})")

    def _serve(self, client: FleetHttpClient, node: Node, pulled: PullMessagesResponse) -> None:
        message = message_from_proto(pulled.messages_list[0])
        run, name = message.metadata.run_id, message.metadata.message_id
        parts = [tree.object_id for tree in iterate_object_tree(pulled.message_object_trees[0])]
        if len(parts) > MOST_OBJECTS:
            raise FederationError("a message of a few parts", f"{len(parts)}", "update the server")
        contents = {part: self._part(client, node, run, part) for part in parts}
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=name)
        )
        question = inflate_object_from_contents(name, contents)
        if not isinstance(question, Message):
            raise FederationError("a message", "another object", "update the server")
        question.metadata.__dict__["_message_id"] = name
        reply = Message(content(self.answer(payload(question)) or b""), reply_to=question)
        self._push(client, node, run, reply)

    def _part(self, client: FleetHttpClient, node: Node, run: int, part: str) -> bytes:
        end = time.monotonic() + _PARTS_S
        while time.monotonic() < end and not self._stop.is_set():
            found = client.PullObject(PullObjectRequest(node=node, run_id=run, object_id=part))
            if found.object_found and found.object_available:
                return bytes(found.object_content)
            if not found.object_found:
                break
            self._stop.wait(_BUSY_S)
        raise FederationError("all parts of a message", "one that is missing", "nothing: it is asked again")

    def _push(self, client: FleetHttpClient, node: Node, run: int, reply: Message) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            objects = get_all_nested_objects(reply)
            pushed = client.PushMessages(
                PushMessagesRequest(
                    node=node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[0.0],
                )
            )
            for part in pushed.objects_to_push:
                client.PushObject(
                    PushObjectRequest(
                        node=node,
                        run_id=run,
                        session_id=pushed.session_id,
                        object_id=part,
                        object_content=objects[part].deflate(),
                    )
                )
