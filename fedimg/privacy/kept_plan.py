"""A run's plan on the site's disk: a resumed run goes on with the very plan that the ledger reserved.

Calibrating anew would give another σ, because the ledger meanwhile holds the run's own reservation.
The file needs no protection beyond the home's: the ledger refuses a plan of another digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from fedimg.durable import write_durably
from fedimg.errors import LedgerError, PolicyRefused
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.noise_shares import NoiseShares
from fedimg.privacy.plan import PrivacyPlan, make_plan
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.request import PrivacyRequest


def reserved(
    path: Path,
    run_id: str,
    request: PrivacyRequest,
    terms: str,
    policy: SitePolicy,
    ledger: Ledger,
    first: Callable[[], None] | None = None,
    shares: NoiseShares | None = None,
) -> PrivacyPlan:
    """The run's plan, made or taken up again, kept at `path` and reserved in the ledger: before round 1.

    `first` is called for a new plan, before anything is kept; what it raises refuses the run. `shares` as in
    `make_plan`.

    Raises:
        PolicyRefused, BudgetExhausted, LedgerError: nothing was reserved.
    """
    plan = kept(path, request, terms)
    if plan is None:
        if run_id in ledger.statement.runs:
            raise LedgerError(
                "a run that this site's ledger does not know yet",
                "one that was reserved without this home's plan, for another home of the site or before a loss",
                "a site takes part in a run with one home; start a new run",
            )
        plan = make_plan(request, policy, ledger, shares)
        if first is not None:
            first()
        keep(path, plan, terms)
    # The policy may have become stricter since the plan was made.
    policy.check_noise(plan.noise_multiplier)
    ledger.reserve(run_id, plan)
    return plan


def keep(path: Path, plan: PrivacyPlan, terms: str) -> None:
    """Write the plan with the digest of the terms it was made for; durable, in a folder of mode 0700.

    The terms fix who is held out of training: under others a patient could have both roles.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(path, json.dumps(asdict(plan) | {"terms": terms}))


def kept(path: Path, request: PrivacyRequest, terms: str) -> PrivacyPlan | None:
    """The plan that this run began with; None for a new run.

    Raises:
        PolicyRefused: the run now asks for something else, or under other terms. LedgerError: the file is not a plan.
    """
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        asked, agreed = values.pop("request"), values.pop("terms")
        plan = PrivacyPlan(request=request, **values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(
            "the plan that this run began with", "an unreadable file", "start a new run"
        ) from None
    if asked != asdict(request) or agreed != terms:
        raise PolicyRefused("the terms that this run began with", "others", "start a new run")
    return plan
