"""A DICOM peer of raw bytes: it may send what no library would. PDUs: PS3.8 9.3; messages: PS3.7 9.3.1."""

from __future__ import annotations

import socket
import struct

CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
ACCEPTED, REJECTED, DATA, RELEASED, ABORTED = 2, 3, 4, 6, 7


def _item(kind, content):
    return struct.pack(">BBH", kind, 0, len(content)) + content


def command(**fields):
    """A Command Set: numbers are US, texts UI; names are those of `_ELEMENTS`."""
    data = b""
    for name, element in _ELEMENTS.items():
        if name in fields:
            value = fields[name]
            raw = struct.pack("<H", value) if isinstance(value, int) else value.encode("latin-1")
            raw += b"\0" * (len(raw) % 2)
            data += struct.pack("<HHI", 0, element, len(raw)) + raw
    return struct.pack("<HHII", 0, 0, 4, len(data)) + data


_ELEMENTS = {
    "sop_class": 0x0002,
    "kind": 0x0100,
    "message": 0x0110,
    "priority": 0x0700,
    "data_set": 0x0800,
    "instance": 0x1000,
}


class Peer:
    """A connection; it has its association once `associate` was answered with ACCEPTED."""

    def __init__(self, port, tls=None):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket = connection if tls is None else tls.wrap_socket(connection, server_hostname="localhost")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def associate(self, contexts=((CT, EXPLICIT), (VERIFICATION, IMPLICIT)), caller="PACS", called="FEDIMG"):
        """The kind of PDU that answers; contexts get the numbers 1, 3, 5 …"""
        items = _item(0x10, b"1.2.840.10008.3.1.1.1")
        for number, (abstract, transfer) in enumerate(contexts):
            subitems = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
            items += _item(0x20, bytes((2 * number + 1, 0, 0, 0)) + subitems)
        items += _item(0x50, _item(0x51, struct.pack(">I", 131072)) + _item(0x52, b"1.2.826.0.1.999"))
        titles = called.encode("latin-1").ljust(16) + caller.encode("latin-1").ljust(16)
        self.pdu(1, struct.pack(">HH", 1, 0) + titles + bytes(32) + items)
        return self.receive()[0]

    def pdu(self, kind, content, length=None):
        self.socket.sendall(
            struct.pack(">BBI", kind, 0, len(content) if length is None else length) + content
        )

    def fragment(self, control, content, context=1):
        """Control: 1 of a command, 0 of a data set; 2 more for the last one."""
        self.pdu(4, struct.pack(">IBB", len(content) + 2, context, control) + content)

    def store(self, data_set, instance="1.2.3", sop_class=CT, context=1, message=7):
        """A C-STORE request; its status, or None where the association ends."""
        request = command(
            sop_class=sop_class, kind=1, message=message, priority=0, data_set=1, instance=instance
        )
        self.fragment(3, request, context)
        for at in range(0, len(data_set), 100_000):
            self.fragment(0, data_set[at : at + 100_000], context)
        self.fragment(2, b"", context)
        return self.status()

    def echo(self, context=3):
        request = command(sop_class=VERIFICATION, kind=0x30, message=1, data_set=0x0101)
        self.fragment(3, request, context)
        return self.status()

    def status(self):
        kind, content = self.receive()
        if kind != DATA:
            return None
        at, found = 6, {}
        while at < len(content):
            _, element, length = struct.unpack_from("<HHI", content, at)
            found[element] = content[at + 8 : at + 8 + length]
            at += 8 + length
        return struct.unpack("<H", found[0x0900])[0]

    def release(self):
        self.pdu(5, bytes(4))
        return self.receive()[0]

    def abort(self):
        self.pdu(7, bytes(4))

    def receive(self):
        """(kind, content) of a PDU; (None, b"") where the connection ends."""
        head = self._bytes(6)
        if len(head) < 6:
            return None, b""
        kind, _, length = struct.unpack(">BBI", head)
        return kind, self._bytes(length)

    def _bytes(self, count):
        data = b""
        try:
            while len(data) < count and (piece := self.socket.recv(count - len(data))):
                data += piece
        except ConnectionError:
            pass
        return data
