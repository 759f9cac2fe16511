"""Who has taken part in a run, kept beside it: a site that cannot come back stays in the record.

Between a stop and `resume` a site may lose its disk, its ledger or its permission. What it has released
until then is in the model, so what that cost its patients belongs to the model's record.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedimg.client_round import Site, Terms
from fedimg.coordination.folder import RunFolder
from fedimg.errors import DataError, FedimgError
from fedimg.home import SiteHome
from fedimg.privacy.calibration import EVALUATE, TRAIN
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.stated import statement_of

_FILE = "participants.json"


@dataclass(frozen=True)
class Departed:
    """A site that joined, and could not join again when the run was resumed.

    Attributes:
        plan: what its ledger set aside for the run, which bounds what it can have spent; None with
            `privacy=none`.
        after_round: the last round that was finished before it left.
        receipts: its commitment to its receipts, as it joined.
    """

    name: str
    plan: PrivacyPlan | None
    after_round: int
    receipts: str

    def spent(self, home: Path, run_id: str, *, insecure: bool) -> dict[str, Any]:
        """Its spending so far as JSON values: releases charged and their ε, null where its ledger cannot be read."""
        left: dict[str, Any] = {"after_round": self.after_round}
        if self.plan is None:
            return left
        charged = _charged(home, run_id)
        left |= {"charged": charged, "epsilon": None}
        if charged is not None and not insecure:
            left["epsilon"] = self.plan.epsilon_after(charged.get(TRAIN, 0), charged.get(EVALUATE, 0))
        return left


def departed(folder: RunFolder, terms: Terms, sites: Sequence[Site]) -> tuple[Departed, ...]:
    """Note who takes part from here on, before round 1 or on resuming, and return who is missing since then."""
    known = _read(folder)
    here = {site.name for site in sites}
    noted: dict[str, Any] = {
        site.name: {
            "plan": _without_request(site.plan),
            "left_after_round": None,
            "receipts": site.receipts,
        }
        for site in sites
    }
    for name in known.keys() - here:
        entry = dict(known[name])
        if entry["left_after_round"] is None:
            entry["left_after_round"] = folder.last_round()
        noted[name] = entry
    folder.write_json(_FILE, {name: noted[name] for name in sorted(noted)})
    return tuple(_departed(name, noted[name], terms) for name in sorted(known.keys() - here))


def left_in(summary: Mapping[str, Any]) -> Collection[str]:
    """Names of the sites that a summary says have left."""
    return [name for name, site in summary["sites"].items() if "left" in site]


def _without_request(plan: PrivacyPlan | None) -> dict[str, Any] | None:
    """The request stands in the run's configuration, to which a run is held."""
    if plan is None:
        return None
    return {name: value for name, value in asdict(plan).items() if name != "request"}


def _departed(name: str, entry: Mapping[str, Any], terms: Terms) -> Departed:
    plan = PrivacyPlan(request=terms.privacy, **entry["plan"]) if entry["plan"] is not None else None
    return Departed(name, plan, entry["left_after_round"], entry["receipts"])


def _read(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / _FILE
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text("utf-8"))
        return {
            str(name): {field: e[field] for field in ("plan", "left_after_round", "receipts")}
            for name, e in known.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(
            f"a readable {_FILE} in the run's folder", "another file", "restore it, or start a new run"
        ) from None


def _charged(root: Path, run_id: str) -> dict[str, int] | None:
    try:
        home = SiteHome.open(root)
        run = statement_of(home.ledger, home.signing_key).runs.get(run_id)
    except FedimgError:  # whatever kept it from joining may stand here too
        return None
    return dict(run.charged) if run is not None else None
