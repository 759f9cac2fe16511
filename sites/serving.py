"""A site's process: it dials the coordinator, and answers until it is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fedimg import training
from fedimg.durable import alone
from fedimg.errors import DataError
from fedimg.flower.fleet_node import FleetNode
from fedimg.home import SiteHome
from fedimg.privacy.chain_file import check_recovered
from fedimg.process_log import Say
from fedimg.record import code
from sites.attendance import Attendance, Bench
from sites.enrolment import Enrolment
from sites.metrics import SiteMetrics
from sites.settings import SiteSettings

_LOOK_S = 2.0


def attend(settings: SiteSettings, ending: threading.Event, say: Say) -> None:
    """Take part in the federation that this site has pinned, until `ending` is set.

    A bundle that is accepted meanwhile is taken up at once, with its node key, address and authority.

    Raises:
        DataError: no home, no pinned federation, or another process attends with this home.
        LedgerError: the home was restored, and its ledger is not recovered yet.
    """
    home = SiteHome.open(Path(settings.home))
    check_recovered(home.ledger)
    enrolment = Enrolment(home)
    name = _name(enrolment)
    torch.set_num_threads(settings.threads)
    bench = Bench(training.select_device(settings.device), settings.threads)
    with alone(home.root / "attend.lock", "one process that takes part with this home"):
        program = code.program()
        metrics = SiteMetrics(home, program)

        def tell(event: str, run: str) -> None:
            say(event, run=run)
            metrics.heard(event)

        attendance = Attendance(home, name, bench, tell, program)
        say("starting", site=name, version=program.version, code=program.digest[:12])
        answer = metrics.answering(attendance.answer)
        try:
            with metrics.serve(settings, say):
                while not ending.is_set():
                    _until_new_bundle(enrolment, settings, _Ends(answer, metrics.connected), ending, say)
        finally:
            attendance.close()
            say("ending", site=name)


@dataclass(frozen=True)
class _Ends:
    """What a connection calls: for a message, and when it is there or gone."""

    answer: Callable[[bytes], bytes | None]
    connected: Callable[[bool], None]


def _name(enrolment: Enrolment) -> str:
    asked = enrolment.requested()
    if asked is None or enrolment.pinned() is None:
        raise DataError(
            "a site that is a member of a federation",
            "one that has pinned none",
            "fedimg provision csr, then accept: docs/provisioning.md",
        )
    return asked.name


def _until_new_bundle(
    enrolment: Enrolment, settings: SiteSettings, ends: _Ends, ending: threading.Event, say: Say
) -> None:
    pinned = enrolment.pinned()
    if pinned is None:
        raise DataError("the federation that this site has pinned", "none", "accept its bundle again")
    node = FleetNode(
        settings.address or pinned.manifest.address,
        enrolment.roots,
        enrolment.node_key,
        ends.answer,
        lambda text: say("link", about=text),
        ends.connected,
    )
    file = enrolment.folder / "pinned.bundle"
    at, over = file.stat().st_mtime_ns, threading.Event()

    def watch() -> None:
        while not ending.wait(_LOOK_S) and not over.is_set():
            if file.stat().st_mtime_ns != at:
                say("another bundle")
                break
        node.stop()

    watching = threading.Thread(target=watch, name="bundle", daemon=True)
    watching.start()
    try:
        node.attend()
    finally:
        over.set()
        watching.join(timeout=2 * _LOOK_S)
