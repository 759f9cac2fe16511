"""A run's plan on the site's disk: a resumed run goes on with the very plan that the ledger reserved.

Calibrating anew would give another σ, because the ledger meanwhile holds the run's own reservation.
The file needs no protection beyond the home's: the ledger refuses a plan of another digest.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fedimg.errors import LedgerError, PolicyRefused
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.request import PrivacyRequest


def keep(path: Path, plan: PrivacyPlan) -> None:
    """Write the plan; the folder is made with mode 0700."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps(asdict(plan)))


def kept(path: Path, request: PrivacyRequest) -> PrivacyPlan | None:
    """The plan that this run began with; None for a new run.

    Raises:
        PolicyRefused: the run now asks for something else. LedgerError: the file is not a plan.
    """
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        asked = values.pop("request")
        plan = PrivacyPlan(request=request, **values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(
            "the plan that this run began with", "an unreadable file", "start a new run"
        ) from None
    if asked != asdict(request):
        raise PolicyRefused("the privacy request that this run began with", "another one", "start a new run")
    return plan
