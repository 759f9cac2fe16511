"""The checks of one site's part: signature, claim, ε by two accountants, releases, ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedimg import canonical
from fedimg.errors import FedimgError
from fedimg.privacy import calibration, statement
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.statement import RunSpend
from fedimg.record.checks import Findings
from fedimg.record.parts import claim as claim_of
from fedimg.record.schema import PART_FORMAT

# Both are upper bounds of one number. The first accountant is deterministic; the room is for its versions.
EPSILON_TOLERANCE = 1e-3
# Opacus' PRV has an error bound of 0.01 of its own; the two agree within 0.02 where both are sound.
SECOND_TOLERANCE, SECOND_RELATIVE = 0.02, 0.005


def check_site(
    found: Findings,
    record: Mapping[str, Any],
    signed: Mapping[str, Any],
    plan: PrivacyPlan | None,
    extract: bytes | None,
) -> None:
    """All checks of one part. `extract`: of the site's ledger; b"" where it is missing, None where none is asked."""
    part = signed["part"]
    site = part["site"]
    _signature(found, signed)
    same = (part["run"], part["terms"]) == (record["run"], record["terms"])
    found.check(f"{site}: run", same, "this run, under the same terms", "another run or other terms")
    # other builds name other versions of the accountants; what is claimed must be the same
    claimed, again = (
        _without_versions(part["claim"]),
        _without_versions(claim_of(plan, insecure=record["insecure_test_mode"], unit=part["claim"]["unit"])),
    )
    found.check(f"{site}: claim", claimed == again, "follows from the plan", "does not follow from the plan")
    if plan is None:
        return
    _size(found, site, plan)
    if part["claim"]["private"]:
        _epsilon(found, site, plan)
    _releases(found, part, plan)
    if extract is not None:
        _ledger(found, signed, plan, record["run"], extract)


def _signature(found: Findings, signed: Mapping[str, Any]) -> None:
    part, key, signature = signed["part"], signed["key"], signed["signature"]
    site = part["site"]
    if key is None and signature is None and part["left_after_round"] is not None:
        found.remark(f"{site} left the run and did not sign: its part is in the coordinator's words")
        return
    good = (
        key is not None and signature is not None and canonical.signed_by(part, key, signature, PART_FORMAT)
    )
    found.check(f"{site}: signature", good, "signed as it stands", "not what the site signed")


def _size(found: Findings, site: str, plan: PrivacyPlan) -> None:
    largest = 1 / (10 * plan.declared_patients)
    found.check(
        f"{site}: delta",
        plan.delta <= largest * (1 + 1e-9),
        f"{plan.delta:g}, at most 1/(10 · {plan.declared_patients})",
        f"{plan.delta:g} is above 1/(10 · {plan.declared_patients})",
    )


def _epsilon(found: Findings, site: str, plan: PrivacyPlan) -> None:
    """ε from (q, σ, T, δ) of every release, retries included, by both accountants."""
    try:
        first, second = calibration.recomputed(plan)
    except (FedimgError, ArithmeticError, ValueError, MemoryError):
        found.check(f"{site}: epsilon", passed=False, failure="not to be recomputed from its plan")
        return
    close = math.isfinite(first) and abs(plan.epsilon - first) <= EPSILON_TOLERANCE
    found.check(
        f"{site}: epsilon",
        close,
        f"{plan.epsilon:.4f}, recomputed {first:.4f}",
        f"stated {plan.epsilon:.4f}, recomputed {first:.4f}",
    )
    room = max(SECOND_TOLERANCE, SECOND_RELATIVE * first)
    agrees = abs(plan.epsilon_second - second) <= SECOND_TOLERANCE and abs(first - second) <= room
    found.check(
        f"{site}: second accountant",
        agrees,
        f"{second:.4f}",
        f"stated {plan.epsilon_second:.4f}, recomputed {second:.4f} beside {first:.4f}",
    )


def _releases(found: Findings, part: Mapping[str, Any], plan: PrivacyPlan) -> None:
    site, charged = part["site"], part["charged"]
    if charged is None:
        found.remark(f"{site} could not be asked what it was charged: everything declared counts as spent")
        return
    most = {a.release: a.most for a in plan.allowances}
    within = all(count <= most.get(kind, -1) for kind, count in charged.items())
    told = ", ".join(f"{count} of {most.get(kind, 0)} {kind}" for kind, count in sorted(charged.items()))
    found.check(f"{site}: releases", within, told or "none", f"more than declared: {told}")


def _ledger(
    found: Findings, signed: Mapping[str, Any], plan: PrivacyPlan, run_id: str, extract: bytes
) -> None:
    part = signed["part"]
    name = f"{part['site']}: ledger"
    if signed["key"] is None:
        return
    if not extract:
        found.check(name, passed=False, failure="no extract in the run's folder")
        return
    try:
        shown = statement.verify(extract, bytes.fromhex(signed["key"]))
    except FedimgError as error:
        found.check(name, passed=False, failure=error.found)
        return
    reason = _disagreement(part, plan, shown, run_id)
    found.check(name, not reason, "signed by the site, closed, and in agreement", reason)


def _disagreement(part: Mapping[str, Any], plan: PrivacyPlan, shown: statement.Statement, run_id: str) -> str:
    """Why a ledger and a part contradict each other; "" where they agree."""
    run: RunSpend | None = shown.runs.get(run_id)
    terms, stated = shown.terms, part["ledger"]
    if run is None:
        return "this run is not in it"
    if run.plan != plan.digest:
        return "it reserved another plan"
    if dict(run.allowances) != {a.release: a for a in plan.allowances}:
        return "it reserved other releases"
    if not run.closed:
        return "the run is not closed in it"
    if dict(run.charged) != part["charged"]:
        return "it was charged for another number of releases"
    if stated is None or (terms.scratch, terms.epsilon_max, terms.delta, terms.order) != tuple(
        stated[name] for name in ("scratch", "epsilon_max", "delta", "order")
    ):
        return "it was opened with other terms"
    if list(shown.runs).index(run_id) != stated["earlier_runs"]:
        return "it holds another number of earlier runs"
    return ""


def _without_versions(claim: Mapping[str, Any]) -> dict[str, Any]:
    accountants = claim.get("accountants")
    if not isinstance(accountants, list):
        return dict(claim)
    kept = [
        {k: v for k, v in one.items() if k != "name"} if isinstance(one, dict) else one for one in accountants
    ]
    return {**claim, "accountants": kept}
