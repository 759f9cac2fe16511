"""The coordinator's own home with `client_level`: its keys, its limits, and the ledger of what it released."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from fedimg.audit import conformance
from fedimg.client_round import Site, Terms
from fedimg.coordination.terms import COORDINATOR
from fedimg.errors import ConfigError
from fedimg.home import SiteHome
from fedimg.privacy import kept_plan
from fedimg.privacy.client_level import MODE, ClientReleases
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.policy import SitePolicy

NAME = COORDINATOR


def is_asked(terms: Terms) -> bool:
    """Whether the coordinator adds the noise, and so needs a ledger."""
    return terms.privacy.mode == MODE


def home_in(states: Path, terms: Terms, clients: Collection[str]) -> Path | None:
    """Where the coordinator's home lies among the sites'; None where it releases nothing itself.

    Raises ConfigError: a site has its name.
    """
    if not is_asked(terms):
        return None
    if NAME in clients:
        raise ConfigError(
            f"sites of other names than {NAME} with privacy={MODE}",
            "one",
            "change the manifest's site column",
        )
    return states / NAME


def releases(root: Path | None, terms: Terms) -> ClientReleases | None:
    """The coordinator's plan, reserved in its ledger before round 1, or taken up again.

    Raises:
        PolicyRefused, BudgetExhausted, LedgerError: nothing was reserved.
    """
    if root is None:
        return None
    home = SiteHome.open(root)
    ledger = Ledger.open(home.ledger, home.signing_key)
    file = root / "plans" / f"{terms.run_id}.json"
    policy = SitePolicy.load(home.policy)
    policy.check(terms.privacy, terms.model.name)
    battery = policy.require_battery and terms.insecure_seed is None
    first = partial(conformance.before_first_round, root, terms.run_id, terms.privacy) if battery else None
    plan = kept_plan.reserved(file, terms.run_id, terms.privacy, terms.digest, policy, ledger, first)
    return ClientReleases(plan, ledger, lambda number, task: terms.entropy(NAME, f"round-{number}", task))


def plans_of(own: ClientReleases | None, sites: Sequence[Site]) -> dict[str, PrivacyPlan]:
    """Who is charged in this run, with the plan that its ledger has reserved."""
    if own is not None:
        return {NAME: own.plan}
    return {site.name: site.plan for site in sites if site.plan is not None}
