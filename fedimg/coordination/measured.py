"""The empirical ε of a run: measured once, at its end, with the numbers of its costliest plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedimg.audit.empirical import EmpiricalEpsilon, audit_plan
from fedimg.config import Config
from fedimg.coordination.terms import COORDINATOR
from fedimg.privacy.noise import OsEntropy
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.request import DISTRIBUTED
from fedimg.report.data import EmpiricalRow
from fedimg.values import Interval

_NAMES = ("noise multiplier σ", "sampling rate q", "clipped length ÷ C")


def empirical(config: Config, plans: Mapping[str, PrivacyPlan]) -> dict[str, EmpiricalEpsilon]:
    """Site → measurement of its plan; empty where nothing is claimed, or `audit.empirical=false`.

    Only public units on a shadow site are used, so this costs no patient anything and may stand in the report.
    """
    private = {name: plan for name, plan in plans.items() if plan.mode in ("per_site", DISTRIBUTED)}
    if not config.audit.empirical or config.insecure_test_mode or not private:
        return {}
    name = max(private, key=lambda site: private[site].epsilon)
    return {name: audit_plan(private[name], OsEntropy())}


def rows(found: Mapping[str, EmpiricalEpsilon]) -> tuple[EmpiricalRow, ...]:
    """The same for the report."""
    return tuple(row(name, one) for name, one in found.items())


def row(name: str, found: EmpiricalEpsilon) -> EmpiricalRow:
    """One measurement for the report."""
    claimed = (found.claimed.noise, found.claimed.rate, found.claimed.length)
    fitted = (found.fitted.noise, found.fitted.rate, found.fitted.length)
    estimate = Interval(found.estimate, found.low, found.high) if math.isfinite(found.high) else None
    return EmpiricalRow(
        name,
        found.claim,
        found.delta,
        estimate,
        found.flagged,
        found.canaries,
        found.steps,
        tuple(zip(_NAMES, claimed, fitted, found.p_values, strict=True)),
    )


def battery(passed: Mapping[str, Mapping[str, Any] | None]) -> str:
    """One sentence for the report on what those who add noise passed before round 1; "" where none was asked."""
    found = {name: one for name, one in passed.items() if one is not None}
    if not found:
        return ""
    checks = max(int(one["checks"]) - len(one["not_checkable"]) for one in found.values())
    whose = f"installation of {len(found)} of {len(passed)} sites"
    if set(found) == {COORDINATOR}:  # no site has that name
        whose = "coordinator's installation"
    return (
        f"Before its first round the {whose} passed the conformance "
        f"battery: {checks} exact tests of sensitivity, noise, sampling, ledger and upload, on generated data."
    )
