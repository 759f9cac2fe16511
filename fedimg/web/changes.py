"""Who waits for a change is told of it: within a look where nobody says so, at once where somebody does.

A look is a mark that something outside has: a file's version, a counter. It has to be cheap, since a thread takes one
every `look_s` for as long as anybody waits, and none while nobody does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

Mark = Callable[[], object]


class Changes:
    """Tells changes of a mark to coroutines of any event loop.

    Guarantee: whoever asks for what came after a number that was read before it looked misses no change.

    Args:
        opened: gives the mark; entered, asked and left by one and the same thread. look_s: between two looks.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Mark]], look_s: float = 0.01) -> None:
        self._opened, self._look_s = opened, look_s
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._asked, self._called = threading.Event(), threading.Event()
        self._ended = False
        self.number = 0
        self._thread = threading.Thread(target=self._look, name="changes", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now. For whoever has made a change; from any thread, and never waits."""
        self._called.set()

    def end(self) -> None:
        """Nobody is told any more; who waits goes on."""
        self._ended = True
        self._asked.set()
        self._called.set()
        self._thread.join(timeout=10)
        self._tell()

    async def after(self, number: int, seconds: float) -> None:
        """Until there was a change since `number`, or so long."""
        waiter = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self.number != number or self._ended:
                return
            self._waiting.add(waiter)
            self._asked.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter[1].wait()
        finally:
            with self._lock:
                self._waiting.discard(waiter)

    def _look(self) -> None:
        with self._opened() as mark:
            seen = mark()
            while not self._ended:
                self._asked.wait()
                self._called.wait(self._look_s)
                self._called.clear()
                found = mark()
                if found != seen:
                    seen = found
                    self._tell()
                with self._lock:
                    if not self._waiting and not self._ended:
                        self._asked.clear()

    def _tell(self) -> None:
        with self._lock:
            self.number += 1
            waiting, self._waiting = self._waiting, set()
            for loop, event in waiting:
                with suppress(RuntimeError):  # a loop that has ended in the meantime
                    loop.call_soon_threadsafe(event.set)
