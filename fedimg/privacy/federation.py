"""What one patient can be exposed to who may be at several sites."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from fedimg.privacy import accounting
from fedimg.privacy.calibration import PrivacyPlan
from fedimg.privacy.events import Event, merged

# Ways in which a patient may be at several sites, before their costs are added up instead.
_MOST_EXPOSURES = 64


def federation_exposures(plans: Sequence[PrivacyPlan]) -> list[tuple[Event, ...]] | None:
    """Everything that one patient can be exposed to who is at m sites, m as declared: one tuple a possibility.

    A patient may be at any m sites and have any role at each. None where that is too many to go through.
    """
    m = max((plan.request.max_sites_per_patient for plan in plans), default=1)
    alike = Counter(plan.roles for plan in plans)
    found: set[tuple[Event, ...]] = set()
    for sites in itertools.combinations_with_replacement(sorted(alike, key=repr), min(m, len(plans))):
        if all(count <= alike[roles] for roles, count in Counter(sites).items()):
            found.update(merged([e for role in roles for e in role]) for roles in itertools.product(*sites))
        if m > 1 and len(found) > _MOST_EXPOSURES:
            return None
    return sorted(found, key=repr)


def federation_epsilon(plans: Sequence[PrivacyPlan]) -> float:
    """ε of one patient in the whole federation, at the largest δ: any m sites composed (never a sum, never a share).

    Where the sites' plans differ in too many ways to go through all m of them, the m largest ε at δ/m are
    added up (basic composition), which is never less.
    """
    if any(plan.mode == "none" for plan in plans):
        return math.inf
    delta = max((plan.delta for plan in plans), default=0.5)
    exposures = federation_exposures(plans)
    if exposures is not None:
        return max((accounting.epsilon(events, delta) for events in exposures), default=0.0)
    m = max(plan.request.max_sites_per_patient for plan in plans)
    return _largest(plans, delta / m)


def composed_epsilon(runs: Sequence[Sequence[PrivacyPlan]], delta: float) -> float:
    """ε of one patient who is in the data of every run, at `delta`; for runs that were all fixed beforehand.

    The points of a sweep are: their (q, σ, T) do not depend on what an earlier point released, so their privacy
    loss distributions compose. Where one's roles in all runs are too many to go through, the lower of two upper bounds.
    Runs chosen after seeing others do not; a ledger's filter covers those.
    """
    if not all(runs) or any(plan.mode == "none" for plans in runs for plan in plans):
        return math.inf
    together: set[tuple[Event, ...]] | None = {()}
    for plans in runs:
        exposures = federation_exposures(plans)
        if exposures is None or together is None or len(exposures) * len(together) > _MOST_EXPOSURES**2:
            together = None
            break
        together = {merged([*before, *now]) for before in together for now in exposures}
    if together is not None and len(together) <= _MOST_EXPOSURES:
        return max(accounting.epsilon(events, delta) for events in together)
    each = delta / len(runs) / max(plan.request.max_sites_per_patient for plans in runs for plan in plans)
    return min(math.fsum(_largest(plans, each) for plans in runs), _everything(runs, delta))


def _everything(runs: Sequence[Sequence[PrivacyPlan]], delta: float) -> float:
    """ε of somebody who has every role that there is in each run at once: nobody can be exposed to more."""
    exposures = [federation_exposures(plans) for plans in runs]
    if any(found is None for found in exposures):
        return math.inf
    return accounting.epsilon(
        merged([e for found in exposures for events in found or () for e in events]), delta
    )


def _largest(plans: Sequence[PrivacyPlan], delta: float) -> float:
    """The m largest ε at δ, added up."""
    m = max(plan.request.max_sites_per_patient for plan in plans)
    found = (max(accounting.epsilon(role, delta) for role in plan.roles) for plan in plans)
    return math.fsum(sorted(found, reverse=True)[:m])
