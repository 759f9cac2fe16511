"""The coordinator's end of Flower's fleet connection: TLS, one port, sites dial in.

Of Flower's SuperLink only the fleet routes are served, in this process. Its control and runtime routes, which let
whoever reaches the port register nodes and start or stop runs, are not there: members come from the federation's signed
manifest, and the loop that conducts a run is this process's own. A site's node key is known before it connects, and
each of its requests is signed with it.

Nothing is kept here: a server that was stopped knows its members from the manifest again, and its runs from the
run's own folder. What was on its way is lost, and asked for again by whoever conducts the run.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import uvicorn
from fastapi import FastAPI
from flwr.app import Message, MessageType, Metadata
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID, SubStatus
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.error import http_error_translator
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fedimg.errors import FederationError
from fedimg.flower.gate import Gate, own_answers
from fedimg.flower.node_keys import public_bytes
from fedimg.flower.payload import MOST_OBJECTS, content, payload

logging.getLogger("flwr").setLevel(logging.WARNING)  # it tells of every message
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message on its way: to whom, and since when that node has been connected."""

    site: str
    activated_at: str | None


class FleetServer:
    """Serves the fleet API while it is entered.

    Args:
        host, port: to listen on; port 0 takes a free one. certificate, key: the TLS pair's files.
        most_bytes: of a request's body.
    """

    def __init__(self, host: str, port: int, certificate: Path, key: Path, most_bytes: int = 1 << 30) -> None:
        _, states = get_objectstore_linkstate_factories(FLWR_IN_MEMORY_DB_NAME, get_federation_manager())
        self._state: LinkState = states.state()
        self._nodes: dict[str, int] = {}
        self._keys: frozenset[bytes] = frozenset()
        app = FastAPI(
            title="fedimg",
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            middleware=[
                Middleware(Gate, keys=lambda: self._keys, most_bytes=most_bytes),
                Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
                Middleware(ProtobufTranslationMiddleware),
                Middleware(NodeAuthMiddleware),
                Middleware(BaseHTTPMiddleware, dispatch=own_answers),
            ],
        )
        app.state.linkstate_factory = states
        app.state.enable_supernode_auth = True
        app.include_router(fleet_router)
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ssl_certfile=str(certificate),
                ssl_keyfile=str(key),
                log_config=None,
                ws="none",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="fleet", daemon=True)

    @property
    def port(self) -> int:
        """That it listens on. Raises FederationError before it does."""
        if self._socket is None:
            raise FederationError("a server that listens", "one that does not yet", "enter it first")
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        try:
            self._server.config.load()
        except OSError:
            raise FederationError(
                "a TLS certificate and its key", "files that are none", "fedimg provision renew FOLDER"
            ) from None
        self._socket = socket.create_server(self._address, family=_family(self._address[0]), backlog=64)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self.__exit__()
                raise FederationError("a server that listens", "one that ended", "check certificate and key")
            time.sleep(_POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])

    def admit(self, members: Mapping[str, str]) -> None:
        """Let in exactly these: name → public node key, PEM. Who has another key, or is none, is let in no more."""
        nodes, keys = {}, {name: public_bytes(pem) for name, pem in members.items()}
        for name, key in keys.items():
            # Flower never takes a key twice, so that nobody's node is deleted: the gate is shut for it
            known = self._state.get_node_id_by_public_key(key)
            nodes[name] = known or self._state.create_node(NOOP_FLWR_AID, "fedimg", key, 0, name=name)
        self._nodes, self._keys = nodes, frozenset(keys.values())

    def online(self) -> frozenset[str]:
        """Members that are connected: heard of within the last twenty seconds."""
        there = {
            info.node_id
            for info in self._state.get_node_info(
                node_ids=list(self._nodes.values()), statuses=[NodeStatus.ONLINE]
            )
        }
        return frozenset(name for name, node in self._nodes.items() if node in there)

    def begin(self) -> FleetRun:
        """A run's conversation with the members. Raises FederationError where Flower takes none."""
        return FleetRun(self, *self._new_run())

    def _new_run(self) -> tuple[int, int]:
        """The numbers of a run of Flower's and of its task."""
        run = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        found = self._state.get_run_info(run_ids=[run])
        task = found[0].primary_task_id if found else None
        if task is None or self._state.claim_task(task) is None:
            raise FederationError(
                "a run of Flower's", "none", "install flwr in the version that fedimg names"
            )
        self._state.activate_task(task)
        return run, task


