"""A site's metrics for Prometheus: numbers about its part in runs, for its own operator. Nothing counts patients.

The ε that is left follows from declared numbers and from which runs were charged. No metric has a run's name.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge

from fedimg.errors import FedimgError
from fedimg.federation.conversation import Program, kind_of
from fedimg.federation.manifest import split_address
from fedimg.home import SiteHome
from fedimg.privacy.stated import statement_of
from fedimg.process_log import Say
from fedimg.web import metrics
from fedimg.web.access import AccessToken
from fedimg.web.guard import Rules
from fedimg.web.serving import PageServer, is_loopback, own_names
from fedimg.web.shell import metrics_app
from sites.settings import SiteSettings

_TOKEN_FILE = "metrics.token"  # noqa: S105 - a file's name
_REMEDY = "name another in the site's settings, or metrics: null"
_NAN = float("nan")


class SiteMetrics:
    """One site's process."""

    def __init__(self, home: SiteHome, program: Program) -> None:
        self._home = home
        self.registry = registry = metrics.registry_of("site", program.version, program.digest[:12])
        self._connected = Gauge(
            "fedimg_connected", "Whether the coordinator is connected.", registry=registry
        )
        self._joined = Counter("fedimg_runs_joined", "Runs joined since the start.", registry=registry)
        self._answered = Counter("fedimg_rounds_answered", "Messages of rounds answered.", registry=registry)
        self._declined = Counter(
            "fedimg_rounds_declined",
            "Messages of rounds not answered; why, is in operator.log.",
            registry=registry,
        )
        self._seconds = Gauge(
            "fedimg_last_answer_seconds", "How long the last answer of a round took.", registry=registry
        )
        self._left = Gauge(
            "fedimg_ledger_epsilon_left",
            "What is left of the ledger's ε; NaN without a ledger.",
            registry=registry,
        )
        self._most = Gauge(
            "fedimg_ledger_epsilon_max",
            "The ledger's ε for all runs; NaN without a ledger.",
            registry=registry,
        )
        self.read_ledger()

    def connected(self, there: bool) -> None:
        self._connected.set(there)

    def heard(self, event: str) -> None:
        """What `Attendance` says of a run."""
        if event == "joined":
            self._joined.inc()
        if event in ("joined", "ended"):
            self.read_ledger()

    def answering(self, answer: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
        """The same, with its rounds counted and timed."""

        def counted(data: bytes) -> bytes | None:
            begun = time.monotonic()
            said = answer(data)
            if kind_of(data) == b"ROUN":
                if said is None:
                    self._declined.inc()
                else:
                    self._answered.inc()
                    self._seconds.set(time.monotonic() - begun)
            return said

        return counted

    def read_ledger(self) -> None:
        """Never raises: a ledger that cannot be read is told of where it is used."""
        left = most = _NAN
        if self._home.ledger.exists():
            try:
                statement = statement_of(self._home.ledger, self._home.signing_key)
                left, most = statement.epsilon_left, statement.terms.epsilon_max
            except (FedimgError, OSError):
                pass
        self._left.set(left)
        self._most.set(most)

    @contextmanager
    def serve(self, settings: SiteSettings, say: Say) -> Iterator[None]:
        """While this lasts, where the settings ask for it. Raises ConfigError where the address cannot be had."""
        if settings.metrics is None:
            yield
            return
        host, port = split_address(settings.metrics)
        local = is_loopback(host)
        token = AccessToken(self._home.root / _TOKEN_FILE)
        names = own_names(host, () if local else (socket.gethostname(),))
        rules = Rules(token, names, cookie=f"fedimg-{port}", open_metrics=local)
        app = metrics_app(rules, lambda: metrics.text(self.registry))
        with PageServer(app, host, port, remedy=_REMEDY) as server:
            say("metrics", host=host, port=server.port)
            yield
