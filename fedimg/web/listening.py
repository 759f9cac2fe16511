"""One application on one port, served by a thread of a process that does other things."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

_POLL_S, _BACKLOG = 0.02, 64


class Listener:
    """Three steps, so that whoever takes them can say of each what its failure means.

    Args:
        name: of the thread. host, port: to listen on; port 0 takes a free one. tls: key and certificate files.
    """

    def __init__(
        self, app: ASGIApp, name: str, host: str, port: int, tls: tuple[Path, Path] | None = None
    ) -> None:
        self._address = (host, port)
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
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    @property
    def port(self) -> int | None:
        """That it listens on; None until it is bound."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else None

    def load(self) -> None:
        """Raises OSError for TLS files that are none."""
        self._server.config.load()

    def bind(self) -> None:
        """Raises OSError for an address that is taken, or not of this machine."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.create_server(self._address, family=family, backlog=_BACKLOG)

    def start(self) -> bool:
        """Once it is bound: whether it serves; it is ended where it does not."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self.end()
                return False
            time.sleep(_POLL_S)
        return True

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])