class FleetRun:
    """Bytes out, bytes back, with a deadline. A site that is gone, or comes back meanwhile, has no answer."""

    def __init__(self, server: FleetServer, run: int, task: int) -> None:
        self._server, self._state, self._run, self._task = server, server._state, run, task  # noqa: SLF001

    def exchange(self, outgoing: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes | None]:
        """Ask the named members and wait until all have answered, or are gone, or the time is over."""
        end = time.monotonic() + deadline_s
        if not self._state.acknowledge_task_heartbeat(self._task):
            # to Flower a run that was silent for a minute has failed; a coordinator may well compute for longer
            self._run, self._task = self._server._new_run()  # noqa: SLF001
        answers: dict[str, bytes | None] = dict.fromkeys(outgoing)
        open_messages: dict[str, _Asked] = {}
        for site, data in outgoing.items():
            if site in self._server.online() and (sent := self._send(site, data, deadline_s)):
                open_messages[sent] = _Asked(site, self._activated_at(site))
        arriving: dict[str, Message] = {}
        while open_messages and time.monotonic() < end:
            for reply in self._state.get_message_res(message_ids=set(open_messages), run_id=self._run):
                arriving[reply.metadata.reply_to_message_id] = reply
            for asked, reply in list(arriving.items()):
                if (received := self._received(reply)) is not None:
                    answers[open_messages.pop(asked).site] = received or None
                    self._state.object_store.delete(arriving.pop(asked).metadata.message_id)
                    self._forget(asked)
            for asked, about in list(open_messages.items()):
                if asked not in arriving and self._activated_at(about.site) != about.activated_at:
                    del open_messages[asked]
                    self._forget(asked)
            self._state.acknowledge_task_heartbeat(self._task)
            time.sleep(_POLL_S)
        for asked in open_messages:
            if asked in arriving:
                self._state.object_store.delete(arriving[asked].metadata.message_id)
            self._forget(asked)
        return answers

    def end(self) -> None:
        self._state.finish_task(self._task, SubStatus.COMPLETED, "")

    def _send(self, site: str, data: bytes, deadline_s: float) -> str | None:
        """The message's id; None where Flower refuses it."""
        metadata = Metadata(
            run_id=self._run,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self._server._nodes[site],  # noqa: SLF001
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=deadline_s + 60,
            message_type=MessageType.TRAIN,
        )
        message = make_message(metadata, content(data))
        metadata.__dict__["_message_id"] = message.object_id
        session = self._state.start_session(self._run)  # Flower ends it with the last part
        with no_object_id_recompute():
            objects = get_all_nested_objects(message)
            stored, missing = self._state.store_message_and_object_tree(
                remove_content_from_message(message), get_object_tree(message), session
            )
            for name in missing:
                self._state.store_object(self._run, session, name, objects[name].deflate())
        return message.metadata.message_id if stored else None

    def _received(self, reply: Message) -> bytes | None:
        """An answer whose parts are all here; empty for one that says nothing or cannot be read; None until then."""
        if reply.has_error():
            return b""
        name, store = reply.metadata.message_id, self._state.object_store
        try:
            parts = [tree.object_id for tree in iterate_object_tree(store.get_object_tree(name))]
            found = {part: self._state.get_object(self._run, part) for part in parts[:MOST_OBJECTS]}
            if len(parts) <= MOST_OBJECTS and not all(found.values()):
                return None
            return _read(name, {part: data for part, data in found.items() if data})
        except NoObjectInStoreError:
            return b""

    def _activated_at(self, site: str) -> str | None:
        (info,) = self._state.get_node_info(node_ids=[self._server._nodes[site]])  # noqa: SLF001
        online = info.status == NodeStatus.ONLINE
        return str(info.last_activated_at) if online else None

    def _forget(self, message: str) -> None:
        self._state.delete_messages(message_ins_ids={message})
        self._state.object_store.delete(message)


def _read(name: str, parts: dict[str, bytes]) -> bytes:
    """The bytes in an answer; none in what is no answer."""
    try:
        found = inflate_object_from_contents(name, parts)
    except Exception:  # noqa: BLE001 - Flower's reader met a site's bytes: whatever it says, they are no answer
        return b""
    return payload(found) if isinstance(found, Message) else b""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
