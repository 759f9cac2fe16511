"""What a run took: how long its rounds were, and how many bytes each site sent and was sent.

Counted are the messages themselves as an engine carries them, those of secure sums and of evaluations at the
sites included; the frames of a link (TLS, gRPC) are not. The coordinator sees every one of these sizes anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedimg.server_round import Exchange


class MeteredExchange:
    """An exchange that counts what it carries, until it is asked with `taken`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sent, self._received = Counter[str](), Counter[str]()

    def __call__(self, outgoing: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
        answers = self._exchange(outgoing)
        self._received.update({name: len(data) for name, data in outgoing.items()})
        self._sent.update({name: len(data) for name, data in answers.items() if data is not None})
        return answers

    def taken(self) -> dict[str, dict[str, int]]:
        """Bytes that each site sent and received since the last time; empty where no message was carried."""
        sent, received = dict(sorted(self._sent.items())), dict(sorted(self._received.items()))
        self._sent.clear()
        self._received.clear()
        return {"bytes_sent": sent, "bytes_received": received} if received else {}


def cost_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole run's seconds of training and bytes by site, from its rounds; None where a round has no count.

    Fused engines carry no messages, with `client_level` who was asked is a secret, and a run that was begun by
    an earlier version counted nothing.
    """
    seconds = [row.get("seconds") for row in rows]
    found: dict[str, Any] = {"seconds": None if None in seconds or not rows else sum(map(float, seconds))}  # type: ignore[arg-type] # None is looked for before
    for key in ("bytes_sent", "bytes_received"):
        counts = [row.get(key) for row in rows]
        if None in counts or not rows:
            found[key] = None
            continue
        total = Counter[str]()
        for count in counts:
            total.update(count or {})
        found[key] = dict(sorted(total.items()))
    return found
