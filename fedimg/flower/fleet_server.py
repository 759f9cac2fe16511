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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from fastapi import FastAPI
from flwr.common.constant import NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.error import http_error_translator
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fedimg.errors import FederationError
from fedimg.flower.fleet_run import FleetRun
from fedimg.flower.gate import Gate, own_answers
from fedimg.flower.node_keys import public_bytes
from fedimg.web.listening import Listener

logging.getLogger("flwr").setLevel(logging.WARNING)  # it tells of every message


class FleetServer:
    """Serves the fleet API while it is entered.

    Args:
        host, port: to listen on; port 0 takes a free one. certificate, key: the TLS pair's files.
        most_bytes: of a request's body.
    """

    def __init__(self, host: str, port: int, certificate: Path, key: Path, most_bytes: int = 1 << 30) -> None:
        _, states = get_objectstore_linkstate_factories(FLWR_IN_MEMORY_DB_NAME, get_federation_manager())
        self.state: LinkState = states.state()
        self._nodes: dict[str, int] = {}
        self._keys: frozenset[bytes] = frozenset()
        self._key_of: dict[str, bytes] = {}
        self._moved: dict[bytes, float] = {}
        app = FastAPI(
            title="fedimg",
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            middleware=[
                Middleware(Gate, keys=lambda: self._keys, most_bytes=most_bytes, moved=self._note_moved),
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
        self._listener = Listener(app, "fleet", host, port, (key, certificate))

    @property
    def port(self) -> int:
        """That it listens on. Raises FederationError before it does."""
        if self._listener.port is None:
            raise FederationError("a server that listens", "one that does not yet", "enter it first")
        return self._listener.port

    def __enter__(self) -> Self:
        try:
            self._listener.load()
        except OSError:
            raise FederationError(
                "a TLS certificate and its key", "files that are none", "fedimg provision renew FOLDER"
            ) from None
        try:
            self._listener.bind()
        except OSError as error:
            raise FederationError(
                f"an address and a port to listen on: {self._address[0]}, {self._address[1]}",
                error.strerror or "an error",
                "end what holds the port, or give another with --listen",
            ) from None
        if not self._listener.start():
            raise FederationError("a server that listens", "one that ended", "check certificate and key")
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.end()

    def _note_moved(self, key: bytes) -> None:
        self._moved[key] = time.monotonic()

    def admit(self, members: Mapping[str, str]) -> None:
        """Let in exactly these: name → public node key, PEM. Who has another key, or is none, is let in no more."""
        nodes, keys = {}, {name: public_bytes(pem) for name, pem in members.items()}
        for name, key in keys.items():
            # Flower never takes a key twice, so that nobody's node is deleted: the gate is shut for it
            known = self.state.get_node_id_by_public_key(key)
            nodes[name] = known or self.state.create_node(NOOP_FLWR_AID, "fedimg", key, 0, name=name)
        self._nodes, self._key_of, self._keys = nodes, keys, frozenset(keys.values())

    def online(self) -> frozenset[str]:
        """Members that are connected: heard of within the last twenty seconds."""
        return frozenset(self.connections())

    def begin(self) -> FleetRun:
        """A run's conversation with the members. Raises FederationError where Flower takes none."""
        return FleetRun(self)

    def connections(self) -> dict[str, str]:
        """Members that are connected, and since when: of a member that comes back it is another time."""
        found = self.state.get_node_info(node_ids=list(self._nodes.values()), statuses=[NodeStatus.ONLINE])
        since = {info.node_id: str(info.last_activated_at) for info in found}
        return {name: since[node] for name, node in self._nodes.items() if node in since}

    def gone(self) -> dict[str, str]:
        """Members that were connected and are not, and since when."""
        found = self.state.get_node_info(node_ids=list(self._nodes.values()), statuses=[NodeStatus.OFFLINE])
        since = {info.node_id: str(info.last_deactivated_at) for info in found if info.last_deactivated_at}
        return {name: since[node] for name, node in self._nodes.items() if node in since}

    def node_of(self, site: str) -> int:
        """Flower's number of a member."""
        return self._nodes[site]

    def moved(self, site: str) -> float:
        """When bytes of a message last went to or came from a member, by `time.monotonic`; 0 for never."""
        return self._moved.get(self._key_of.get(site, b""), 0.0)

    def new_run(self) -> tuple[int, int]:
        """The numbers of a run of Flower's and of its task. Raises FederationError."""
        run = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        found = self.state.get_run_info(run_ids=[run])
        task = found[0].primary_task_id if found else None
        if task is None or self.state.claim_task(task) is None:
            raise FederationError(
                "a run of Flower's", "none", "install flwr in the version that fedimg names"
            )
        self.state.activate_task(task)
        return run, task
