"""The examples of many virtual clients, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from fedimg.client_round import Loaded

MOST_BYTES = 256 << 20


class HeldData:
    """What was read last, up to `most_bytes` of images; the least recently used is read again when its turn comes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._held: OrderedDict[str, Loaded] = OrderedDict()

    def put(self, client: str, data: Loaded) -> None:
        """Hold what was read elsewhere."""
        self.of(client, lambda: data)

    def of(self, client: str, load: Callable[[], Loaded]) -> Loaded:
        """A client's examples; `load` reads them where they are not held."""
        if client not in self._held:
            self._held[client] = load()
            self._bytes += _size(self._held[client])
        self._held.move_to_end(client)
        found = self._held[client]
        while self._bytes > self._most and self._held:
            self._bytes -= _size(self._held.popitem(last=False)[1])
        return found

    @property
    def bytes(self) -> int:
        """Of the images that are held now."""
        return self._bytes


def _size(data: Loaded) -> int:
    return data.train.images.nbytes + data.validation.images.nbytes
