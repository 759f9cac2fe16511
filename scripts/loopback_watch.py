"""A watcher as a process of its own on this machine, for studies and tests: started, sent studies, killed, looked at."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from loopback_federation import free_port
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_context

from fedimg.crypto.keys import SigningKey
from sites.watch.webhook import verify

ROOT = Path(__file__).resolve().parents[1]
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Loopback:
    """A watcher below a folder.

    Attributes:
        bundles: folders. key: that signed them. more: of the settings.
    """

    folder: Path
    bundles: Sequence[Path]
    key: SigningKey
    more: dict[str, Any] = field(default_factory=dict)
    scp: int = field(default_factory=free_port)
    console: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def settings(self) -> Path:
        return self.folder / "watch.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "watch.log"

    def write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        said = {
            "home": str(self.home),
            "bundles": [str(one) for one in self.bundles],
            "trusted_keys": [f"ed25519:{self.key.public_bytes.hex()}"],
            "scp": {"address": f"127.0.0.1:{self.scp}", "ae_title": "FEDIMG", "allowed": ["PACS"]},
            "console": {"address": f"127.0.0.1:{self.console}"},
            "assembly": {"quiet_s": 1.0, "longest_s": 30.0},
        }
        self.settings.write_text(yaml.safe_dump(said | self.more))

    def start(self, patience_s: float = 90.0) -> None:
        """Returns when it watches."""
        self.write_settings()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedimg.cli", "watch", "start", str(self.settings)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                cwd=self.folder,
            )
        before = self.log.read_text().count('"event": "watching"')
        wait_for(lambda: self._said_more(before), patience_s, "the watcher to start")

    def _said_more(self, before: int) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the watcher ended: {self.log.read_text()[-2000:]}")
        return self.log.read_text().count('"event": "watching"') > before

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(one) for one in children.read_text().split()]
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted({*found, *(int(one) for file in tasks for one in file.read_text().split())})

    def kill(self) -> None:
        """SIGKILL, to it and not to its workers: they see their pipe close."""
        self.process.kill()
        self.process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Of the store, as it is now; none while there is no store."""
        file = self.home / "watch.sqlite"
        if not file.exists():
            return []
        with contextlib.closing(
            sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=30)
        ) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute(query, arguments)]
            except sqlite3.OperationalError:  # it is being made
                return []

    def send(self, paths: Sequence[Path]) -> list[Path]:
        """Over one association, released at its end; which files were acknowledged. Raises ConnectionError without one."""
        return send(paths, self.scp)


def send(paths: Sequence[Path], port: int, calling: str = "PACS", called: str = "FEDIMG") -> list[Path]:
    """CT images by C-STORE."""
    entity = ApplicationEntity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    association = entity.associate("127.0.0.1", port, contexts=[build_context(CT, EXPLICIT)], ae_title=called)
    if not association.is_established:
        raise ConnectionError("no association")
    stored = []
    try:
        for path in paths:
            status = association.send_c_store(path)
            if status and status.Status == 0:
                stored.append(path)
            if not association.is_established:
                break
    except (RuntimeError, ValueError, OSError) as fault:
        raise ConnectionError("the association ended") from fault
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()
    return stored


class Receiver:
    """A webhook's receiver, which keeps every message once, by its key, and counts what came more often."""

    def __init__(self, folder: Path) -> None:
        secret = os.urandom(32)
        self.secret_file = folder / "webhook.secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(f"whsec_{base64.b64encode(secret).decode()}\n")
        self.messages: dict[str, dict[str, Any]] = {}
        self.arrived: dict[str, float] = {}
        self.repeats = 0
        self.differing = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                key = verify(secret, headers, body, time.time())
                message = json.loads(body)
                if key in receiver.messages:
                    receiver.repeats += 1
                    receiver.differing += receiver.messages[key] != message
                else:
                    receiver.messages[key] = message
                    receiver.arrived[key] = time.time()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def target(self, name: str = "pager") -> dict[str, Any]:
        """Of the settings."""
        return {"name": name, "kind": "webhook", "url": self.url, "secret": str(self.secret_file)}

    def raised(self) -> list[str]:
        """Alerts that were told of, in the order of the first message."""
        return [m["data"]["alert"] for m in self.messages.values() if m["type"] == "alert.raised"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    receiver = Receiver(folder)
    try:
        yield receiver
    finally:
        receiver.close()


def wait_for(condition: Callable[[], bool], patience_s: float, what: str) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:g} s for {what}")
        time.sleep(0.02)
