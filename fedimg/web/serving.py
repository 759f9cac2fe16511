"""A thread that serves one application on one port, in a process that does other things."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from fedimg.errors import ConfigError, DataError

_POLL_S = 0.02
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
        self._socket: socket.socket | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ssl_keyfile=None if tls is None else str(tls[0]),
                ssl_certfile=None if tls is None else str(tls[1]),
                log_config=None,
                access_log=False,
                ws="none",
                lifespan="off",
                server_header=False,
                proxy_headers=False,  # who asks is who dialled; nobody's header says otherwise
                timeout_keep_alive=10,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)

    @property
    def port(self) -> int:
        """That it listens on, once it is entered."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._address[1]

    def __enter__(self) -> Self:
        """Raises ConfigError where the address is taken or not this machine's, DataError for TLS files that are none."""
        host, port = self._address
        try:
            self._server.config.load()
        except OSError:
            raise DataError("a TLS certificate and its key", "files that are none", self._remedy) from None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=32)
        except OSError:
            found = f"{host}, port {port}, which is taken or not of this machine"
            raise ConfigError("a free address of this machine", found, self._remedy) from None
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self.__exit__()
                raise ConfigError("a page that is served", "one that ended", self._remedy)
            time.sleep(_POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending()
        self._server.should_exit = True
        self._thread.join(timeout=10)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])
