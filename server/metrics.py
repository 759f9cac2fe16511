"""A coordinator's metrics for Prometheus: what the page shows, as numbers. Labels are names of sites and stages only.

Counters begin at zero with the process; everything else is read when it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedimg.federation.conversation import Program
from fedimg.web import metrics
from server.page.models import Overview
from server.registry import ACTIVE, Stage


class CoordinatorMetrics:
    """One process's. `heard` and `carried` are called by whoever conducts a run."""

    def __init__(self, program: Program, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry: CollectorRegistry = metrics.registry_of("server", program.version, program.digest[:12])
        self._clock, self._began = clock, clock()
        self._rounds = Counter(
            "fedimg_rounds_finished", "Rounds finished since the start.", registry=self.registry
        )
        self._seconds = Gauge(
            "fedimg_last_round_seconds",
            "How long the last finished round took, waiting included.",
            registry=self.registry,
        )
        self._missing = Counter(
            "fedimg_answers_missing",
            "Messages that a site was sent and did not answer.",
            ("site",),
            registry=self.registry,
        )
        self._bytes = Counter(
            "fedimg_message_bytes",
            "Bytes of messages, without what the wire adds.",
            ("direction",),
            registry=self.registry,
        )
        for direction in ("to_sites", "from_sites"):
            self._bytes.labels(direction)

    def heard(self, event: str, about: str) -> None:
        """What a run's conductor says of it."""
        if event == "rounds":
            self._began = self._clock()
        elif event == "round":
            now = self._clock()
            self._rounds.inc()
            self._seconds.set(now - self._began)
            self._began = now
        elif event == "no answer":
            self._missing.labels(about).inc()

    def carried(self, sent: int, received: int) -> None:
        self._bytes.labels("to_sites").inc(sent)
        self._bytes.labels("from_sites").inc(received)

    def watch(self, overview: Callable[[], Overview]) -> None:
        """Add what is read when it is asked for."""
        self.registry.register(_Read(overview))

    def text(self) -> bytes:
        return metrics.text(self.registry)


@dataclass(eq=False)  # a registry keeps collectors by identity
class _Read(Collector):
    """Members and runs, as they are at the time."""

    overview: Callable[[], Overview]

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        found = self.overview()
        active = [run for run in found.runs if run.stage in ACTIVE]
        yield GaugeMetricFamily("fedimg_members", "Members in the last bundle.", len(found.sites))
        connected = GaugeMetricFamily(
            "fedimg_member_connected", "Whether a member is connected.", labels=("site",)
        )
        ends = GaugeMetricFamily(
            "fedimg_member_certificate_days", "Days until a member's certificate ends.", labels=("site",)
        )
        for site in found.sites:
            connected.add_metric((site.name,), float(site.connected))
            ends.add_metric((site.name,), site.certificate_days)
        yield connected
        yield ends
        there = sum(site.connected for site in found.sites)
        yield GaugeMetricFamily("fedimg_members_connected", "Members that are connected.", there)
        stages = GaugeMetricFamily("fedimg_runs", "Runs by stage, of the latest.", labels=("stage",))
        for stage in Stage:
            stages.add_metric((stage.value,), sum(run.stage == stage for run in found.runs))
        yield stages
        yield GaugeMetricFamily(
            "fedimg_current_round",
            "The last finished round of the run under way; 0 without one.",
            active[0].round if active else 0,
        )
