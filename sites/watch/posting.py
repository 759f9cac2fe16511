"""One POST to an address of the settings: what webhooks and STOW-RS have in common.

https with verified certificates; plain http to this machine only. No redirection is followed, no proxy and no setting is
taken from the environment, what is answered is read up to a bound, and no text of it is repeated anywhere.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from fedimg.errors import ConfigError
from fedimg.web.serving import is_loopback
from sites.watch.deliveries import Undelivered

for _name in ("httpx", "httpcore"):
    # At INFO they repeat the whole address, in which some receivers want a token.
    logging.getLogger(_name).setLevel(logging.WARNING)

_LONGEST_PAUSE_S: Final = 3600.0
# What is wrong with the receiver, or with what it thinks of us, and not with the message: it can be put right.
_OF_THE_RECEIVER: Final = frozenset({401, 403, 404, 407, 408, 409, 421, 423, 425, 429})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and how it is known.

    Attributes:
        url: https, or http on this machine; without user, password and fragment.
        authority: PEM of the roots to verify with, instead of the system's.
        certificate, key: PEM, where the receiver wants to know us by a certificate.
        timeout_s: for the connection, and for every wait after it.

    Raises ConfigError.
    """

    url: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        remedy = "give it as https://host/path; http is for this machine alone"
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise ConfigError("an address", "one that cannot be read", remedy) from None
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise ConfigError("an https address", "another scheme", remedy)
        if not host or parts.username or parts.password or parts.fragment or not self.url.isascii():
            raise ConfigError("an address of host and path", "more, or less", remedy)
        if not 0 < self.timeout_s < math.inf:
            raise ConfigError("a time-out in seconds above 0", str(self.timeout_s), "set timeout_s")

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError where a file is not what it should be."""
        return client_context(self.authority, self.certificate, self.key)


def client_context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """For a client that verifies chain and name. Raises ConfigError where a file is not what it should be."""
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        if certificate is not None:
            context.load_cert_chain(
                certificate, key, password=""
            )  # an encrypted key is refused, not asked for
    except (OSError, ssl.SSLError):
        found = "files that are missing or something else"
        raise ConfigError("PEM files of authority, certificate and key", found, "check the paths") from None
    return context


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is cut at the bound that was given. `pause_s`: of Retry-After, 0 where none was asked for."""

    status: int
    body: bytes
    pause_s: float = 0.0


class Poster:
    """One endpoint. Each message has a connection of its own: none is kept that the other side has closed meanwhile.

    Raises ConfigError where a file of the endpoint is not what it should be.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._context = endpoint, endpoint.context()

    def post(self, headers: Mapping[str, str], content: bytes | Iterable[bytes], most: int) -> Answer:
        """What was answered, whatever its status. Raises Undelivered where nothing was.

        Args:
            headers: with content-length where `content` comes in pieces. most: bytes of the answer that are kept.
        """
        sent = {"accept-encoding": "identity", "connection": "close", "user-agent": "fedimg"} | dict(headers)
        wait = self._endpoint.timeout_s
        try:
            with (
                httpx.Client(
                    verify=self._context, timeout=wait, follow_redirects=False, trust_env=False
                ) as client,
                client.stream("POST", self._endpoint.url, headers=sent, content=content) as response,
            ):
                return Answer(response.status_code, self._read(response, most), _pause(response))
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            remedy = "is it running, and may this machine reach it?"
            raise Undelivered(self._why(error), remedy, answered=False) from None

    def _read(self, response: httpx.Response, most: int) -> bytes:
        end, kept = time.monotonic() + self._endpoint.timeout_s, bytearray()
        for piece in response.iter_raw():
            kept += piece
            if len(kept) >= most or time.monotonic() > end:
                break
        return bytes(kept[:most])

    def _why(self, error: BaseException) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"nothing within {self._endpoint.timeout_s:.0f} s"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"a certificate that does not verify (OpenSSL's code {cause.verify_code})"
            number = (
                cause.errno if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else None
            )
            if number is not None and number > 0:
                return f"no connection: {os.strerror(number)}"
            cause = cause.__cause__ or cause.__context__
        return f"a connection that broke ({type(error).__name__})"


def refuse_unless_taken(answer: Answer) -> None:
    """Raises Undelivered unless the status is 2xx: permanent where the message is at fault, or a redirection is asked for."""
    status = answer.status
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        remedy = "set the address that it leads to; redirections are not followed"
        raise Undelivered(f"a redirection (status {status})", remedy, permanent=True)
    if status in _OF_THE_RECEIVER or status >= 500:
        raise Undelivered(f"status {status}", "look at the receiver's log", after_s=answer.pause_s)
    raise Undelivered(f"status {status}", "look at the receiver's log", permanent=True)


def _pause(response: httpx.Response) -> float:
    """Retry-After in seconds (RFC 9110 10.2.3); the form with a date, and what is neither, say nothing here."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE_S) if text.isascii() and text.isdigit() else 0.0
