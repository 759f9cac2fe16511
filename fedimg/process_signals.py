"""How a long-running process is told to end: SIGTERM, as a supervisor sends it, or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_on_signals() -> Iterator[threading.Event]:
    """An event that is set by SIGTERM or SIGINT; a second signal ends the process at once."""
    ending = threading.Event()
    chosen = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in chosen}

    def end(number: int, _frame: object) -> None:
        ending.set()
        signal.signal(number, signal.SIG_DFL)

    for number in chosen:
        signal.signal(number, end)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
