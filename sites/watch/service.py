"""A watcher's process: sources, centre, workers, deliveries and the page, in an order in which none lacks another."""

from __future__ import annotations

_TICK_S, _KEEP_S = 1.0, 600.0
