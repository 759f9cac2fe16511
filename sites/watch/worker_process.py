"""One worker as who asks it has it: a process, the lines that it says, and how it is told that somebody waits."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedimg.errors import DataError

_READY_S = 180.0
_WAY_S = 0.1
"""Between two looks, while a picture is made, at whether a study waits."""


class Unfit(DataError):
    """A bundle that workers refuse, or that gives other floats than it was released with. folder: whose, where one is named."""

    def __init__(self, why: str, folder: Path | None) -> None:
        self.folder = folder
        super().__init__("models that can look at studies", why, "fedimg bundle verify says more")


class NotReady(DataError):
    """A worker that ended, or took too long, before it was ready: a machine that is busy may be why, and no model."""

    def __init__(self) -> None:
        found = "a process that ended, or took too long"
        super().__init__(
            "models that can look at studies", found, "see what else runs here; it is tried again"
        )


@dataclass(frozen=True)
class Models:
    """What workers load, and by whom it must be signed."""

    folders: tuple[Path, ...]
    trusted: tuple[bytes, ...]


class Worker:
    """One process and the lines that it says."""

    def __init__(self, models: Models) -> None:
        """Raises Unfit where a bundle is refused or gives other floats than it was released with; NotReady."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sites.watch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback may quote a file
            text=True,
            encoding="utf-8",
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="worker", daemon=True).start()
        folders, trusted = [str(one) for one in models.folders], [key.hex() for key in models.trusted]
        said = self.ask({"bundles": folders, "trusted": trusted}, _READY_S)
        if said is None or "ready" not in said:
            self.end()
            if said is None:
                raise NotReady
            folder = said.get("unfit")
            raise Unfit(str(said.get("why", "another answer")), None if folder is None else Path(folder))

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, question: Mapping[str, Any], patience_s: float, give_way: Callable[[], bool] | None = None
    ) -> dict[str, Any] | None:
        """The answer; None where the process has ended (in the middle of it, too), or says nothing in time.

        Args: give_way: of a question that may be left; asked now and then, and once it says yes the worker is told.
        """
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - asked for above
        try:
            pipe.write(json.dumps(question, allow_nan=False) + "\n")
            pipe.flush()
            line = self._heard(time.monotonic() + patience_s, give_way)
            found: dict[str, Any] | None = None if line is None else json.loads(line)
        except (OSError, ValueError, queue.Empty):
            return None
        return found

    def _heard(self, until: float, give_way: Callable[[], bool] | None) -> str | None:
        """Raises queue.Empty."""
        while give_way is not None and time.monotonic() < until:
            try:
                return self._lines.get(timeout=_WAY_S)
            except queue.Empty:
                if give_way():
                    self._process.send_signal(signal.SIGUSR1)
                    break
        return self._lines.get(timeout=max(0.0, until - time.monotonic()))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what nobody reads any more
                self._process.stdin.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - asked for above
        with pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(None)
