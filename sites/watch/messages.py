"""DIMSE messages of one association: C-STORE, whose data set grows in the spool, and C-ECHO. There are no others.

Message structure: PS3.7 6.3, 9.3.1 and 9.3.5; fragments: PS3.8 annex E.
"""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from fedimg.dicom.arrival import is_uid
from fedimg.dicom.elements import file_meta
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from sites.watch.spool import Draft, Full, Spool
from sites.watch.statuses import CLASS_NOT_SUPPORTED, SUCCESS, status_of

VERIFICATION: Final = "1.2.840.10008.1.1"
_C_STORE_RQ, _C_ECHO_RQ, _C_CANCEL_RQ, _NO_DATA_SET = 0x0001, 0x0030, 0x0FFF, 0x0101
_SOP_CLASS, _KIND, _MESSAGE, _PRIORITY, _DATA_SET, _SOP_INSTANCE = (
    0x0002,
    0x0100,
    0x0110,
    0x0700,
    0x0800,
    0x1000,
)
_ANSWERED, _STATUS, _RESPONSE = 0x0120, 0x0900, 0x8000
_HEAD, _US = struct.Struct("<HHI"), struct.Struct("<H")
_NAP_S: Final = 0.02
_LONGEST_COMMAND: Final = 4096
_MOST_WAITING: Final = 4  # a window of one operation was agreed on
_MOST_DRAINED: Final = 4  # times the limit of an instance; a peer that sends on is aborted


class ProtocolError(Exception):
    """A message that no peer may send here; the association is aborted."""


class Store(C_STORE):
    """A C-STORE request whose instance is a draft of the spool."""

    draft: Draft


@dataclass(slots=True)
class _Incoming:
    """A C-STORE request whose data set is being received. draft: None once it is refused, with `status`."""

    context: int
    request: Store
    draft: Draft | None = None
    status: int = SUCCESS
    drained: int = 0


