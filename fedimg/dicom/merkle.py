"""A Merkle tree over a growing list, after RFC 9162 section 2.1: one hash stands for all receipts."""

from __future__ import annotations

import hashlib


class MerkleTree:
    """The root of a growing list in O(log n) memory: a stack of perfect subtrees (RFC 9162 2.1)."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        node, height = hashlib.sha256(b"\0" + leaf).digest(), 0
        while self._peaks and self._peaks[-1][0] == height:
            node, height = _parent(self._peaks.pop()[1], node), height + 1
        self._peaks.append((height, node))
        self.size += 1

    def root(self) -> bytes:
        """32 bytes; of the empty list SHA-256 of nothing."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            node = _parent(left, node)
        return node


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
