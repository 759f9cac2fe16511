"""Before the first round the installation that adds the noise has to pass the battery, on generated data.

That is a site's, or with `client_level` the coordinator's, whose own releases are then looked at. Once a process
for each way through the code: eight simulated sites share one run. The verdict is kept in the home of the site, or of
the coordinator, for as long as the run's own files, and stands in its record.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fedimg.audit import battery
from fedimg.audit.adapters import adapter_of
from fedimg.durable import write_durably
from fedimg.errors import DataError, PolicyRefused
from fedimg.privacy.client_level import MODE
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest

_RELEASES = {MODE: "clients", DISTRIBUTED: "shares"}


def before_first_round(home: Path, run_id: str, request: PrivacyRequest) -> None:
    """Refuse a run whose mechanism fails. A run that has begun is not asked again. No patient's data are read.

    Raises:
        PolicyRefused: with the checks that failed, for the installation's own operator.
    """
    if kept(home, run_id) is not None:
        return
    releases = _RELEASES.get(request.mode, "training")
    report = _report(_way_through_the_code(request), releases)
    if report.verdict != "pass":
        raise PolicyRefused(
            "an installation that passes the conformance battery",
            f"failed: {', '.join(report.failed) or 'nothing could be checked'}",
            f"run `fedimg audit battery --releases {releases}`; nothing is trained here until it passes",
        )
    file = _file(home, run_id)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(file, json.dumps(_record(report)))


def kept(home: Path, run_id: str) -> dict[str, Any] | None:
    """The verdict that a run began with, as it stands in records; None where there is none."""
    file = _file(home, run_id)
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text())
        return {name: found[name] for name in ("audit", "verdict", "checks", "not_checkable", "seconds")}
    except (ValueError, KeyError, TypeError):
        raise DataError("a battery's verdict", "an unreadable file", "start a new run") from None


def _file(home: Path, run_id: str) -> Path:
    return home / "battery" / f"{run_id}.json"


def _record(report: battery.Report) -> dict[str, Any]:
    """What a record holds: there were no failures, so what could not be checked is all there is to name."""
    return {
        "audit": "battery",
        "verdict": report.verdict,
        "checks": len(report.checks),
        "not_checkable": [check.name for check in report.checks if check.p is None],
        "seconds": round(report.seconds, 2),
    }


def _way_through_the_code(request: PrivacyRequest) -> PrivacyRequest:
    """The request with everything at its default that does not choose code, so that equal ways share a run."""
    return replace(PrivacyRequest(), engine=request.engine, chunk=request.chunk, noise=request.noise)


@lru_cache(maxsize=16)
def _report(request: PrivacyRequest, releases: str) -> battery.Report:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small steps: threads only wait for each other
    mechanism = adapter_of(releases, request)
    try:
        return battery.run(mechanism)
    finally:
        mechanism.close()
        torch.set_num_threads(threads)
