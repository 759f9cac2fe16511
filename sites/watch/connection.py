"""One connection of pynetdicom: PDUs of bounded length in bounded time, and a reactor that is woken.

pynetdicom's reactor asks every millisecond whether something came or is to be sent; on a busy machine each of these
naps is several, and sixteen idle associations are a fifth of a core.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

GREATEST_PDU: Final = 131072
_GREATEST_RECEIVED: Final = (
    2 * GREATEST_PDU
)  # an association request of 128 contexts is longer than a fragment
_NAP_S: Final = 0.05
_IDLE, _CLOSING = "Sta1", "Sta13"  # PS3.8 9.2


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Attributes, in seconds or connections:

    handshake_s: of TLS, and then for the association request. silent_s: for a PDU to be whole, and between two.
    associations: at once; a further one is told to come again. strangers: connections without an association; of more,
        the oldest goes.
    """

    handshake_s: float = 10.0
    silent_s: float = 60.0
    associations: int = 16
    strangers: int = 32


class Socket(AssociationSocket):
    """Reads whole PDUs of bounded length in bounded time."""

    limits = ConnectionLimits()

    @property
    def ready(self) -> bool:
        """Whether something came; waited for, unless there is something else to do."""
        connection, layer = self.socket, self.assoc.dul
        if connection is None or not isinstance(layer, UpperLayer) or super().ready:
            return super().ready
        if self.event_queue.empty() and layer.state_machine.current_state != _CLOSING:
            waited: list[Any] = [connection, layer.wakes]
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile: pynetdicom's own look says so
                select.select(waited, [], [], _NAP_S)
            layer.wakes.clear()
        return super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Raises OSError for more than a PDU may have, and where it does not arrive in time; the connection is over."""
        connection = self.socket
        if connection is None:
            return bytearray()
        seconds = self.limits.silent_s if self.assoc.is_established else self.limits.handshake_s
        try:
            if nr_bytes > _GREATEST_RECEIVED:
                raise OSError("a PDU beyond the greatest length")
            return _received(connection, nr_bytes, time.monotonic() + seconds)
        except OSError:
            hang_up(connection)  # what may still come of this PDU is not waited for
            raise

    def close(self) -> None:
        """pynetdicom leaves a socket open whose peer has gone first."""
        connection = self.socket
        super().close()
        if connection is not None:
            connection.close()


def _received(connection: socket.socket, count: int, until: float) -> bytearray:
    """So many bytes, or fewer where the peer ends. Raises OSError where they are not there in time."""
    received, at = bytearray(count), 0
    view = memoryview(received)
    while at < count:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        number = connection.recv_into(view[at:])
        if not number:
            return received[:at]
        at += number
    return received


class _Bell:
    """Wakes a thread that waits in `select`."""

    def __init__(self) -> None:
        self._handle = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock, self._open = threading.Lock(), True  # a closed one's number may be another file's

    def fileno(self) -> int:
        return self._handle

    def ring(self) -> None:
        with self._lock:
            if self._open:
                os.eventfd_write(self._handle, 1)

    def clear(self) -> None:
        """By the thread that waits."""
        with contextlib.suppress(BlockingIOError):  # it has not rung
            os.eventfd_read(self._handle)

    def close(self) -> None:
        """By the thread that waited."""
        with self._lock:
            if self._open:
                os.close(self._handle)
            self._open = False


class UpperLayer(DULServiceProvider):
    """pynetdicom's reactor: woken instead of asking every millisecond, and its faults end the association unprinted."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.wakes = _Bell()
        self._run_loop_delay = 0.0  # `Socket.ready` waits instead
        self.daemon = True  # the process may end; what was not acknowledged is its sender's

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.wakes.ring()

    def stop_dul(self) -> bool:
        """As pynetdicom's, without asking again and again whether it has ended."""
        if self.state_machine.current_state != _IDLE:
            return False
        self._kill_thread = True
        self.wakes.ring()
        self.join()
        return True

    def run(self) -> None:
        try:
            super().run()
        except Exception:  # noqa: BLE001 - whatever a peer's bytes make it raise; the text may quote them
            if (
                self.state_machine.current_state != _IDLE
            ):  # then the peer was gone, and was heard to go once more
                self.assoc.fault()  # type: ignore[attr-defined]
        finally:
            if self.socket is not None:
                self.socket.close()
            self.wakes.close()
            if not self.assoc.is_established:
                heard: Any = self.to_user_queue
                heard.put(None)  # who waits for a request waits in vain


def hang_up(connection: socket.socket) -> None:
    """Wakes whoever waits for it. Past `SSLSocket.shutdown`, which takes the session away from a thread that reads."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
