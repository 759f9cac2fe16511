"""Connections and associations of pynetdicom, held to limits that it does not have itself.

What pynetdicom 3.0.4 does as it comes, and what is done here instead:

- It makes the TLS handshake within `accept()`, so one silent connection stops the listener: here each connection's own
  thread makes it, with a time limit, and a connection is no association before its first byte.
- It reads a PDU of any length a peer names (4 GiB) and waits for ever: here a PDU has a greatest length and a deadline.
- It writes instances into the system's folder for temporary files, without limit, and leaves them there after an abort:
  here they grow in the spool, which has limits, and go when the association goes.
- It decodes every kind of DIMSE message and holds its data set in memory: here C-STORE and C-ECHO are all there is.
- It prints what a malformed message makes it raise, with values: here it is counted, and the association aborted.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from sites.watch.connection import GREATEST_PDU, ConnectionLimits, Socket, UpperLayer, hang_up
from sites.watch.messages import Messages
from sites.watch.spool import Spool

_POLL_S: Final = 0.2
_LOCAL_LIMIT_EXCEEDED: Final = (2, 3, 2)  # A-ASSOCIATE-RJ: transient, of the provider (PS3.8 9.3.4)
_Address = tuple[Any, ...]
Handlers = list[tuple[evt.EventType, Callable[[evt.Event], Any]]]


class _Association(Association):
    """One peer's. It leaves nothing behind, however it ends."""

    messages: Messages
    ended: Callable[[], None]
    fault: Callable[[], None]

    def run(self) -> None:
        try:
            super().run()
        except Exception:  # noqa: BLE001 - the same
            self.fault()
            self.kill()
        finally:
            self.messages.end()
            self.ended()


class _Handler(RequestHandler):
    server: Server

    def _create_association(self) -> Association:
        """As pynetdicom does, of our own parts."""
        server = self.server
        association = _Association(self.ae, "acceptor")
        association._server = server  # noqa: SLF001 - as pynetdicom's handler does
        association.name = "AcceptorThread@watch"
        association.ended = lambda: server.leave(association, self.client_address)
        association.fault = lambda: server.spool.counts.add("faults")
        association.dul = UpperLayer(association)
        association.messages = Messages(association, server.spool)
        association.dimse = association.messages
        limits = server.limits
        # Set again: they reach the timers of the upper layer, which is another one now.
        association.acse_timeout, association.network_timeout = limits.handshake_s, limits.silent_s
        connection = Socket(association, client_socket=self.request)
        connection.limits = limits
        association.set_socket(connection)
        acceptor = association.acceptor
        acceptor.maximum_length, acceptor.ae_title = GREATEST_PDU, server.ae_title
        acceptor.address_info, association.requestor.address_info = self.local, self.remote
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = server.contexts  # nobody changes them: a copy for each would take 50 ms
        for event, handler in server.handlers:
            association.bind(event, handler)
        return association


class Server(ThreadedAssociationServer):
    """Listens from its making on. `handlers`: of pynetdicom's events, for every association."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        spool: Spool,
        limits: ConnectionLimits,
        tls: ssl.SSLContext | None,
        handlers: Handlers,
    ) -> None:
        """Raises OSError for an address that is taken."""
        self.spool, self.limits, self._tls = spool, limits, tls
        own: Handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_REJECTED, self._rejected),
        ]
        self.handlers: Handlers = [*handlers, *own]
        self._strangers: dict[_Address, socket.socket] = {}
        self._admitted: set[Association] = set()
        self._lock = threading.Lock()
        ae.maximum_associations = 1 << 30  # it would count whoever is connected
        # Its own `ssl_context` stays empty: it would make the handshake within accept().
        super().__init__(ae, address, ae.ae_title, ae.supported_contexts, request_handler=_Handler)
        ae._servers.append(self)  # noqa: SLF001 - `shutdown` takes it out again
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="scp", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """No new connections; those that are there are aborted."""
        self.shutdown()
        self._thread.join(timeout=10)
        for association in self.active_associations:
            association.abort()
        with self._lock:
            left = list(self._strangers.values())
        for connection in left:
            hang_up(connection)

    def forget(self, address: _Address) -> None:
        """This connection is no stranger any more, or no connection."""
        with self._lock:
            self._strangers.pop(address, None)

    def leave(self, association: Association, address: _Address) -> None:
        self.forget(address)
        with self._lock:
            self._admitted.discard(association)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Of too many strangers the one who has been silent longest makes room."""
        with self._lock:
            full = len(self._strangers) >= self.limits.strangers
            oldest = self._strangers.pop(next(iter(self._strangers))) if full else None
            self._strangers[client_address] = request
        if oldest is not None:
            self.spool.counts.add("crowded_out")
            hang_up(oldest)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake, and the wait for a first byte, here: no other connection waits for this one."""
        connection = request
        try:
            request.settimeout(self.limits.handshake_s)
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    if client_address in self._strangers:
                        self._strangers[client_address] = connection
                connection.do_handshake()
            elif not request.recv(1, socket.MSG_PEEK):
                raise OSError("closed")
            self.finish_request(connection, client_address)
        except Exception:  # noqa: BLE001 - a stranger's: whatever it sends or leaves out, it is not heard further
            self.spool.counts.add("not_admitted")
            self.forget(client_address)
            hang_up(connection)
            with contextlib.suppress(OSError):
                connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is printed: `process_request_thread` has counted it."""

    def _requested(self, event: evt.Event) -> None:
        """Before titles are looked at: a further one is told to come again."""
        association = event.assoc
        with self._lock:
            full = len(self._admitted) >= self.limits.associations
            if not full:
                self._admitted.add(association)
        if full:
            association.acse.send_reject(*_LOCAL_LIMIT_EXCEEDED)
            association.kill()

    def _rejected(self, event: evt.Event) -> None:
        """For its titles; whoever takes its time to go keeps no place."""
        with self._lock:
            self._admitted.discard(event.assoc)

    def _established(self, event: evt.Event) -> None:
        peer = event.assoc.requestor.address_info
        if peer is not None:
            self.forget(peer.as_tuple)
