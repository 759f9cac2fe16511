"""A page, served by a thread while it is entered; and who may ask for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp

from fedimg.errors import ConfigError, DataError
from fedimg.web.listening import Listener

_NAMES = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str, others: Iterable[str] = ()) -> frozenset[str]:
    """Under which names a listener may be asked for: its own, this machine's, and those of its certificate."""
    return frozenset({host.lower(), *_NAMES, *(other.lower() for other in others)})


class PageServer:
    """Serves while it is entered.

    Args:
        app: behind its guard. host, port: to listen on; port 0 takes a free one. tls: key and certificate files.
        remedy: what to do where the address cannot be had. ending: called before the server ends.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        tls: tuple[Path, Path] | None = None,
        remedy: str = "name another address",
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        self._address, self._remedy, self._ending = (host, port), remedy, ending
        self._listener = Listener(app, "page", host, port, tls)

    @property
    def port(self) -> int:
        """That it listens on, once it is entered."""
        return self._listener.port or self._address[1]

    def __enter__(self) -> Self:
        """Raises ConfigError where the address is taken or not this machine's, DataError for TLS files that are none."""
        host, port = self._address
        try:
            self._listener.load()
        except OSError:
            raise DataError("a TLS certificate and its key", "files that are none", self._remedy) from None
        try:
            self._listener.bind()
        except OSError:
            found = f"{host}, port {port}, which is taken or not of this machine"
            raise ConfigError("a free address of this machine", found, self._remedy) from None
        if not self._listener.start():
            raise ConfigError("a page that is served", "one that ended", self._remedy)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending()
        self._listener.end()
