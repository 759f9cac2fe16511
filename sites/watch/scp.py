"""The DICOM listener: C-STORE and C-ECHO from agreed application entities, over TLS with certificates on both sides.

An instance is acknowledged (0x0000) once it is on the disk; before, it is refused with a status that says whether to
send it again: 0xA700 where the disk has no room, 0xA900 for another object than was named, 0xC000 to 0xC002 for what
cannot be read. PS3.4 B (storage), A (verification); PS3.15 B.12 (TLS of both sides).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import AllStoragePresentationContexts

from fedimg.dicom.arrival import TRANSFER_SYNTAXES
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError
from sites.watch.connection import GREATEST_PDU, ConnectionLimits
from sites.watch.messages import VERIFICATION, Messages, Store
from sites.watch.spool import Full, Received, Spool
from sites.watch.statuses import SUCCESS, status_of
from sites.watch.upper_layer import Handlers, Server

_SOURCE: Final = "scp"


def configure_pynetdicom() -> None:
    """What pynetdicom keeps for the whole process, set in this one place.

    Its log lines and its "standard" handlers quote identifiers: they are all off. UIDs in requests must be UIDs.
    Data sets are not held in memory (what is received here, `messages` writes into the spool as it comes).
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.ENFORCE_UID_CONFORMANCE = True
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.UNRESTRICTED_STORAGE_SERVICE = False
    logger = logging.getLogger("pynetdicom")  # its modules' loggers hand up to it, and no further
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: certificate (with what is between it and its authority) and key of this listener; authority: whose
    certificates peers must have.
    """

    certificate: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, and a certificate of every peer. Raises ConfigError for files that are none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            context.load_verify_locations(self.authority)
        except (OSError, ValueError):  # SSLError is an OSError
            expected = "a certificate, its key and an authority, as PEM files without a passphrase"
            raise ConfigError(expected, "files that are none", "name others under scp.tls") from None
        return context


def _no_passphrase() -> str:
    """Else OpenSSL asks at the terminal."""
    raise ValueError


@dataclass(frozen=True, slots=True)
class ScpSettings:
    """Attributes: host, port: to listen on; port 0 takes a free one. ae_title: by which it must be called. allowed: AE
    titles that may call. tls: None: unencrypted.
    """

    host: str
    port: int
    ae_title: str
    allowed: tuple[str, ...]
    tls: TlsFiles | None = None
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)

    def __post_init__(self) -> None:
        """Raises ConfigError for AE titles that are none, or none that may call."""
        for title in (self.ae_title, *self.allowed):
            if not (0 < len(title.strip()) <= len(title) <= 16 and title.isascii() and title.isprintable()):
                raise ConfigError("AE titles of 1 to 16 ASCII characters", "another", "see scp.ae_title")
            if "\\" in title:
                raise ConfigError("AE titles without a backslash", "another", "see scp.ae_title")
        if not self.allowed:
            raise ConfigError("AE titles that may call", "none", "name them under scp.allowed")


class DicomScp:
    """Listens while it is entered.

    Args:
        on_received: hears of each instance that is on the disk, before it is acknowledged. on_released: hears of the
            studies of an association that ended as agreed; of an aborted one nothing is told.
    """

    def __init__(
        self,
        settings: ScpSettings,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
    ) -> None:
        self._settings, self._spool = settings, spool
        self._on_received, self._on_released = on_received, on_released
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """That it listens on."""
        return self._settings.port if self._server is None else int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Raises ConfigError where the address cannot be had, or for TLS files that are none."""
        configure_pynetdicom()
        settings = self._settings
        tls = settings.tls.context() if settings.tls is not None else None
        handlers: Handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_RELEASED, self._released)]
        try:
            self._server = Server(
                self._entity(), (settings.host, settings.port), self._spool, settings.limits, tls, handlers
            )
        except OSError:
            found = f"port {settings.port}, which is taken or not of this machine"
            raise ConfigError("a free address for DICOM", found, "name another under scp.address") from None
        self._server.start()

    def stop(self) -> None:
        """Associations are aborted: what was not acknowledged, their senders keep."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def _entity(self) -> ApplicationEntity:
        settings = self._settings
        entity = ApplicationEntity(settings.ae_title)
        entity.maximum_pdu_size = GREATEST_PDU
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.allowed)
        entity.acse_timeout = settings.limits.handshake_s
        entity.dimse_timeout = entity.network_timeout = settings.limits.silent_s
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None:
                entity.add_supported_context(context.abstract_syntax, list(TRANSFER_SYNTAXES))
        entity.add_supported_context(VERIFICATION)
        return entity

    def _store(self, event: evt.Event) -> int:
        """By the thread of the association; the answer is sent when this returns."""
        request, messages = event.request, event.assoc.dimse
        if not isinstance(request, Store) or not isinstance(messages, Messages):
            return status_of(Full("a request without an instance"))
        try:
            received = self._spool.take(request.draft, _SOURCE)
        except (Quarantined, Full) as refusal:
            return status_of(refusal)
        self._on_received(received)
        messages.studies.add(received.arrival.study_uid)
        return SUCCESS

    def _released(self, event: evt.Event) -> None:
        messages = event.assoc.dimse
        if isinstance(messages, Messages) and messages.studies:
            self._on_released(frozenset(messages.studies))