def read_command(data: bytes) -> dict[int, bytes]:
    """The values of a Command Set (Implicit VR Little Endian) by their element numbers. Raises ProtocolError."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise ProtocolError
        group, element, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if group or element in fields or at + length > len(data):
            raise ProtocolError
        fields[element] = data[at : at + length]
        at += length
    return fields


def write_command(fields: Mapping[int, bytes]) -> bytes:
    """A Command Set of the fields that are not empty, behind its group length."""
    data = b"".join(
        _HEAD.pack(0, element, len(value)) + value for element, value in sorted(fields.items()) if value
    )
    return _HEAD.pack(0, 0, 4) + struct.pack("<I", len(data)) + data


def _padded(uid: str | None) -> bytes:
    value = (uid or "").encode("ascii")
    return value + b"\0" * (len(value) % 2)


class Messages(DIMSEServiceProvider):
    """What pynetdicom's association receives its requests from.

    Attributes:
        studies: StudyInstanceUIDs of what was taken over this association.
    """

    def __init__(self, association: Association, spool: Spool) -> None:
        super().__init__(association)
        self.studies: set[str] = set()
        self._spool, self._command = spool, bytearray()
        self._incoming: _Incoming | None = None
        self._over, self._lock = False, threading.Lock()

    def get_msg(self, block: bool = False) -> Any:  # noqa: ARG002 - as pynetdicom's
        """(context, request), or (None, None); waited for a little, so that an idle association costs little."""
        try:
            return self.msg_queue.get(timeout=_NAP_S)
        except queue.Empty:
            return None, None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """A response to C-STORE or C-ECHO; pynetdicom would make a data set of each, which takes a millisecond."""
        kind = _C_STORE_RQ if isinstance(primitive, C_STORE) else _C_ECHO_RQ
        instance = getattr(primitive, "AffectedSOPInstanceUID", None)
        command = write_command(
            {
                _SOP_CLASS: _padded(primitive.AffectedSOPClassUID),
                _KIND: _US.pack(kind | _RESPONSE),
                _ANSWERED: _US.pack(primitive.MessageIDBeingRespondedTo),
                _DATA_SET: _US.pack(_NO_DATA_SET),
                _STATUS: _US.pack(primitive.Status),
                _SOP_INSTANCE: _padded(instance),
            }
        )
        data = P_DATA()
        data.presentation_data_value_list.append((context_id, b"\x03" + command))
        self.dul.send_pdu(data)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Fragments from the peer, by the thread of the upper layer."""
        try:
            with self._lock:
                if self._over:
                    return
                for context, fragment in primitive.presentation_data_value_list:
                    self._receive(context, fragment)
        # Besides ProtocolError what pynetdicom raises for values that it does not take; the text may quote them.
        except Exception:  # noqa: BLE001
            self._spool.counts.add("faults")
            self.end()
            self.dul.event_queue.put("Evt19")  # an invalid PDU: the association is aborted (PS3.8 9.2)

    def end(self) -> None:
        """The association is over: what was not taken was not acknowledged, and goes."""
        with self._lock:
            self._over = True
            if self._incoming is not None and self._incoming.draft is not None:
                self._incoming.draft.discard()
            self._incoming = None
            while not self.msg_queue.empty():
                _, message = self.msg_queue.get_nowait()
                if isinstance(message, Store):
                    message.draft.discard()

    def _receive(self, context: int, fragment: bytes) -> None:
        if not fragment:
            raise ProtocolError
        control, content = fragment[0], memoryview(fragment)[1:]
        last = bool(control & 2)
        if control & 1:
            self._command += content
            if self._incoming is not None or len(self._command) > _LONGEST_COMMAND:
                raise ProtocolError
            if last:
                fields = read_command(bytes(self._command))
                self._command.clear()
                self._begin(context, fields)
            return
        incoming = self._incoming
        if incoming is None or incoming.context != context:
            raise ProtocolError
        self._write(incoming, content)
        if last:
            self._incoming = None
            self._finish(incoming)

    def _begin(self, context: int, fields: dict[int, bytes]) -> None:
        kind, with_data = _number(fields, _KIND), _number(fields, _DATA_SET) != _NO_DATA_SET
        agreed = next((one for one in self.assoc.accepted_contexts if one.context_id == context), None)
        if agreed is None or self.msg_queue.qsize() >= _MOST_WAITING:
            raise ProtocolError
        sop_class = _text(fields, _SOP_CLASS)
        if kind == _C_ECHO_RQ and not with_data and sop_class == VERIFICATION:
            echo = C_ECHO()
            echo.MessageID, echo.AffectedSOPClassUID = _number(fields, _MESSAGE), sop_class
            self.msg_queue.put((context, echo))
        elif kind == _C_STORE_RQ and with_data:
            self._incoming = self._opened(context, fields)
            if self._incoming.draft is not None and sop_class != agreed.abstract_syntax:
                self._refuse(self._incoming, Quarantined(Quarantine.OBJECT_TYPE, "a SOP class not agreed on"))
                self._incoming.status = CLASS_NOT_SUPPORTED
            elif self._incoming.draft is not None:
                meta = file_meta(sop_class, _text(fields, _SOP_INSTANCE), str(agreed.transfer_syntax[0]))
                self._write(self._incoming, memoryview(meta))
        elif kind != _C_CANCEL_RQ or with_data:
            raise ProtocolError

    def _opened(self, context: int, fields: dict[int, bytes]) -> _Incoming:
        """A request with a draft, or refused already; its data set has to be received either way."""
        incoming = _Incoming(context, Store())
        request = incoming.request
        request.MessageID, request.Priority = _number(fields, _MESSAGE), _number(fields, _PRIORITY)
        request.DataSet, request._context_id = BytesIO(), context  # noqa: SLF001 - as pynetdicom's own decoder does
        sop_class, instance = _text(fields, _SOP_CLASS), _text(fields, _SOP_INSTANCE)
        if not (is_uid(sop_class) and is_uid(instance)):
            found = "a C-STORE request whose UIDs are none of PS3.5 9.1"
            self._refuse(incoming, Quarantined(Quarantine.UNSAFE_STRUCTURE, found))
            return incoming
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
        try:
            incoming.draft = self._spool.draft()
        except Full as full:
            self._refuse(incoming, full)
        return incoming

    def _write(self, incoming: _Incoming, content: memoryview) -> None:
        if incoming.draft is None:
            incoming.drained += len(content)
            if incoming.drained > _MOST_DRAINED * self._spool.limits.arrival.file_bytes:
                raise ProtocolError
            return
        try:
            incoming.draft.write(content)
        except (Quarantined, Full) as refusal:
            self._refuse(incoming, refusal)

    def _refuse(self, incoming: _Incoming, refusal: Quarantined | Full) -> None:
        self._spool.refuse(refusal)
        incoming.status = status_of(refusal)
        if incoming.draft is not None:
            incoming.draft.discard()
            incoming.draft = None

    def _finish(self, incoming: _Incoming) -> None:
        request = incoming.request
        if incoming.draft is not None:
            request.draft = incoming.draft
            self.msg_queue.put((incoming.context, request))
            return
        response = C_STORE()
        response.MessageIDBeingRespondedTo, response.Status = request.MessageID, incoming.status
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        self.send_msg(response, incoming.context)


def _number(fields: dict[int, bytes], element: int) -> int:
    """A US value. Raises ProtocolError where it is absent or none."""
    value = fields.get(element, b"")
    if len(value) != 2:
        raise ProtocolError
    return int.from_bytes(value, "little")


def _text(fields: dict[int, bytes], element: int) -> str:
    return fields.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")
