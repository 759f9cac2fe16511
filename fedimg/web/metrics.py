"""Prometheus' text of one process's metrics: a registry of its own, and none of the library's global one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest


def registry_of(program: str, version: str, code: str) -> CollectorRegistry:
    """A new registry that says which program this is."""
    registry = CollectorRegistry(auto_describe=True)
    about = Gauge(
        f"fedimg_{program}_info", "Which program runs here; always 1.", ("version", "code"), registry=registry
    )
    about.labels(version, code).set(1)
    return registry


def text(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)
