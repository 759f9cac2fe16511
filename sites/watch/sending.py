"""Results to an archive by C-STORE: the bytes of the files as they lie on the disk, in the syntax they were written in.

One association for all files of a delivery, over TLS where the settings say so. Nothing is encoded anew. An archive knows
an instance by its SOPInstanceUID, so a repeat is no second one.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.presentation import build_context

from fedimg.errors import ConfigError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.posting import client_context
from sites.watch.storage_status import Verdict, verdict

_config.STORE_SEND_CHUNKED_DATASET = True  # from the disk, not through memory and an encoder
_config.LOG_HANDLER_LEVEL = "none"  # the library's own log would name instances

_MOST_CONTEXTS: Final = 128  # PS3.8 9.3.2.2: odd numbers of a byte
_TITLE: Final = re.compile(
    r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?"
)  # AE: 1 to 16 characters but \, PS3.5 6.2
_TAKES: Final = "does the archive store these classes in these transfer syntaxes?"
_REACH: Final = "is the archive running, and does it know this address and title?"


@dataclass(frozen=True, slots=True)
class Archive:
    """A peer that stores.

    Attributes:
        host, port; ae_title: its own. calling: ours.
        tls: whether to speak TLS. authority: PEM of the roots to verify with, instead of the system's.
        certificate, key: PEM of ours, where it asks for one.
        timeout_s: for the connection, the association, and every answer.

    Raises ConfigError for titles, ports and times that cannot be.
    """

    host: str
    port: int
    ae_title: str
    calling: str = "FEDIMG"
    tls: bool = False
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not all(_TITLE.fullmatch(title) for title in (self.ae_title, self.calling)):
            raise ConfigError("AE titles of 1 to 16 characters", "another form", "set ae_title")
        if not self.host or not 0 < self.port < 65536 or not 0 < self.timeout_s < math.inf:
            raise ConfigError("a host, a port and a time-out above 0", "others", "correct the address")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_class: str
    transfer_syntax: str


class Storing:
    """C-STORE to one archive. Raises ConfigError where TLS files cannot be used."""

    kind = "cstore"

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._context: ssl.SSLContext | None = None
        if archive.tls:
            self._context = client_context(archive.authority, archive.certificate, archive.key)

    def deliver(self, delivery: Delivery) -> None:
        """Every file once. Raises Undelivered unless all were stored, warnings included."""
        files = [_file(path) for path in delivery.paths]
        if not files:
            raise Undelivered("a delivery without files", "report this fault", permanent=True)
        opened: list[socket.socket] = []
        try:
            association = self._associated(files, opened)
            try:
                self._send(association, files)
            finally:
                if association.is_established:
                    association.release()
                if association.is_established:
                    association.abort()
        finally:
            for connection in opened:
                connection.close()  # the library does not, where the peer was gone first

    def _associated(self, files: Sequence[_File], opened: list[socket.socket]) -> Association:
        # One context for each pair: the archive takes each file as it is, or says that it does not.
        pairs = sorted({(file.sop_class, file.transfer_syntax) for file in files})
        if len(pairs) > _MOST_CONTEXTS:
            raise Undelivered(f"{len(pairs)} kinds of objects at once", "report this fault", permanent=True)
        entity = ApplicationEntity(ae_title=self._archive.calling)
        wait = self._archive.timeout_s
        entity.connection_timeout = entity.acse_timeout = wait
        entity.dimse_timeout = entity.network_timeout = wait
        association = entity.associate(
            self._archive.host,
            self._archive.port,
            contexts=[build_context(*pair) for pair in pairs],
            ae_title=self._archive.ae_title,
            tls_args=(self._context, self._archive.host) if self._context else None,
            evt_handlers=[(evt.EVT_CONN_OPEN, _bounded, [wait, opened])],
        )
        if association.is_established:
            return association
        association.dul.join(wait)  # it may still read
        if association.is_rejected:
            said = association.acceptor.primitive
            reason = f" ({said.reason_str})" if said is not None else ""
            raise Undelivered(f"an association that was rejected{reason}", _REACH)
        if association.acceptor.primitive is not None:
            raise Undelivered("an archive that takes none of these objects", _TAKES, permanent=True)
        raise Undelivered("no association", _REACH, answered=False)

    def _send(self, association: Association, files: Sequence[_File]) -> None:
        """What one object meets says nothing of the others, but for an archive that has no room or is gone."""
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
        refused: list[str] = []
        for number, file in enumerate(files):
            if (file.sop_class, file.transfer_syntax) not in accepted:
                refused.append("a kind of object or syntax that it does not take")
                continue
            try:
                status = association.send_c_store(file.path, msg_id=number % 65535 + 1).get("Status")
            except (OSError, RuntimeError, ValueError, AttributeError) as error:
                # Their texts hold paths and UIDs.
                raise Undelivered(f"an association that broke ({type(error).__name__})", _REACH) from None
            if status is None:
                raise Undelivered("no answer to an object", _REACH, answered=False)
            found = verdict(int(status))
            if found is Verdict.AGAIN:
                raise Undelivered(f"status 0x{status:04X}", "look at the archive's log")
            if found is Verdict.REFUSED:
                refused.append(f"status 0x{status:04X}")
        if refused:
            kinds = ", ".join(sorted(set(refused)))
            raise Undelivered(
                f"{len(refused)} of {len(files)} objects refused: {kinds}",
                _TAKES,
                permanent=True,
            )


def _bounded(event: evt.Event, seconds: float, opened: list[socket.socket]) -> None:
    """The library sends without a time-out: a peer that stops to read would hold its thread for ever."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.settimeout(seconds)
        opened.append(connection.socket)


def _file(path: Path) -> _File:
    """Class and syntax by its meta information (PS3.10 7.1). Raises Undelivered."""
    remedy = "was it deleted or changed after it was written?"
    try:
        meta, _ = split_dataset(path)
        return _File(path, str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
    except OSError:
        raise Undelivered("a file that is gone", remedy, permanent=True) from None
    except Exception as error:  # noqa: BLE001 - what the library raises for foreign bytes has no common type
        found = f"a file that is no DICOM file ({type(error).__name__})"
        raise Undelivered(found, remedy, permanent=True) from None
