"""Numbers of what happened, for whoever shows them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Counts:
    """How many of what happened, by name; written by many threads, read by whoever shows it. No name holds patient data.

    Names: received, repeated, further, full, damaged, and refused.<reason> with a value of `Quarantine`.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def read(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._counts)

    def refused(self) -> int:
        """Of all reasons together."""
        return sum(number for name, number in self.read().items() if name.startswith("refused."))
